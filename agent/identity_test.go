package agent

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// TestIdentity finds addresses in a namespace with one interface that has both families and one that has IPv6
// alone.
func TestIdentity(t *testing.T) {
	kerneltest.NeedRoot(t)
	ns := nstest.New(t)
	addresses := map[string][]string{"lo": nil, "both0": {"10.0.7.1/24", "2001:db8:7::1/64"}, "six0": {"2001:db8:8::1/64"}}
	inside(t, ns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "both0"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "six0"}); err != nil {
			return err
		}
		for name, all := range addresses {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			for _, a := range all {
				ip, network, err := net.ParseCIDR(a)
				if err != nil {
					return err
				}
				network.IP = ip
				if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: network, Flags: 0x02 /* IFA_F_NODAD */}); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		both, err := netlink.LinkByName("both0")
		if err != nil {
			return err
		}
		for _, gateway := range []string{"10.0.7.2", "2001:db8:7::2"} {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: both.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, test := range []struct{ address, family, want string }{
		{"10.1.2.3", "", "10.1.2.3"},
		{"2001:db8::9", "ipv6", "2001:db8::9"},
		{"external", "", "10.0.7.1"},
		{"external", "any", "10.0.7.1"},
		{"external", "ipv4", "10.0.7.1"},
		{"external", "ipv6", "2001:db8:7::1"},
		{"local", "any", "10.0.7.1"},
		{"local", "ipv4", "10.0.7.1"},
		{"name:both0", "any", "10.0.7.1"},
		{"name:both0", "ipv6", "2001:db8:7::1"},
		{"name:six0", "any", "2001:db8:8::1"},
		{"name:six0", "ipv6", "2001:db8:8::1"},
		{"name:six0", "ipv4", "no address of the family is there, among [2001:db8:8::1]"},
		{"name:lo", "any", "no address of the family"},
		{"name:eth7", "any", "identity.address: name:eth7: "},
		{"", "", "invalid IP"},
	} {
		t.Run(test.address+" "+test.family, func(t *testing.T) {
			i := Identity{Address: test.address, Family: test.family}
			require.NoError(t, i.check())
			var got netip.Addr
			var err error
			inside(t, ns, func() error { got, err = i.find(); return nil })
			if err != nil {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.Equal(t, test.want, got.String())
		})
	}
}

// TestIdentityOfRecords has the agent's address in every record.
func TestIdentityOfRecords(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Identity.Address = "192.0.2.7"
	l := newLedger()
	a, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	p.send(t, p.udp(t, 1, 2, 0), p.udp(t, 3, 4, 0))
	require.NoError(t, a.stop())
	require.Len(t, l.records, 2)
	for _, r := range l.records {
		require.Equal(t, "192.0.2.7", r.AgentIP.String())
		require.Equal(t, farName, r.Seen[0].Interface)
	}
}

func TestIdentityRefused(t *testing.T) {
	for text, want := range map[string]string{
		"identity: {address: here}":                    `weir.yaml:2:21: identity.address: "here"; want an address, external, local`,
		"identity: {address: 'name:'}":                 "identity.address: ",
		"identity: {address: 10.0.0.1, family: ipv6}":  "identity.address: 10.0.0.1 is not of the family ipv6",
		"identity: {address: external, family: ipv10}": `identity.family: "ipv10"; want any, ipv4 or ipv6`,
	} {
		_, err := parseConfig("weir.yaml", []byte(smallest+text), nil, nil)
		require.ErrorContains(t, err, want, text)
	}
}
