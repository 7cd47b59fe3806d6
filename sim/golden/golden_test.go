package golden

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

var (
	ingress = flow.Hook{Namespace: "server", Interface: "eth0", Direction: flow.Ingress}
	egress  = flow.Hook{Namespace: "server", Interface: "eth0", Direction: flow.Egress}

	client, server   = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	client6, server6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	stranger         = netip.MustParseAddr("2001:db8:ffff::1")
	gateway1         = netip.MustParseAddr("10.0.0.254")
	gateway2         = netip.MustParseAddr("10.0.1.254")
)

func testNames() *Names {
	return NewNames(map[string][]netip.Addr{"client": {client, client6},
		"server": {server, server6}, "gw": {gateway1, gateway2}})
}

// modelFlows are flows of all shapes.
func modelFlows() []model.Flow {
	tcp := model.Flow{Src: client, Dst: server, SrcPort: 40000, DstPort: 80, Protocol: 6,
		Packets: 6, Bytes: 444, Flags: flow.SYN | flow.ACK | flow.FIN | flow.PSH,
		Role: flow.RoleInitiator, State: conntrack.StateClosed, Reason: flow.EndDetected,
		Seen: []flow.Hook{ingress}}
	reply := tcp
	reply.Src, reply.Dst, reply.SrcPort, reply.DstPort = server, client, 80, 40000
	reply.Packets, reply.Bytes, reply.Role = 4, 1616, flow.RoleResponder
	reply.Seen = []flow.Hook{egress}
	again, lone := tcp, reply
	again.Packets, again.Bytes = 1, 54
	again.State, again.Reason = conntrack.StateSynSent, flow.EndIdle
	lone.DstPort, lone.State = 40001, conntrack.StateReset
	middle := tcp
	middle.SrcPort, middle.Role = 9, flow.RoleUnknown
	middle.State, middle.Reason = conntrack.StateEstablished, flow.EndForced
	six := model.Flow{Src: client6, Dst: stranger, SrcPort: 53, DstPort: 53, Protocol: 17,
		Packets: 1, Bytes: 62, Role: flow.RoleInitiator, State: conntrack.StateUnreplied,
		Reason: flow.EndIdle, Seen: []flow.Hook{egress, ingress}, ICMPError: "1/4"}
	about := model.Flow{Src: stranger, Dst: client6, SrcPort: 53, DstPort: 53, Protocol: 58,
		Cites: 17, Packets: 1, Bytes: 110, Role: flow.RoleInitiator,
		State: conntrack.StateUnreplied, Reason: flow.EndIdle, Seen: []flow.Hook{ingress}}
	echo := model.Flow{Src: client, Dst: gateway1, Protocol: 1, ICMPType: 8, ICMPID: 1,
		Packets: 3, Bytes: 294, Role: flow.RoleInitiator, State: conntrack.StateReplied,
		Reason: flow.EndIdle, Seen: []flow.Hook{ingress}, Zone: 7}
	other := echo
	other.ICMPType, other.ICMPCode, other.ICMPID, other.Dst = 9, 16, 0, stranger
	full := model.Flow{Src: client, Dst: gateway2, Protocol: 253, Packets: 1, Bytes: 34,
		Role: flow.RoleUnknown, Reason: flow.EndResource, Seen: []flow.Hook{ingress}}
	return []model.Flow{tcp, reply, again, lone, middle, six, about, echo, other, full}
}

// translatedFlows are flows on the two sides of an address translation, and one between two.
func translatedFlows() []model.Flow {
	all := modelFlows()
	before, between, reply, ping := all[0], all[0], all[1], all[7]
	before.NATAfter = flow.NAT{Src: gateway1, SrcPort: 42000, Dst: server, DstPort: 80}
	between.Src, between.SrcPort = gateway1, 42000
	between.NATBefore = flow.NAT{Src: client, SrcPort: 40000, Dst: server, DstPort: 80}
	between.NATAfter = flow.NAT{Src: stranger, SrcPort: 1, Dst: server6, DstPort: 2}
	reply.NATAfter = flow.NAT{Src: server, SrcPort: 80, Dst: gateway1, DstPort: 42000}
	ping.NATAfter = flow.NAT{Src: gateway1, Dst: gateway2}
	return []model.Flow{before, between, reply, ping}
}

// TestTranslated takes flows with other sides to a file and back.
func TestTranslated(t *testing.T) {
	encode := func(free ...string) string {
		g := &Golden{Flows: ModelFlows(translatedFlows(), testNames())}
		require.NoError(t, g.Free(free...))
		return string(Encode(g))
	}
	text := encode()
	for _, want := range []string{
		`nat_after: "gw(10.0.0.254):42000 > server:80", seen`,
		`nat_before: "client:40000 > server:80", nat_after: "[2001:db8:ffff::1]:1 > server/v6:2", seen`,
		`nat_after: "server:80 > gw(10.0.0.254):42000", seen`,
		`nat_after: gw(10.0.0.254) > gw(10.0.1.254)`,
	} {
		require.Contains(t, strings.ReplaceAll(text, `"gw(10.0.0.254) > gw(10.0.1.254)"`,
			`gw(10.0.0.254) > gw(10.0.1.254)`), want)
	}
	real := &Golden{Flows: ModelFlows(translatedFlows(), testNames())}
	for _, free := range [][]string{nil, {"client_port"}, {"server_port"}, {"src_port", "dst_port"}} {
		text := encode(free...)
		got, err := Decode("x.yaml", []byte(text), free...)
		require.NoError(t, err, text)
		require.Equal(t, text, string(Encode(got)))
		require.Empty(t, Compare(got, real, "golden"), text)
	}
	require.Contains(t, encode("client_port"), `nat_after: "server:80 > gw(10.0.0.254):*"`)

	other := &Golden{Flows: ModelFlows(translatedFlows(), testNames())}
	other.Flows[0].NATAfter.Src.Host = "elsewhere"
	diffs := Compare(real, other, "golden")
	require.Len(t, diffs, 1)
	require.Equal(t, "nat_after", diffs[0].Fields[0].Name)
}

func testConnections() []conntrack.Entry {
	return []conntrack.Entry{
		{Src: client, Dst: server, SrcPort: 40000, DstPort: 80, Protocol: 6, Known: true,
			State: conntrack.StateClosed, Expired: true, Idle: 11 * time.Second,
			Lifetime: 10 * time.Second, Forward: conntrack.Leg{Packets: 6},
			Reverse: conntrack.Leg{Packets: 4}},
		{Src: server6, Dst: client6, SrcPort: 1, DstPort: 2, Protocol: 17, ICMPError: "1/4",
			State: conntrack.StateReplied, Idle: 1, Lifetime: 120 * time.Second,
			Forward: conntrack.Leg{Packets: 2}, Reverse: conntrack.Leg{Packets: 1}, Zone: 3},
		{Src: server, Dst: client, SrcPort: 1, DstPort: 2, Protocol: 1, Cites: 17, Known: true,
			State: conntrack.StateUnreplied, Lifetime: 30 * time.Second,
			Forward: conntrack.Leg{Packets: 2}},
	}
}

func testCounters() map[flow.Hook]model.Counters {
	return map[flow.Hook]model.Counters{
		ingress: {Seen: model.Count{Packets: 13, Bytes: 1300},
			Accounted: model.Count{Packets: 6, Bytes: 600},
			LeftOut: map[model.Reason]model.Count{model.ReasonFilter: {Packets: 3, Bytes: 180},
				model.ReasonSampling: {Packets: 1, Bytes: 220}},
			Lost: map[model.Reason]model.Count{model.ReasonNotIP: {Packets: 2, Bytes: 200},
				model.ReasonFragment: {Packets: 1, Bytes: 100}, model.ReasonNoHook: {}}},
		egress: {Seen: model.Count{Packets: 10, Bytes: 10}, Accounted: model.Count{Packets: 4,
			Bytes: 7}, Observed: model.Count{Packets: 6, Bytes: 3}},
		{Interface: "idle"}: {},
	}
}

func testGolden() *Golden {
	n := testNames()
	return &Golden{Flows: ModelFlows(modelFlows(), n),
		Connections: Connections(testConnections(), n),
		Labels:      n.Labels(), Counters: Counters(testCounters())}
}

// The form of files is part of the interface: people read it, and it is under version control.
// WEIR_UPDATE=1 writes it anew.
func TestEncode(t *testing.T) {
	const file = "testdata/all.yaml"
	got := Encode(testGolden())
	if os.Getenv("WEIR_UPDATE") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// The file of the design, plus what it leaves open.
func TestEncodeExample(t *testing.T) {
	n := testNames()
	g := &Golden{Flows: ModelFlows(modelFlows()[:2], n),
		Connections: Connections(testConnections()[:1], n),
		Labels:      map[string]map[string]string{"client": {"host": "client"}}}
	want := header + `flows:
  - {src: client:40000, dst: server:80,    proto: tcp, packets: 6, bytes:  444, ` +
		`flags: FIN|SYN|PSH|ACK, end: end-detected, seen: [server/eth0 ingress]}
  - {src: server:80,    dst: client:40000, proto: tcp, packets: 4, bytes: 1616, ` +
		`flags: FIN|SYN|PSH|ACK, end: end-detected, seen: [server/eth0 egress]}
connections:
  - {client: client:40000, server: server:80, proto: tcp, state: closed, ` +
		`forward: 6, reverse: 4, expired: true}
labels:
  client: {host: client}
`
	require.Equal(t, want, string(Encode(g)))
}

func TestRoundTrip(t *testing.T) {
	for _, free := range [][]string{nil, {"packets"}, {"client_port", "bytes", "flags", "left"},
		{"src_port", "dst_port", "state", "end"}, FreeNames()} {
		want := testGolden()
		require.NoError(t, want.Free(free...))
		data := Encode(want)
		got, err := Decode("x.yaml", data, free...)
		require.NoError(t, err, "%s", data)
		require.Equal(t, string(data), string(Encode(got)))
		// The decoded form is sorted; freed values may have changed the order.
		want.Flows, want.Connections = sortFlows(want.Flows), sortConnections(want.Connections)
		require.Empty(t, cmp.Diff(want, got))
		require.Empty(t, Compare(got, testGolden(), "golden"))
	}
}

// Any YAML reader reads what is written.
func TestIsYAML(t *testing.T) {
	var v struct {
		Flows []struct {
			Src, Dst, Proto string
			Packets         int
			Seen            []string
		}
		Connections []map[string]any
		Labels      map[string]map[string]string
		Counters    []map[string]any
	}
	g := testGolden()
	require.NoError(t, yaml.Unmarshal(Encode(g), &v))
	require.Len(t, v.Flows, len(g.Flows))
	require.Len(t, v.Counters, len(g.Counters))
	require.Equal(t, g.Labels, v.Labels)
	for i, f := range g.Flows {
		require.Equal(t, []any{f.Src.String(), f.Dst.String(), f.Proto, int(f.Packets.Value),
			f.Seen}, []any{v.Flows[i].Src, v.Flows[i].Dst, v.Flows[i].Proto, v.Flows[i].Packets,
			v.Flows[i].Seen})
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	want := Encode(testGolden())
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		flows, connections := modelFlows(), testConnections()
		r.Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
		slices.Reverse(connections)
		g := testGolden()
		g.Flows = ModelFlows(flows, testNames())
		g.Connections = Connections(connections, testNames())
		require.Equal(t, string(want), string(Encode(g)))
		r.Shuffle(len(g.Flows), func(i, j int) {
			g.Flows[i], g.Flows[j] = g.Flows[j], g.Flows[i]
		})
		slices.Reverse(g.Counters)
		require.Equal(t, string(want), string(Encode(g)))
		require.Empty(t, Compare(testGolden(), g, "model"))
		require.Empty(t, Compare(g, testGolden(), "model"))
	}
}

// Parts of files with mistakes.
const (
	head = "flows: []\nconnections: []\n"
	rest = "proto: udp, state: replied, forward: 1, reverse: 2, left: 1s"
	one  = "flows:\n  - {src: a:1, dst: b:2, proto: tcp, packets: 1, bytes: 2, flags: SYN, " +
		"end: idle, state: syn-sent, seen: [a/eth0 ingress]}\nconnections: []\n"
)

// with is a good file with one text replaced.
func with(old, new string) string { return strings.Replace(one, old, new, 1) }

// conn is a file with one connection.
func conn(s string) string { return "flows: []\nconnections:\n  - {" + s + "}\n" }

var decodeErrors = []struct{ name, data, want string }{
	{"empty", "", "x.yaml:1:1: the file is empty"},
	{"comment", "# nothing\n", "x.yaml:1:1: the file is empty"},
	{"scalar", "flows", `x.yaml:1:1: the file is "flows", not a mapping`},
	{"syntax", "flows: [", "x.yaml:1:8: "},
	{"tab", "flows:\n\t- a", "x.yaml:2:1: "},
	{"two documents", head + "---\n" + head, "x.yaml:4:1: a second document"},
	{"anchor", "flows: &x []\nconnections: *x\n", "x.yaml:1:8: anchor is not part of"},
	{"twice", head + "flows: []\n", `x.yaml:3:1: `},
	{"unknown section", head + "flow: []\n", `x.yaml:3:1: unknown key "flow" in the file`},
	{"missing section", "flows: []\n", "x.yaml:1:1: the file has no connections"},
	{"no list", "flows: a\n", `x.yaml:1:8: flows is "a", not a list`},
	{"null", "flows:\nconnections: []\n", `flows is nothing, not a list`},
	{"unknown key", with("packets", "pakets"), `x.yaml:2:38: unknown key "pakets" in a flow`},
	{"missing key", with("bytes: 2, ", ""), "x.yaml:2:5: a flow has no bytes"},
	{"no number", with("packets: 1", "packets: -1"), `x.yaml:2:47: "-1" is no count`},
	{"hex", with("packets: 1", "packets: 0x1"), `x.yaml:2:47: "0x1" is no count`},
	{"leading zero", with("packets: 1", "packets: 01"), `"01" is no count`},
	{"too large", with("packets: 1", "packets: 18446744073709551616"), `is no count`},
	{"no port", with("a:1", "a"), `x.yaml:2:11: "a" has no port`},
	{"large port", with("a:1", "a:65536"), `"a:65536" has no port from 0 to 65535`},
	{"brackets", with("a:1", `"[a]:1"`), `"[a]:1" is no endpoint`},
	{"protocol", with("tcp", "tpc"), `"tpc" is no protocol`},
	{"protocol number", with("tcp", "6"), `"6" is no protocol`},
	{"icmp for tcp", with("tcp", "tcp, icmp: 3/3"), "icmp does not go with protocol tcp"},
	{"icmp without", with("a:1, dst: b:2, proto: tcp", "a, dst: b, proto: icmp"),
		"x.yaml:2:5: protocol icmp needs icmp"},
	{"icmp form", with("a:1, dst: b:2, proto: tcp", "a, dst: b, proto: icmp, icmp: 3"),
		`"3" is no ICMP type/code`},
	{"flags", with("SYN", "SYM"), `unknown TCP flag "SYM"`},
	{"flag order", with("SYN", "SYN|FIN"), `are no TCP flags in their order`},
	{"end", with("end: idle", "end: idel"), `unknown end reason "idel"`},
	{"state", with("syn-sent", "syn"), `"syn" is no state`},
	{"no state", with("state: syn-sent, ", ""), "a flow that ends idle has no state"},
	{"hook", with("a/eth0 ingress", "a/eth0"), `"a/eth0" is no hook`},
	{"seen", with("[a/eth0 ingress]", "a"), `seen is "a", not a list`},
	{"initiator", with("seen:", "initiator: me, seen:"), `"me" is none of`},
	{"zone", with("seen:", "zone: 0, seen:"), `is no zone`},
	{"icmp_error", with("seen:", "icmp_error: 3, seen:"), `is no ICMP type/code`},
	{"other side", with("seen:", "nat_before: a:1, seen:"), `x.yaml:2:112: "a:1" is not two endpoints`},
	{"other side's port", with("seen:", `nat_after: "a:1 > b", seen:`), `"b" has no port`},
	{"other side's list", with("seen:", `nat_after: [a], seen:`), "a list where a value belongs"},
	{"other side's star", with("seen:", `nat_after: "a:* > b:1", seen:`), "does not leave this value free"},
	{"star", with("packets: 1", `packets: "*"`), "does not leave this value free"},
	{"star where none can be", with("tcp", `"*"`), "does not leave this value free"},
	{"star port", with("a:1", "a:*"), "does not leave this value free"},
	{"star host", with("a:1", `"*:1"`), `"*:1" is no endpoint`},
	{"collection", with("packets: 1", "packets: [1]"), "a list where a value belongs"},
	{"connection", conn(rest), "a connection has either client and server, or a and b"},
	{"half", conn("client: a:1, " + rest), "either client and server, or a and b"},
	{"mixed", conn("client: a:1, server: b:1, a: c:1, " + rest), "either client and server"},
	{"left and expired", conn("a: a:1, b: b:1, expired: true, " + rest), "or expired: true"},
	{"expired false", conn("a: a:1, b: b:1, expired: false, " + rest), "only true is written"},
	{"duration", conn("a: a:1, b: b:1, " + strings.Replace(rest, "1s", "60s", 1)),
		`"60s" is no duration`},
	{"label", head + "labels: {a: b}\n", `the labels of a are "b", not a mapping`},
	{"labels", head + "labels: [a]\n", "labels is a list, not a mapping"},
	{"counters", head + "counters: [{hook: e ingress, seen: 1, accounted: 1/1}]\n",
		`"1" is not packets/bytes`},
	{"free counter", head + `counters: [{hook: e ingress, seen: "*/1", accounted: 1/1}]`,
		`does not leave this value free`},
	{"reason", head + "counters: [{hook: e ingress, seen: 1/1, accounted: 1/1, " +
		"lost: {ipv5: 1/1}}]\n", `"ipv5" is no reason for a loss`},
	{"lost", head + "counters: [{hook: e ingress, seen: 1/1, accounted: 1/1, lost: 1}]\n",
		`lost is "1", not a mapping`},
	{"left out", head + "counters: [{hook: e ingress, seen: 1/1, accounted: 1/1, " +
		"left_out: {not-ip: 1/1}}]\n", `"not-ip" is no reason to leave a packet out`},
	{"lost by filter", head + "counters: [{hook: e ingress, seen: 1/1, accounted: 1/1, " +
		"lost: {filter: 1/1}}]\n", `"filter" is no reason for a loss`},
	{"left out, no mapping", head + "counters: [{hook: e ingress, seen: 1/1, accounted: 1/1, " +
		"left_out: [filter]}]\n", `left_out is a list, not a mapping`},
	{"lost traffic", head + "counters: [{hook: e ingress, seen: 1/1, accounted: 1/1, " +
		"lost: {not-ip: 1}}]\n", `"1" is not packets/bytes`},
	{"bytes", head + "counters: [{hook: e ingress, seen: 1/x, accounted: 1/1}]\n",
		`"1/x" is not packets/bytes`},
	{"counter list", head + "counters: [{hook: [e], seen: 1/1, accounted: 1/1}]\n",
		"a list where a value belongs"},
	{"label list", head + "labels: {a: {b: [c]}}\n", "a list where a value belongs"},
	{"key list", head + "? [a]\n: b\n", "invalid key"},
	{"endpoint list", with("a:1", "[a]"), "a list where a value belongs"},
	{"server", conn("client: a:1, server: b, " + rest), `"b" has no port`},
	{"star server", conn("client: a:1, server: b:*, " + rest), "does not leave this value free"},
	{"star client", conn("client: a:*, server: b:1, " + rest), "does not leave this value free"},
	{"icmp of a connection", conn("client: a:1, server: b:1, icmp: 3/3, " + rest),
		"icmp does not go with protocol udp"},
	{"icmp identifier", with("a:1, dst: b:2, proto: tcp",
		"a, dst: b, proto: icmp, icmp: echo-request id=70000"), "has no identifier"},
	{"no host", with("a:1, dst: b:2, proto: tcp", `"[a]", dst: b, proto: gre`),
		`"[a]" is no host or address`},
	{"digest", "flows: {records: 1, packets: 1, bytes: 1, sha256: x}\nconnections: []",
		`"x" is no SHA-256 sum`},
	{"deep", "flows: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "too many collections"},
	{"long", "flows: [" + strings.Repeat(" ", maxLine) + "]", "x.yaml:1:1: the line has"},
	{"large", strings.Repeat("#\n", maxFile), "x.yaml:1:1: the file has"},
}

func TestDecodeErrors(t *testing.T) {
	for _, tt := range decodeErrors {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Decode("x.yaml", []byte(tt.data))
			require.ErrorContains(t, err, tt.want)
			require.Regexp(t, `^x\.yaml:\d+:\d+: [^\n]+$`, err.Error())
			require.Nil(t, g)
		})
	}
	_, err := Decode("x.yaml", []byte(one))
	require.NoError(t, err)
}

func TestFreeNames(t *testing.T) {
	require.ErrorContains(t, testGolden().Free("packet"), `free value "packet": known are`)
	g := testGolden()
	require.NoError(t, g.Free("client_port"))
	require.Equal(t, "client:*", g.Flows[5].Src.String())
	require.Equal(t, "server:80", g.Flows[5].Dst.String())
	require.Equal(t, "client:*", g.Flows[6].Dst.String(), "also in the other direction")
	require.Equal(t, "gw(10.0.1.254)", g.Flows[0].Dst.String(), "no port, nothing to free")
}

func TestDigest(t *testing.T) {
	g := &Golden{}
	for i := range WrittenOut + 1 {
		f := modelFlows()[0]
		f.SrcPort = uint16(i)
		g.Flows = append(g.Flows, ModelFlows([]model.Flow{f}, testNames())...)
		e := testConnections()[0]
		e.SrcPort = uint16(i)
		g.Connections = append(g.Connections, Connections([]conntrack.Entry{e}, testNames())...)
	}
	data := Encode(g)
	require.Less(t, len(data), 1000)
	want, err := Decode("x.yaml", data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(Encode(want)))
	require.Equal(t, uint64(WrittenOut+1), want.FlowDigest.Records)
	require.Equal(t, uint64((WrittenOut+1)*444), want.FlowDigest.Bytes.Value)
	slices.Reverse(g.Flows)
	require.Empty(t, Compare(want, g, "golden"))
	g.Flows[3].Packets.Value++
	g.Connections[5].State = "reset"
	diffs := Compare(want, g, "golden")
	require.Len(t, diffs, 2)
	require.Equal(t, []string{"packets", "sha256"}, fieldNames(diffs[0].Fields))
	require.Equal(t, []string{"sha256"}, fieldNames(diffs[1].Fields))
}

func FuzzDecode(f *testing.F) {
	for i := range modelFlows() { // small seeds: the fuzzer takes long to shorten large ones
		g := &Golden{Flows: ModelFlows(modelFlows()[i:i+1], testNames())}
		f.Add(Encode(g))
		if err := g.Free(FreeNames()...); err != nil {
			f.Fatal(err)
		}
		f.Add(Encode(g))
	}
	f.Add(Encode(&Golden{Connections: Connections(testConnections(), testNames())}))
	f.Add(Encode(&Golden{Labels: testNames().Labels(), Counters: Counters(testCounters())}))
	f.Add([]byte("flows: [{src: a:1"))
	f.Add([]byte("flows: {records: 1, packets: 1, bytes: 1, sha256: x}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := Decode("x.yaml", data, FreeNames()...)
		if err != nil {
			require.Regexp(t, `^x\.yaml:\d+:\d+: `, err.Error())
			return
		}
		again := Encode(g)
		h, err := Decode("x.yaml", again, FreeNames()...)
		require.NoError(t, err, "%s", again)
		require.Equal(t, string(again), string(Encode(h)))
		require.Empty(t, Compare(g, h, "golden"))
	})
}
