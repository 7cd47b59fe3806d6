package model

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

// all kinds of tunnels.
var all = []string{VXLAN, Geneve, GRE, IPIP}

// The inner hosts have the addresses of the outer ones, and other ports.
var (
	inner4 = from(1)
	inner6 = between{src: v6.src, dst: v6.dst}
)

// toPort is b with another destination port.
func toPort(b between, port layers.UDPPort, payload ...[]byte) []byte {
	u := &layers.UDP{SrcPort: 9, DstPort: port}
	return b.frame(layers.IPProtocolUDP, u, gopacket.Payload(slices.Concat(payload...)))
}

func vxlan(b between, inner []byte) []byte {
	return toPort(b, portVXLAN, []byte{8, 0, 0, 0, 0, 0, 7, 0}, inner)
}

// geneve begins with the given byte; options are filled up with zeros as it says.
func geneve(b between, first byte, protocol uint16, inner []byte) []byte {
	header := binary.BigEndian.AppendUint16([]byte{first, 0}, protocol)
	header = append(header, make([]byte, 4+4*int(first&0x3f))...)
	return toPort(b, portGeneve, header, inner)
}

// gre begins with the given word, whose further fields are zeros of the given number.
func gre(b between, word, protocol uint16, fields int, inner []byte) []byte {
	header := binary.BigEndian.AppendUint16(nil, word)
	header = binary.BigEndian.AppendUint16(header, protocol)
	return b.frame(protoGRE, gopacket.Payload(slices.Concat(header, make([]byte, fields), inner)))
}

func ipip(b between, protocol layers.IPProtocol, inner []byte) []byte {
	return b.frame(protocol, gopacket.Payload(inner))
}

// tunnelTest is a frame with what is inside, or with an outer tuple alone.
type tunnelTest struct {
	name  string
	kind  string
	frame []byte
	open  bool
}

func udpTunnels() []tunnelTest {
	udp4, udp6 := inner4.udp(10), inner6.udp(10)
	short := toPort(v4, portVXLAN, make([]byte, 7))
	ip4, ip6, bridged := uint16(typeIPv4), uint16(typeIPv6), uint16(typeBridged)
	return []tunnelTest{
		{"vxlan", VXLAN, vxlan(v4, udp4), true},
		{"vxlan over IPv6", VXLAN, vxlan(v6, udp4), true},
		{"vxlan with tags inside and out", VXLAN, vxlan(tags(v4, 1, 2), tags(inner4, 3, 4).udp(10)),
			true},
		{"vxlan, three tags inside", VXLAN, vxlan(v4, tags(inner4, 3, 4, 5).udp(10)), false},
		{"vxlan without flags", VXLAN, toPort(v4, portVXLAN, make([]byte, 8), udp6), true},
		{"vxlan header cut off", VXLAN, short, false},
		{"vxlan with nothing inside", VXLAN, vxlan(v4, nil), false},
		{"vxlan to another port", VXLAN, toPort(v4, 4790, make([]byte, 8), udp4), false},
		{"vxlan from its port", VXLAN, v4.frame(17, &layers.UDP{SrcPort: 4789, DstPort: 9},
			gopacket.Payload(append(make([]byte, 8), udp4...))), false},
		{"vxlan beyond UDP's length", VXLAN, patch(vxlan(v4, udp4), 38, 0, 9), true},
		{"vxlan in the padding", VXLAN, patch(vxlan(v4, udp4), 16, 0, 36, 0, 0, 0, 0), false},
		{"geneve", Geneve, geneve(v4, 0, bridged, udp4), true},
		{"geneve with IPv4", Geneve, geneve(v4, 0, ip4, ip(udp4)), true},
		{"geneve with IPv6", Geneve, geneve(v6, 3, ip6, ip(udp6)), true},
		{"geneve with 63 options", Geneve, geneve(v4, 63, bridged, udp4), true},
		{"geneve of version 1", Geneve, geneve(v4, 0x40, ip4, ip(udp4)), false},
		{"geneve with ARP", Geneve, geneve(v4, 0, 0x0806, ip(udp4)), false},
		{"geneve with the wrong version", Geneve, geneve(v4, 0, ip6, ip(udp4)), false},
		{"geneve options cut off", Geneve, toPort(v4, portGeneve,
			[]byte{1, 0, 0x65, 0x58, 0, 0, 0, 0}), false},
		{"geneve header cut off", Geneve, toPort(v4, portGeneve, make([]byte, 7)), false},
	}
}

func greTunnels() []tunnelTest {
	udp4, udp6 := inner4.udp(10), inner6.udp(10)
	ip4, ip6 := uint16(typeIPv4), uint16(typeIPv6)
	tests := []tunnelTest{
		{"gre", GRE, gre(v4, 0, ip4, 0, ip(udp4)), true},
		{"gre with IPv6", GRE, gre(v4, 0, ip6, 0, ip(udp6)), true},
		{"gre with Ethernet", GRE, gre(v6, 0, typeBridged, 0, tags(inner4, 3).udp(10)), true},
		{"gre with a checksum", GRE, gre(v4, 0x8000, ip4, 4, ip(udp4)), true},
		{"gre with a key", GRE, gre(v4, 0x2000, ip4, 4, ip(udp4)), true},
		{"gre with a sequence number", GRE, gre(v4, 0x1000, ip4, 4, ip(udp4)), true},
		{"gre with all", GRE, gre(v4, 0xb000, ip4, 12, ip(udp4)), true},
		{"gre fields cut off", GRE, gre(v4, 0xb000, ip4, 11, nil), false},
		{"gre of 3 bytes", GRE, v4.frame(protoGRE, gopacket.Payload{0, 0, 8}), false},
		{"gre with ARP", GRE, gre(v4, 0, 0x0806, 0, ip(udp4)), false},
		{"gre with nothing inside", GRE, gre(v4, 0, ip4, 0, nil), false},
	}
	for bit := range 12 {
		word := uint16(1) << bit
		tests = append(tests, tunnelTest{"gre with a forbidden bit", GRE,
			gre(v4, word, ip4, 0, ip(udp4)), false})
	}
	return append(tests, tunnelTest{"gre with routing", GRE, gre(v4, 0x4000, ip4, 0, ip(udp4)),
		false})
}

func ipipTunnels() []tunnelTest {
	udp4, udp6 := ip(inner4.udp(10)), ip(inner6.udp(10))
	later := fragmented(inner4.udp(10), 7, 1)
	hidden := patch(ip(inner4.udp(10)), 2, 0, 0)
	return []tunnelTest{
		{"IPv4 in IPv4", IPIP, ipip(v4, 4, udp4), true},
		{"IPv6 in IPv4", IPIP, ipip(v4, 41, udp6), true},
		{"IPv4 in IPv6", IPIP, ipip(v6, 4, udp4), true},
		{"IPv6 in IPv6", IPIP, ext(v6, 41, udp6, options), true},
		{"padded", IPIP, ipip(v4, 4, append(slices.Clone(udp4), 0)), true},
		{"IPv6 announced as IPv4", IPIP, ipip(v4, 4, udp6), false},
		{"nothing inside", IPIP, ipip(v4, 4, nil), false},
		{"cut off", IPIP, ipip(v4, 4, udp4[:len(udp4)-1]), false},
		{"no length", IPIP, ipip(v4, 4, hidden), false},
		{"no ports", IPIP, ipip(v4, 4, ip(cut(inner4.udp(10), 41))), false},
		{"a first fragment inside", IPIP, ipip(v4, 4, ip(fragmented(inner4.udp(10), 7, more4))),
			true},
		{"a later fragment inside", IPIP, ipip(v4, 4, ip(later)), false},
		{"a later IPv6 fragment inside", IPIP, ipip(v4, 41,
			ip(ext(inner6, 17, udp6[40:], header6(7, 8)))), false},
		{"a first fragment", IPIP, fragmented(ipip(v4, 4, udp4), 7, more4), false},
		{"an IPv6 first fragment", IPIP, ext(v6, 4, udp4, header6(7, 1)), false},
		{"an IPv6 fragment that is the whole", IPIP, ext(v6, 4, udp4, header6(7, 0)), true},
	}
}

// A tunnel that is opened is counted in the tuple of what is inside, with all bytes of its frame.
func TestTunnels(t *testing.T) {
	for _, tt := range slices.Concat(udpTunnels(), greTunnels(), ipipTunnels()) {
		t.Run(tt.name, func(t *testing.T) {
			others := slices.DeleteFunc(slices.Clone(all), func(k string) bool { return k == tt.kind })
			for _, kinds := range [][]string{nil, all, {tt.kind}, others} {
				m := fresh(Config{Tunnels: kinds})
				require.Equal(t, Accounted, m.Packet(in, 0, tt.frame).Fate)
				f := m.Flows()[0]
				inside := f.Protocol == 17 && f.DstPort == 80
				require.Equal(t, tt.open && slices.Contains(kinds, tt.kind), inside, "%+v", f)
				require.Equal(t, uint64(len(tt.frame)), f.Bytes)
				books(t, m)
			}
		})
	}
}

// What is inside is a packet like any other, but only one tunnel is opened.
func TestInside(t *testing.T) {
	m := fresh(Config{Tunnels: all})
	m.Packet(in, 0, ipip(v4, 4, ip(from(1).tcp(syn, 100, 0, 0))))
	m.Packet(out, 0, vxlan(v4.back(), from(1).back().tcp(syn|ack, 500, 101, 0)))
	m.Packet(in, 0, from(1).tcp(ack, 101, 501, 0))
	e := m.Connections(0)
	require.Len(t, e, 1)
	require.Equal(t, established, e[0].State)

	m.Packet(out, 0, vxlan(v4, cited(v4, ip(from(1).tcp(ack, 101, 501, 0)), 40)))
	require.Equal(t, "3/3", m.Connections(0)[0].ICMPError)
	m.Packet(in, 0, ipip(v4, 4, ip(vxlan(from(2), inner4.udp(1)))))
	require.Equal(t, uint16(portVXLAN), m.Connections(0)[2].DstPort)
	books(t, m)
}

// What an ICMP error cites is not opened.
func TestCitedTunnel(t *testing.T) {
	m := fresh(Config{Tunnels: all})
	m.Packet(in, 0, cited(v4, ip(ipip(v4, 4, ip(inner4.udp(1)))), 48))
	require.Equal(t, uint8(4), m.Flows()[0].Cites)
}

// Fragments of a tunnel's own packets are those of its tuple; those inside are not remembered.
func TestTunnelFragments(t *testing.T) {
	m := fresh(Config{Tunnels: all})
	m.Packet(in, 0, fragmented(vxlan(v4, inner4.udp(100)), 7, more4))
	m.Packet(in, 0, rest(v4, 17, 7))
	require.Len(t, m.Flows(), 1)
	require.Equal(t, uint16(portVXLAN), m.Flows()[0].DstPort)

	m.Packet(in, 0, ipip(v4, 4, ip(fragmented(inner4.udp(10), 9, more4))))
	require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 0, rest(inner4, 17, 9)))
	m.Packet(in, 0, ipip(v4, 4, ip(rest(inner4, 17, 9))))
	require.Equal(t, uint8(4), m.Flows()[2].Protocol)
	books(t, m)
}

// Each segment of a GSO packet has a copy of all headers, also of those inside.
func TestTunnelGSO(t *testing.T) {
	frame := vxlan(v4, inner4.tcp(ack, 1, 1, 3000))
	frame = patch(frame, 16, 0, 0)    // the outer length is not judged,
	frame = patch(frame, 50+16, 0, 0) // nor is the inner one
	m := fresh(Config{Tunnels: all})
	m.Receive(Arrival{Hook: in, Frame: frame, Segments: 3})
	require.Equal(t, uint16(1), m.Flows()[0].SrcPort)
	require.Equal(t, Count{3, 50 + 54 + 3000 + 2*(50+54)}, m.Counters()[in].Accounted)

	m = fresh(Config{})
	m.Receive(Arrival{Hook: in, Frame: frame, Segments: 3, Tag: true})
	require.Equal(t, Count{3, 50 + 54 + 3000 + 4 + 2*(42+4)}, m.Counters()[in].Accounted)
}

// What is inside may find no room, or no beginning: that is the outcome.
func TestInsideIsLost(t *testing.T) {
	m := New(Config{Tunnels: all, Table: 1})
	require.Equal(t, Outcome{Lost, ReasonMidStream},
		m.Packet(in, 0, ipip(v6, 4, ip(inner4.tcp(ack, 1, 1, 0)))))
	m.Packet(in, 0, v4.udp(1))
	require.Equal(t, Outcome{Lost, ReasonTableFull},
		m.Packet(in, 0, ipip(v6, 4, ip(inner4.udp(1)))))
	require.Equal(t, Accounted, m.Packet(in, 0, ipip(v4, 41, ip(inner6.udp(1)))).Fate)
	require.Equal(t, [2]int{1, 1}, m.used)
	require.Equal(t, flow.RoleInitiator, m.Flows()[1].Role)
	books(t, m)
}
