package model

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// The prefixes of the tests; 10.0.0.1 is below the first and 10.0.0.2 is not.
var (
	low4  = netip.MustParsePrefix("10.0.0.0/31")
	high4 = netip.MustParsePrefix("10.0.0.2/32")
	any4  = netip.MustParsePrefix("0.0.0.0/0")
	any6  = netip.MustParsePrefix("::/0")
	low6  = netip.MustParsePrefix("2001:db8::/127")
)

// number is how a rule writes a protocol, type or code.
func number(n uint16) uint16 { return n + 1 }

func ports(from, to uint16) bpf.PortRange { return bpf.PortRange{From: from, To: to} }

// ruleTest is a rule, a packet, and whether the one matches the other.
type ruleTest struct {
	name  string
	rule  bpf.Rule
	frame []byte
	want  bool
}

func addressRules() []ruleTest {
	error4 := cited(v4, ip(v4.udp(8)), 28) // travels from the cited destination, 10.0.0.2
	return []ruleTest{
		{"nothing named", bpf.Rule{}, v4.udp(1), true},
		{"family", bpf.Rule{Family: 4}, v4.udp(1), true},
		{"family 6", bpf.Rule{Family: 6}, v6.udp(1), true},
		{"other family", bpf.Rule{Family: 6}, v4.udp(1), false},
		{"src", bpf.Rule{Src: low4}, v4.udp(1), true},
		{"src is not dst", bpf.Rule{Src: high4}, v4.udp(1), false},
		{"dst", bpf.Rule{Dst: high4}, v4.udp(1), true},
		{"dst is not src", bpf.Rule{Dst: low4}, v4.udp(1), false},
		{"both", bpf.Rule{Src: low4, Dst: high4}, v4.udp(1), true},
		{"exchanged", bpf.Rule{Src: high4, Dst: low4}, v4.udp(1), false},
		{"exchanged, either", bpf.Rule{Src: high4, Dst: low4, Either: true}, v4.udp(1), true},
		{"half exchanged, either", bpf.Rule{Src: low4, Dst: low4, Either: true}, v4.udp(1), false},
		{"all of IPv4", bpf.Rule{Src: any4}, v4.udp(1), true},
		{"all of IPv4, IPv6", bpf.Rule{Src: any4}, v6.udp(1), false},
		{"all of IPv6, IPv4", bpf.Rule{Dst: any6}, v4.udp(1), false},
		{"src 6", bpf.Rule{Src: low6}, v6.udp(1), true},
		{"dst 6", bpf.Rule{Dst: low6}, v6.udp(1), false},
		{"an error's tuple", bpf.Rule{Src: high4, Dst: low4}, error4, true},
		{"an error's own addresses", bpf.Rule{Src: low4}, error4, false},
		{"inside a tunnel", bpf.Rule{Family: 6, Protocol: number(17)}, ipip(v4, 41, ip(inner6.udp(1))),
			true},
		{"outside a tunnel", bpf.Rule{Protocol: number(41)}, ipip(v4, 41, ip(inner6.udp(1))), false},
		{"a tunnel that is not opened", bpf.Rule{Protocol: number(4)}, ipip(v4, 4, nil), true},
	}
}

func transportRules() []ruleTest {
	error4 := cited(v4, ip(v4.udp(8)), 28)
	return []ruleTest{
		{"protocol", bpf.Rule{Protocol: number(17)}, v4.udp(1), true},
		{"other protocol", bpf.Rule{Protocol: number(6)}, v4.udp(1), false},
		{"protocol 0", bpf.Rule{Protocol: number(0)}, v4.frame(0), true},
		{"protocol 255", bpf.Rule{Protocol: number(255)}, v4.frame(255), true},
		{"behind extension headers", bpf.Rule{Protocol: number(17)}, ext(v6, 17, ip(v6.udp(1))[40:],
			options), true},
		{"an error is ICMP", bpf.Rule{Protocol: number(1)}, error4, true},
		{"an error is not what it cites", bpf.Rule{Protocol: number(17)}, error4, false},
		{"src port", bpf.Rule{SrcPort: ports(40000, 40000)}, v4.udp(1), true},
		{"src port is not dst port", bpf.Rule{SrcPort: ports(80, 80)}, v4.udp(1), false},
		{"dst port", bpf.Rule{DstPort: ports(80, 80)}, v4.tcp(syn, 1, 0, 0), true},
		{"low end", bpf.Rule{DstPort: ports(80, 90)}, v4.sctp(1, 1, 20), true},
		{"high end", bpf.Rule{DstPort: ports(70, 80)}, v4.udp(1), true},
		{"below", bpf.Rule{DstPort: ports(81, 90)}, v4.udp(1), false},
		{"above", bpf.Rule{DstPort: ports(70, 79)}, v4.udp(1), false},
		{"from 0", bpf.Rule{DstPort: ports(0, 80)}, v4.udp(1), true},
		{"both ports", bpf.Rule{SrcPort: ports(40000, 40000), DstPort: ports(80, 80)}, v6.udp(1), true},
		{"ports exchanged", bpf.Rule{SrcPort: ports(80, 80), DstPort: ports(40000, 40000)}, v4.udp(1),
			false},
		{"ports exchanged, either", bpf.Rule{SrcPort: ports(80, 80), Either: true}, v4.udp(1), true},
		{"addresses stay, ports exchanged", bpf.Rule{Src: low4, SrcPort: ports(80, 80), Either: true},
			v4.udp(1), false},
		{"no ports", bpf.Rule{DstPort: ports(0, 65535)}, v4.frame(47), false},
		{"no ports in ICMP", bpf.Rule{DstPort: ports(0, 65535)}, v4.echo(1, false), false},
		{"no ports in an error", bpf.Rule{DstPort: ports(0, 65535)}, error4, false},
	}
}

func flagRules() []ruleTest {
	only := func(match, mask flow.TCPFlags) bpf.Rule {
		return bpf.Rule{FlagsMatch: uint8(match), FlagsMask: uint8(mask)}
	}
	return []ruleTest{
		{"SYN alone", only(syn, syn|ack), v4.tcp(syn, 1, 0, 0), true},
		{"SYN with ACK", only(syn, syn|ack), v4.tcp(syn|ack, 1, 1, 0), false},
		{"others do not count", only(syn, syn|ack), v4.tcp(syn|flow.ECE|flow.CWR, 1, 0, 0), true},
		{"none of them", only(0, syn|rst), v4.tcp(ack, 1, 1, 0), true},
		{"none at all", only(0, 0xff), v4.tcp(0, 1, 0, 0), true},
		{"none, yet one", only(0, 0xff), v4.tcp(flow.CWR, 1, 0, 0), false},
		{"all", only(0xff, 0xff), v4.tcp(0xff, 1, 1, 0), true},
		{"INIT", only(syn, syn|ack), v4.sctp(1, 1, 20), true},
		{"SHUTDOWN ACK", only(fin|ack, fin|ack), v4.sctp(8, 1, 8), true},
		{"DATA", only(0, 0xff), v4.sctp(0, 1, 20), true},
		{"UDP has none", only(0, 0xff), v4.udp(1), false},
		{"an error about TCP has none", only(0, 0xff), cited(v4, ip(v4.tcp(syn, 1, 0, 0)), 40), false},
		{"either", bpf.Rule{FlagsMatch: uint8(syn), FlagsMask: uint8(syn), Src: high4, Either: true},
			v4.tcp(syn, 1, 0, 0), true},
	}
}

func icmpRules() []ruleTest {
	only := func(typ, code uint16) bpf.Rule {
		return bpf.Rule{ICMPType: number(typ), ICMPCode: number(code)}
	}
	typ := func(t uint16) bpf.Rule { return bpf.Rule{ICMPType: number(t)} }
	error4 := cited(v4, ip(v4.echo(1, false)), 36)
	error6 := cited(v6, ip(v6.udp(8)), 48)
	odd := patch(v4.echo(1, false), 35, 9)                     // a request with code 9
	foreign6 := v6.frame(1, gopacket.Payload(make([]byte, 8))) // looks like an echo reply
	return []ruleTest{
		{"request", typ(8), v4.echo(1, false), true},
		{"reply is no request", typ(8), v4.echo(1, true), false},
		{"reply", typ(0), v4.echo(1, true), true},
		{"request 6", typ(128), v6.echo(1, false), true},
		{"reply 6", typ(129), v6.echo(1, true), true},
		{"a query's code", only(8, 9), odd, true},
		{"a query's other code", only(8, 0), odd, false},
		{"an error's own", only(3, 3), error4, true},
		{"an error's code", only(3, 1), error4, false},
		{"not what it cites", typ(8), error4, false},
		{"an error 6", only(1, 4), error6, true},
		{"a code alone", bpf.Rule{ICMPCode: number(3)}, error4, true},
		{"other ICMP", only(9, 16), v4.icmp(9, 16, [4]byte{}, nil), true},
		{"UDP has none", typ(0), v4.udp(1), false},
		{"ICMP in IPv6 has none", typ(0), foreign6, false},
		{"but is that protocol", bpf.Rule{Protocol: number(1)}, foreign6, true},
		{"ICMPv6 in IPv4 has none", typ(0), v4.frame(58, gopacket.Payload(make([]byte, 8))), false},
	}
}

// What a rule matches; each is tried as one that accepts and as one that rejects.
func TestRules(t *testing.T) {
	for _, tests := range [][]ruleTest{addressRules(), transportRules(), flagRules(), icmpRules()} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				for _, reject := range []bool{true, false} {
					tt.rule.Reject = reject
					m := fresh(Config{Tunnels: all,
						Filter: bpf.Filter{Reject: !reject, Rules: []bpf.Rule{tt.rule}}})
					want := Outcome{Fate: Accounted}
					if tt.want == reject {
						want = Outcome{LeftOut, ReasonFilter}
					}
					require.Equal(t, want, m.Packet(in, 0, tt.frame))
					books(t, m)
				}
			})
		}
	}
}

// The first rule that matches decides, then the default.
func TestRuleOrder(t *testing.T) {
	port := func(reject bool, p uint16) bpf.Rule {
		return bpf.Rule{Reject: reject, DstPort: ports(p, p)}
	}
	to := func(p uint16) []byte {
		b := v4
		b.dst = netip.AddrPortFrom(b.dst.Addr(), p)
		return b.udp(1)
	}
	for _, reject := range []bool{true, false} {
		m := fresh(Config{Filter: bpf.Filter{Reject: reject, Rules: []bpf.Rule{
			port(false, 1), port(true, 1), port(true, 2), port(false, 2)}}})
		require.Equal(t, Accounted, m.Packet(in, 0, to(1)).Fate)
		require.Equal(t, LeftOut, m.Packet(in, 0, to(2)).Fate)
		require.Equal(t, reject, m.Packet(in, 0, to(3)).Fate == LeftOut)
		books(t, m)
	}
}

// A later fragment is judged with the protocol and ports of its first one, which is remembered
// even if it is rejected; flags, type and code it has none.
func TestFilterFragments(t *testing.T) {
	first, rest17 := fragmented(v4.udp(24), 7, more4), rest(v4, 17, 7)
	m := fresh(Config{Filter: bpf.Filter{Rules: []bpf.Rule{{Reject: true, DstPort: ports(80, 80)}}}})
	require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 0, rest17), "what is not read")
	require.Equal(t, Outcome{LeftOut, ReasonFilter}, m.Packet(in, 0, first))
	require.Equal(t, Outcome{LeftOut, ReasonFilter}, m.Packet(in, 0, rest17))
	size := uint64(len(first) + len(rest17))
	require.Equal(t, map[Reason]Count{ReasonFilter: {2, size}}, m.Counters()[in].LeftOut)
	books(t, m)

	for name, c := range map[string]struct {
		rule        bpf.Rule
		first, rest []byte
	}{
		"flags": {bpf.Rule{FlagsMask: 0xff}, fragmented(v4.tcp(0, 1, 0, 12), 7, more4), rest(v4, 6, 7)},
		"type":  {bpf.Rule{ICMPType: number(8)}, fragmented(v4.echo(1, false), 7, more4), rest(v4, 1, 7)},
	} {
		c.rule.Reject = true
		m = fresh(Config{Filter: bpf.Filter{Rules: []bpf.Rule{c.rule}}})
		require.Equal(t, LeftOut, m.Packet(in, 0, c.first).Fate, name)
		require.Equal(t, Accounted, m.Packet(in, 0, c.rest).Fate, name)
	}
}

// A packet is judged when it was read, and before what becomes of it in the table.
func TestFilterComesBetween(t *testing.T) {
	none := bpf.Filter{Reject: true}
	m := New(Config{Filter: none, Hooks: []flow.Hook{in}, Table: 1})
	require.Equal(t, Outcome{Lost, ReasonNoHook}, m.Packet(out, 0, v4.udp(1)))
	require.Equal(t, Outcome{Lost, ReasonEthernet}, m.Packet(in, 0, nil))
	require.Equal(t, Outcome{LeftOut, ReasonFilter}, m.Packet(in, 0, v4.tcp(ack, 1, 1, 0)), "mid-stream")
	require.Empty(t, m.Flows())
	books(t, m)

	// A rejected error is not remembered by the connection that it cites.
	m = fresh(Config{Filter: bpf.Filter{Rules: []bpf.Rule{{Reject: true, ICMPType: number(3)}}}})
	m.Packet(in, 0, v4.udp(8))
	require.Equal(t, LeftOut, m.Packet(out, 0, cited(v4.back(), ip(v4.udp(8)), 28)).Fate)
	require.Empty(t, m.Connections(0)[0].ICMPError)
	books(t, m)
}

// Each segment counts, and every hook keeps its own books.
func TestLeftOutCounts(t *testing.T) {
	m := fresh(Config{Filter: bpf.Filter{Reject: true}})
	frame := patch(v4.tcp(ack, 1, 1, 3000), 16, 0, 0)
	m.Receive(Arrival{Hook: in, Frame: frame, Segments: 3})
	m.Packet(router, 0, v4.udp(8))
	require.Equal(t, Counters{Seen: Count{3, 3162}, LeftOut: map[Reason]Count{ReasonFilter: {3, 3162}},
		Lost: map[Reason]Count{}}, m.Counters()[in])
	require.Equal(t, Count{1, 50}, m.Counters()[router].LeftOut[ReasonFilter])
	books(t, m)
}
