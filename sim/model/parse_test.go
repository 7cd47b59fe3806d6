package model

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

// Extension headers of 8 bytes, and one of 12.
var (
	hopByHop = []byte{0, 0, 0, 0, 0, 0, 0, 0}
	routing  = []byte{43, 0, 0, 0, 0, 0, 0, 0}
	first    = []byte{44, 0, 0, 1, 0, 0, 0, 9} // more fragments, offset 0
	later    = []byte{44, 0, 0, 8, 0, 0, 0, 9}
	auth     = []byte{51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	options  = []byte{60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // 16 bytes
	mobility = []byte{135, 0, 0, 0, 0, 0, 0, 0}
	hip      = []byte{139, 0, 0, 0, 0, 0, 0, 0}
	shim6    = []byte{140, 0, 0, 0, 0, 0, 0, 0}
)

// cited is an ICMP error, port unreachable, about an IP packet cut off after n bytes.
func cited(b between, inner []byte, n int) []byte {
	typ, code := uint8(3), uint8(3)
	if b.src.Addr().Is6() {
		typ, code = 1, 4
	}
	return b.icmp(typ, code, [4]byte{}, inner[:n])
}

// withOptions puts four bytes of options (NOP) into an IPv4 frame.
func withOptions(frame []byte) []byte {
	frame = slices.Insert(bytes.Clone(frame), 34, 1, 1, 1, 1)
	return patch(patch(frame, 14, 0x46), 17, frame[17]+4)
}

func tags(b between, ids ...uint16) between {
	b.tags = ids
	return b
}

func many(n int) [][]byte { return slices.Repeat([][]byte{options}, n) }

// reasonTest is a frame and the reason for which it is lost, "" if it is not.
type reasonTest struct {
	name  string
	frame []byte
	want  Reason
}

// linkFrames are frames that end at the link layer or at its tags.
func linkFrames() []reasonTest {
	tcp4, qinq := v4.tcp(flow.ACK, 1, 1, 10), tags(v4, 1, 2).udp(0)
	arp := patch(tcp4, 12, 0x08, 0x06)
	return []reasonTest{
		{"nothing", nil, ReasonEthernet},
		{"13 bytes", tcp4[:13], ReasonEthernet},
		{"tag cut off", qinq[:17], ReasonEthernet},
		{"second tag cut off", qinq[:21], ReasonEthernet},
		{"two tags", qinq, ""},
		{"802.1ad tag", patch(qinq, 12, 0x88, 0xa8), ""},
		{"three tags", tags(v4, 1, 2, 3).udp(0), ReasonVLANDepth},
		{"third tag cut off", tags(v4, 1, 2, 3).udp(0)[:23], ReasonVLANDepth},
		{"arp", arp, ReasonNotIP},
		{"length instead of type", patch(tcp4, 12, 0, 46), ReasonNotIP},
		{"arp behind a tag", patch(tags(v4, 1).udp(0), 16, 8, 6), ReasonNotIP},
	}
}

// ipv4Frames are IPv4 packets.
func ipv4Frames() []reasonTest {
	tcp4, udp4 := v4.tcp(flow.ACK, 1, 1, 10), v4.udp(10)
	return []reasonTest{
		{"no IPv4 header", tcp4[:14], ReasonIPv4Header},
		{"IPv4 with 19 bytes", tcp4[:33], ReasonIPv4Header},
		{"IPv4 of version 6", patch(tcp4, 14, 0x65), ReasonIPv4Header},
		{"IPv4 header of 16 bytes", patch(tcp4, 14, 0x44), ReasonIPv4Header},
		{"IPv4 header beyond the packet", patch(udp4, 14, 0x4f), ReasonIPv4Header},
		{"IPv4 total beyond the packet", tcp4[:len(tcp4)-1], ReasonIPv4Length},
		{"IPv4 total under the header", patch(tcp4, 16, 0, 19), ReasonIPv4Length},
		{"IPv4 total of the header", patch(udp4, 16, 0, 20), ReasonUDPHeader},
		{"IPv4 padded", append(bytes.Clone(tcp4), 1, 2, 3), ""},
		{"IPv4 options", withOptions(tcp4), ""},
		{"first fragment", patch(tcp4, 20, 0x20, 0), ""},
		{"later fragment", patch(tcp4, 20, 0, 1), ReasonFragment},
		{"last bit of the offset", patch(tcp4, 20, 0x10, 0), ReasonFragment},
	}
}

// ipv6Frames are IPv6 packets with and without extension headers.
func ipv6Frames() []reasonTest {
	tcp6, body := v6.tcp(flow.ACK, 1, 1, 10), v6.tcp(flow.ACK, 1, 1, 0)[54:]
	return []reasonTest{
		{"IPv6 with 39 bytes", tcp6[:53], ReasonIPv6Header},
		{"IPv6 of version 4", patch(tcp6, 14, 0x40), ReasonIPv6Header},
		{"IPv6 payload beyond the packet", tcp6[:len(tcp6)-1], ReasonIPv6Length},
		{"jumbogram", patch(tcp6, 18, 0, 0), ReasonIPv6Length},
		{"IPv6 padded", append(bytes.Clone(tcp6), 0), ""},
		{"all extensions", ext(v6, 6, body, hopByHop, routing, first, auth, options, mobility,
			hip, shim6), ""},
		{"eight extensions", ext(v6, 6, body, many(8)...), ""},
		{"nine extensions", ext(v6, 6, body, many(9)...), ReasonIPv6Extension},
		{"extension cut off", ext(v6, 6, nil, options[:15]), ReasonIPv6Extension},
		{"extension of one byte", ext(v6, 6, nil, options[:1]), ReasonIPv6Extension},
		{"announced extension", ext(v6, 60, nil, options), ReasonIPv6Extension},
		{"fragment header cut off", ext(v6, 6, nil, later[:7]), ReasonIPv6Extension},
		{"authentication cut off", ext(v6, 6, nil, auth[:11]), ReasonIPv6Extension},
		{"extension in the padding", patch(ext(v6, 6, body, options), 18, 0, 15),
			ReasonIPv6Extension},
		{"later IPv6 fragment", ext(v6, 6, nil, later), ReasonFragment},
		{"ninth is a later fragment", ext(v6, 6, nil, append(many(8), later)...),
			ReasonIPv6Extension},
		{"no next header", ext(v6, 59, body, options), ""},
		{"no next header and no payload", v6.frame(59), ""},
		{"no payload, but a header", v6.frame(47), ReasonIPv6Length},
	}
}

// transportFrames are transport headers.
func transportFrames() []reasonTest {
	tcp4, udp4 := v4.tcp(flow.ACK, 1, 1, 10), v4.udp(10)
	return []reasonTest{
		{"TCP with 19 bytes", patch(tcp4, 16, 0, 39), ReasonTCPHeader},
		{"TCP offset under 20", patch(tcp4, 46, 0x40), ReasonTCPHeader},
		{"TCP offset beyond", patch(tcp4, 46, 0xf0), ReasonTCPHeader},
		{"TCP offset in the padding", append(patch(v4.tcp(0, 1, 1, 0), 46, 0x60), 0, 0, 0, 0),
			ReasonTCPHeader},
		{"extensions, then no TCP", ext(v6, 6, nil, options), ReasonTCPHeader},
		{"UDP with 7 bytes", patch(udp4, 16, 0, 27), ReasonUDPHeader},
		{"UDP length 7", patch(udp4, 38, 0, 7), ReasonUDPHeader},
		{"UDP length beyond the packet", patch(udp4, 38, 0xff, 0xff), ""},
		{"UDP of zero length", v4.udp(0), ""},
		{"SCTP with 15 bytes", cut(v4.sctp(0, 1, 16), 34+15), ReasonSCTPHeader},
		{"SCTP with 16 bytes", v4.sctp(0, 1, 4), ""},
		{"SCTP in IPv6 with 15 bytes", cut(v6.sctp(0, 1, 16), 54+15), ReasonSCTPHeader},
		{"INIT of 19 bytes", v4.sctp(1, 1, 19), ReasonSCTPHeader},
		{"INIT of 20 bytes", v4.sctp(1, 1, 20), ""},
		{"INIT ACK of 19 bytes", v6.sctp(2, 1, 19), ReasonSCTPHeader},
		{"INIT ACK of 20 bytes", v6.sctp(2, 1, 20), ""},
		{"INIT in the padding", append(v4.sctp(1, 1, 19), 0), ReasonSCTPHeader},
		{"ICMP with 7 bytes", patch(v4.echo(1, false), 16, 0, 27), ReasonICMPHeader},
		{"ICMPv6 with 7 bytes", patch(v6.echo(1, false), 18, 0, 7), ReasonICMPHeader},
		{"GRE", v4.frame(layers.IPProtocolGRE), ""},
		{"ESP with a byte", v6.frame(layers.IPProtocolESP, gopacket.Payload{1}), ""},
	}
}

// citedFrames are the cases of what ICMP errors cite.
func citedFrames() []reasonTest {
	tcp4, tcp6 := v4.tcp(flow.ACK, 1, 1, 10), v6.tcp(flow.ACK, 1, 1, 10)
	body := tcp6[54:74]
	return []reasonTest{
		{"cites nothing", cited(v4, nil, 0), ReasonICMPCited},
		{"cites 19 bytes", cited(v4, ip(tcp4), 19), ReasonICMPCited},
		{"cites half the ports", cited(v4, ip(tcp4), 23), ReasonICMPCited},
		{"cites the ports", cited(v4, ip(tcp4), 24), ""},
		{"cites half the ports of SCTP", cited(v4, ip(v4.sctp(0, 1, 4)), 23), ReasonICMPCited},
		{"cites the ports of SCTP", cited(v4, ip(v4.sctp(0, 1, 4)), 24), ""},
		{"cites version 6", cited(v4, ip(tcp6), 60), ReasonICMPCited},
		{"cites options cut off", cited(v4, ip(patch(tcp4, 14, 0x48)), 31), ReasonICMPCited},
		{"cites options", cited(v4, ip(patch(tcp4, 14, 0x46)), 28), ""},
		{"cites a later fragment", cited(v4, ip(patch(tcp4, 20, 0, 1)), 28), ReasonICMPCited},
		{"cites a first fragment", cited(v4, ip(patch(tcp4, 20, 0x20, 0)), 28), ""},
		{"cites 7 bytes of echo", cited(v4, ip(v4.echo(1, false)), 27), ReasonICMPCited},
		{"cites 8 bytes of echo", cited(v4, ip(v4.echo(1, false)), 28), ""},
		{"cites one byte of an error", cited(v4, ip(cited(v4, ip(tcp4), 24)), 21),
			ReasonICMPCited},
		{"cites seven bytes of ICMP", cited(v4, ip(cited(v4, ip(tcp4), 24)), 27), ReasonICMPCited},
		{"cites GRE", cited(v4, ip(v4.frame(layers.IPProtocolGRE)), 20), ""},
		{"cites 39 bytes of IPv6", cited(v6, ip(tcp6), 39), ReasonICMPCited},
		{"cites IPv6 ports", cited(v6, ip(tcp6), 44), ""},
		{"cites IPv6 extensions", cited(v6, ip(ext(v6, 6, body, hopByHop, first)), 60), ""},
		{"cites cut extensions", cited(v6, ip(ext(v6, 6, body, options)), 55), ReasonICMPCited},
		{"cites nine extensions", cited(v6, ip(ext(v6, 6, body, many(9)...)), 40+9*16+20),
			ReasonICMPCited},
		{"cites a later IPv6 fragment", cited(v6, ip(ext(v6, 6, body, later)), 60),
			ReasonICMPCited},
		{"cites no next header", cited(v6, ip(ext(v6, 59, nil, options)), 56), ""},
	}
}

func TestReasons(t *testing.T) {
	tests := slices.Concat(linkFrames(), ipv4Frames(), ipv6Frames(), transportFrames(),
		citedFrames())
	reached := map[Reason]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := fresh(Config{})
			want := Outcome{Lost, tt.want}
			if tt.want == "" {
				want = Outcome{Fate: Accounted}
			}
			require.Equal(t, want, m.Packet(in, 0, tt.frame))
			books(t, m)
			size := Count{1, uint64(len(tt.frame))}
			c := m.Counters()[in]
			require.Equal(t, size, c.Seen)
			if tt.want != "" {
				require.Equal(t, map[Reason]Count{tt.want: size}, c.Lost)
			}
		})
		reached[tt.want] = true
	}
	table := []Reason{ReasonMidStream, ReasonTableFull, ReasonRingFull, ReasonNoHook}
	for _, r := range Reasons() { // those of the table are in table_test.go
		if !slices.Contains(table, r) {
			require.True(t, reached[r], "no test reaches %s", r)
		}
	}
}

func TestTuples(t *testing.T) {
	tcp6 := v6.tcp(flow.SYN|flow.CWR|flow.ECE, 1, 0, 0)
	tests := []struct {
		name  string
		frame []byte
		want  Flow
	}{
		{"tcp", v4.tcp(flow.SYN|flow.URG, 1, 0, 5), Flow{SrcPort: 40000, DstPort: 80, Protocol: 6,
			Bytes: 59, Flags: flow.SYN | flow.URG}},
		{"behind options", withOptions(v4.udp(5)), Flow{SrcPort: 40000, DstPort: 80, Protocol: 17,
			Bytes: 51}},
		{"tagged", tags(v4, 1, 2).udp(5), Flow{SrcPort: 40000, DstPort: 80, Protocol: 17,
			Bytes: 55}},
		{"padded", append(v4.udp(1), make([]byte, 17)...), Flow{SrcPort: 40000, DstPort: 80,
			Protocol: 17, Bytes: 60}},
		{"all eight flags", v4.tcp(0xff, 1, 1, 0), Flow{SrcPort: 40000, DstPort: 80, Protocol: 6,
			Bytes: 54, Flags: 0xff}},
		{"tcp6", tcp6, Flow{SrcPort: 40000, DstPort: 80, Protocol: 6, Bytes: 74,
			Flags: flow.SYN | flow.CWR | flow.ECE}},
		{"behind extensions", ext(v6, 6, ip(tcp6)[40:], hopByHop, auth, first), Flow{
			SrcPort: 40000, DstPort: 80, Protocol: 6, Bytes: 74 + 8 + 12 + 8,
			Flags: flow.SYN | flow.CWR | flow.ECE}},
		{"no next header", ext(v6, 59, []byte{1, 2, 3, 4}, options), Flow{Protocol: 59,
			Bytes: 54 + 16 + 4}},
		{"gre", v4.frame(47), Flow{Protocol: 47, Bytes: 34}},
		{"sctp", v4.sctp(8, 0, 4), Flow{SrcPort: 40000, DstPort: 80, Protocol: 132, Bytes: 50,
			Flags: flow.FIN | flow.ACK}},
		{"sctp6", v6.sctp(1, 9, 20), Flow{SrcPort: 40000, DstPort: 80, Protocol: 132, Bytes: 86,
			Flags: flow.SYN}},
		{"first fragment", patch(v4.udp(5), 20, 0x20, 0), Flow{SrcPort: 40000, DstPort: 80,
			Protocol: 17, Bytes: 47}},
		{"ICMP in IPv6", v6.frame(1, gopacket.Payload{8}), Flow{Protocol: 1, Bytes: 55}},
		{"ICMPv6 in IPv4", v4.frame(58, gopacket.Payload{128}), Flow{Protocol: 58, Bytes: 35}},
		{"echo request", v4.echo(7, false), Flow{Protocol: 1, ICMPType: 8, ICMPID: 7, Bytes: 50}},
		{"echo reply", v4.echo(7, true), Flow{Protocol: 1, ICMPType: 8, ICMPID: 7, Bytes: 50}},
		{"echo reply 6", v6.echo(7, true), Flow{Protocol: 58, ICMPType: 128, ICMPID: 7, Bytes: 70}},
		{"timestamp reply", v4.icmp(14, 0, [4]byte{1, 2}, nil), Flow{Protocol: 1, ICMPType: 13,
			ICMPID: 0x102, Bytes: 42}},
		{"information reply", v4.icmp(16, 9, [4]byte{1, 2}, nil), Flow{Protocol: 1, ICMPType: 15,
			ICMPID: 0x102, Bytes: 42}},
		{"mask reply", v4.icmp(18, 0, [4]byte{1, 2}, nil), Flow{Protocol: 1, ICMPType: 17,
			ICMPID: 0x102, Bytes: 42}},
		{"router advertisement", v4.icmp(9, 16, [4]byte{1, 2}, nil), Flow{Protocol: 1,
			ICMPType: 9, ICMPCode: 16, Bytes: 42}},
		{"neighbour solicitation", v6.icmp(135, 0, [4]byte{1, 2}, nil), Flow{Protocol: 58,
			ICMPType: 135, Bytes: 62}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := fresh(Config{})
			m.Packet(in, 5, tt.frame)
			flows := m.Flows()
			require.Len(t, flows, 1)
			b := v4
			if flows[0].Src.Is6() {
				b = v6
			}
			want := tt.want
			want.Connection, want.Packets = 1, 1
			want.Src, want.Dst = b.src.Addr(), b.dst.Addr()
			want.Start, want.End, want.Seen = 5, 5, []flow.Hook{in}
			want.Reason, want.Role, want.State = flow.EndActive, flows[0].Role, flows[0].State
			require.Equal(t, want, flows[0])
		})
	}
}

func TestGSO(t *testing.T) {
	frame := v4.tcp(flow.ACK, 1, 1, 4000)
	m := fresh(Config{})
	m.Receive(Arrival{Hook: in, Frame: frame, Segments: 4})
	require.Equal(t, Count{4, 4054 + 3*54}, m.Counters()[in].Accounted)

	// The IP lengths of a packet carried as GSO are not judged, nor do they bound it.
	m = fresh(Config{})
	m.Receive(Arrival{Hook: in, Frame: patch(frame, 16, 0, 0), Segments: 1})
	require.Equal(t, Count{1, 4054}, m.Counters()[in].Accounted)
	fin := v6.tcp(flow.FIN|flow.ACK, 100, 1, 500)
	m.Receive(Arrival{Hook: in, Frame: patch(fin, 18, 0, 0), Segments: 2, Tag: true})
	require.Equal(t, Count{3, 4054 + 2*(574+4) - 500}, m.Counters()[in].Accounted)
	for _, c := range m.table {
		for _, l := range c.legs {
			require.True(t, !l.fin || l.next.number == 601, "%d", l.next.number)
		}
	}

	// Chunks of SCTP are not repeated.
	m = fresh(Config{})
	m.Receive(Arrival{Hook: in, Frame: v4.sctp(0, 1, 200), Segments: 3})
	require.Equal(t, Count{3, 34 + 12 + 200 + 2*(34+12)}, m.Counters()[in].Accounted)

	// A tag beside the frame is one of two, and counts.
	m = fresh(Config{})
	m.Receive(Arrival{Hook: in, Frame: tags(v4, 1).udp(0), Tag: true})
	require.Equal(t, Count{1, 42 + 8}, m.Counters()[in].Accounted)
	require.Equal(t, Outcome{Lost, ReasonVLANDepth},
		m.Receive(Arrival{Hook: in, Frame: tags(v4, 1, 2).udp(0), Tag: true}))
	require.Equal(t, map[Reason]Count{ReasonVLANDepth: {1, 42 + 12}}, m.Counters()[in].Lost)
	books(t, m)
}
