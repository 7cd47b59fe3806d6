package traffic

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// TestTunnelsDecode has gopacket read what is in a tunnel: an implementation that is not ours.
func TestTunnelsDecode(t *testing.T) {
	inner6 := layer("ipv6", "src", "fd00::7", "dst", "fd00::8")
	const eth, ip, ip6, udp = "Ethernet", "IPv4", "IPv6", "UDP"
	cases := map[string]struct {
		over   [2]string
		layers []spec.Layer
		want   []string
	}{
		"vxlan": {over4, []spec.Layer{layer("udp"), layer("vxlan"), layer("ethernet"), layer("ipv4"),
			layer("udp"), bytesOf(9)}, []string{eth, ip, udp, "VXLAN", eth, ip, udp}},
		"geneve": {over6, []spec.Layer{layer("udp"), layer("geneve", "options", "0102 0301 00000000"),
			layer("ethernet"), layer("vlan", "id", uint64(3)), inner6, layer("udp")},
			[]string{eth, ip6, udp, "Geneve", eth, "Dot1Q", ip6, udp}},
		"geneve without Ethernet": {over4, []spec.Layer{layer("udp"), layer("geneve"),
			layer("ipv4"), layer("udp")}, []string{eth, ip, udp, "Geneve", ip, udp}},
		"gre": {over4, []spec.Layer{layer("gre", "key", uint64(1), "checksum", true), layer("ipv4"),
			layer("udp")}, []string{eth, ip, "GRE", ip, udp}},
		"gre with Ethernet": {over6, []spec.Layer{layer("gre", "seq", uint64(1)), layer("ethernet"),
			layer("ipv6"), layer("udp")}, []string{eth, ip6, "GRE", eth, ip6, udp}},
		"IPv4 in IPv4": {over4, []spec.Layer{layer("ipv4"), layer("ipv4"), layer("udp")},
			[]string{eth, ip, ip, udp}},
		"IPv6 in IPv4": {over4, []spec.Layer{layer("ipv4"), inner6, layer("udp")},
			[]string{eth, ip, ip6, udp}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			frames := framesOf(t, testnet.Direct(), packetStep(c.over, c.layers...))
			p := gopacket.NewPacket(frames[0].Data, layers.LayerTypeEthernet, gopacket.Default)
			var got []string
			for _, l := range p.Layers() {
				got = append(got, l.LayerType().String())
			}
			require.Equal(t, c.want, got[:len(c.want)])
		})
	}
}

// TestTunnelPorts: the UDP header of a tunnel goes to the tunnel's port, the one inside to the
// receiver's.
func TestTunnelPorts(t *testing.T) {
	for kind, port := range map[string]layers.UDPPort{"vxlan": 4789, "geneve": 6081} {
		f := framesOf(t, testnet.Direct(), packetStep(over4, layer("udp"), layer(kind),
			layer("ethernet"), layer("ipv4"), layer("udp")))
		var ports []layers.UDPPort
		for _, l := range decode(t, f[0].Data).Layers() {
			if u, ok := l.(*layers.UDP); ok {
				ports = append(ports, u.SrcPort, u.DstPort)
			}
		}
		require.Equal(t, []layers.UDPPort{1111, port, 1111, 2222}, ports)
		f = framesOf(t, testnet.Direct(), packetStep(over4, layer("udp", "dst", uint64(9)),
			layer(kind)))
		require.EqualValues(t, 9, f[0].Data[37])
	}
}

// TestSCTPIsSound has gopacket make the same packet.
func TestSCTPIsSound(t *testing.T) {
	f := framesOf(t, testnet.Direct(), packetStep(over4, layer("sctp", "tag", uint64(5)),
		layer("chunk", "type", "init", "tag", uint64(0xfedcba98))))
	sctp := decode(t, f[0].Data).Layer(layers.LayerTypeSCTP).(*layers.SCTP)
	init := decode(t, f[0].Data).Layer(layers.LayerTypeSCTPInit).(*layers.SCTPInit)
	require.EqualValues(t, 0xfedcba98, init.InitiateTag)
	require.EqualValues(t, 20, init.Length)
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(b, options, sctp, init))
	require.Equal(t, b.Bytes(), f[0].Data[34:])
}
