package traffic

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// tagged is a topology with VLAN interfaces on both ends of a link, and a bridge with an address.
func tagged() *spec.Topology {
	t := testnet.Bridged()
	prefix := netip.MustParsePrefix
	for i := range 2 {
		h := &t.Hosts[i]
		eth0 := h.Interfaces[0]
		h.Interfaces = append(h.Interfaces, spec.Interface{Name: "eth0.7", Parent: "eth0", VLAN: 7,
			MAC: eth0.MAC, MTU: 1500, Addresses: []netip.Prefix{
				netip.PrefixFrom(prefix("10.7.0.1/24").Addr(), 24)}})
		if i == 1 {
			h.Interfaces[1].Addresses[0] = prefix("10.7.0.2/24")
		}
	}
	t.Hosts[3].Interfaces = append(t.Hosts[3].Interfaces, spec.Interface{Name: "br0",
		MAC: [6]byte{2, 0, 0, 0, 0, 7}, Addresses: []netip.Prefix{prefix("10.0.0.254/24")}})
	return t
}

func TestWays(t *testing.T) {
	cases := map[string]struct {
		topology       *spec.Topology
		from, to, addr string
		port           string
		mac            byte
	}{
		"same link":            {testnet.Direct(), "client", "server", "10.0.0.2", "client/eth0", 2},
		"same link, IPv6":      {testnet.Direct(), "server", "client", "fd00::1", "server/eth0", 1},
		"first router":         {testnet.Routed(), "client", "server", "10.0.2.2", "client/eth0", 2},
		"first router, IPv6":   {testnet.Routed(), "server", "client", "fd00:1::2", "server/eth0", 5},
		"from a router":        {testnet.Routed(), "r1", "server", "10.0.2.2", "r1/b", 4},
		"to a router":          {testnet.Routed(), "client", "r2", "10.0.9.2", "client/eth0", 2},
		"over a bridge":        {testnet.Bridged(), "a", "c", "10.0.0.3", "a/eth0", 3},
		"to the bridge itself": {tagged(), "a", "sw", "10.0.0.254", "a/eth0", 7},
		"from the bridge":      {tagged(), "sw", "b", "10.0.0.2", "sw/br0", 2},
		"on a VLAN interface":  {tagged(), "a", "b", "10.7.0.2", "a/eth0.7", 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w, err := newNetwork(c.topology).way(spec.Endpoint{Host: c.from},
				testnet.Endpoint(c.to, c.addr, 0))
			require.NoError(t, err)
			require.Equal(t, c.port, w.port.String())
			require.Equal(t, [6]byte{2, 0, 0, 0, 0, c.mac}, w.dst)
			require.Equal(t, c.addr, w.to.String())
			require.Equal(t, is6(w.to), is6(w.from))
		})
	}
}

func TestGroupAddresses(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.0.3.1/22")}
	for address, want := range map[string][6]byte{
		"224.129.2.3":     {1, 0, 0x5e, 1, 2, 3},
		"ff02::1:ff00:16": {0x33, 0x33, 0xff, 0, 0, 0x16},
		"255.255.255.255": broadcast,
		"10.0.3.255":      broadcast,
	} {
		got, ok := groupAddress(netip.MustParseAddr(address), own)
		require.True(t, ok, address)
		require.Equal(t, want, got, address)
	}
	_, ok := groupAddress(netip.MustParseAddr("10.0.2.255"), own)
	require.False(t, ok)
}
