package golden

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/spec"
)

// rec is a record of one flow: packets before it, its packets of 100 bytes each.
func rec(boot string, seq, before, packets uint64, end flow.EndReason) flow.Record {
	return flow.Record{Boot: boot, Sequence: seq, Flow: 1, Src: client, Dst: server,
		SrcPort: 40000, DstPort: 80, Protocol: 6, Packets: packets, Bytes: 100 * packets,
		PacketsBefore: before, Flags: flow.ACK, Role: flow.RoleInitiator, State: "established",
		Reason: end, Seen: []flow.Hook{ingress}}
}

func TestRecords(t *testing.T) {
	const active, idle, forced = flow.EndActive, flow.EndIdle, flow.EndForced
	later := rec("b", 1, 0, 2, idle)
	later.Start, later.End = 50, 60
	other := rec("a", 2, 0, 1, idle)
	other.Src, other.Dst, other.SrcPort, other.DstPort = server, client, 80, 40000
	other.Role = flow.RoleResponder
	tests := []struct {
		name    string
		records []flow.Record
		packets []uint64 // of each flow
		want    []string
	}{
		{"none", nil, nil, nil},
		{"one", []flow.Record{rec("a", 1, 0, 3, idle)}, []uint64{3}, nil},
		{"summed", []flow.Record{rec("a", 1, 0, 3, active), rec("a", 2, 3, 4, active),
			rec("a", 3, 7, 0, idle)}, []uint64{7}, nil},
		{"both directions", []flow.Record{rec("a", 1, 0, 3, idle), other}, []uint64{3, 1}, nil},
		{"evicted", []flow.Record{rec("a", 1, 0, 3, active), rec("a", 2, 3, 1, flow.EndResource)},
			[]uint64{4}, nil},
		{"repeated record", []flow.Record{rec("a", 1, 0, 3, active), rec("a", 1, 0, 3, active)},
			[]uint64{3}, []string{"flows duplicate sequence=once/1 again"}},
		{"counted twice", []flow.Record{rec("a", 1, 0, 3, active), rec("a", 2, 0, 3, active)},
			[]uint64{3}, []string{"flows duplicate packets_before=3/0"}},
		{"overlap", []flow.Record{rec("a", 1, 0, 3, active), rec("a", 2, 2, 3, active)},
			[]uint64{3}, []string{"flows duplicate packets_before=3/2"}},
		{"gap", []flow.Record{rec("a", 1, 0, 3, active), rec("a", 2, 5, 3, active)},
			[]uint64{6}, []string{"flows missing packets_before=3/5"}},
		{"first is missing", []flow.Record{rec("a", 2, 5, 3, active)},
			[]uint64{3}, []string{"flows missing packets_before=0/5"}},
		{"goes on after a crash", []flow.Record{rec("a", 1, 0, 3, active),
			rec("b", 1, 3, 2, idle)}, []uint64{5}, nil},
		{"reported again after a crash", []flow.Record{rec("a", 1, 0, 3, active),
			rec("a", 2, 3, 2, active), rec("b", 1, 3, 6, idle)}, []uint64{9}, nil},
		{"all again after a crash", []flow.Record{rec("a", 1, 0, 3, active),
			rec("a", 2, 3, 2, active), rec("b", 1, 0, 6, idle)}, []uint64{6}, nil},
		{"in part again after a crash", []flow.Record{rec("a", 1, 0, 3, active),
			rec("b", 1, 2, 6, idle)}, []uint64{3}, []string{"flows duplicate packets_before=3/2"}},
		{"last record again after a crash", []flow.Record{rec("a", 1, 0, 3, idle),
			rec("b", 1, 0, 3, idle)}, []uint64{3}, nil},
		{"the same id after a restart", []flow.Record{rec("a", 1, 0, 3, forced), later},
			[]uint64{2, 3}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flows, diffs := Records(tt.records, testNames())
			require.Equal(t, tt.want, kinds(diffs))
			var got []uint64
			for _, f := range flows {
				require.Equal(t, 100*f.Packets.Value, f.Bytes.Value)
				got = append(got, f.Packets.Value)
			}
			require.ElementsMatch(t, tt.packets, got)
		})
	}
}

// Records without room in the table have no identity but their tuple.
func TestOverflowRecords(t *testing.T) {
	a, b := rec("a", 1, 0, 3, flow.EndResource), rec("a", 2, 0, 2, flow.EndResource)
	a.State, b.State = "none", "none"
	b.Flow, b.Flags, b.Seen = 99, flow.SYN, []flow.Hook{egress, ingress}
	mine := rec("a", 3, 0, 1, flow.EndIdle)
	flows, diffs := Records([]flow.Record{a, b, mine}, testNames())
	require.Empty(t, diffs)
	require.Len(t, flows, 2)
	require.Equal(t, N(5), flows[0].Packets)
	require.Equal(t, "SYN|ACK", flows[0].Flags)
	require.Equal(t, []string{"server/eth0 ingress", "server/eth0 egress"}, flows[0].Seen)
	require.Equal(t, N(1), flows[1].Packets)
}

// What an agent would report of the model's flows is the same in canonical form.
func TestRecordsAgreeWithModel(t *testing.T) {
	all := append(modelFlows(), translatedFlows()...)
	var records []flow.Record
	for i, m := range all {
		records = append(records, flow.Record{Boot: "b", Sequence: uint64(i), Flow: uint64(i),
			Zone: m.Zone, Src: m.Src, Dst: m.Dst, SrcPort: m.SrcPort, DstPort: m.DstPort,
			Protocol: m.Protocol, Cites: m.Cites, ICMPType: m.ICMPType, ICMPCode: m.ICMPCode,
			ICMPID: m.ICMPID, Packets: m.Packets, Bytes: m.Bytes, Flags: m.Flags, Role: m.Role,
			State: m.State.String(), Reason: m.Reason, ICMPError: m.ICMPError, Seen: m.Seen,
			NATBefore: m.NATBefore, NATAfter: m.NATAfter})
	}
	var lines strings.Builder
	for _, r := range records {
		require.NoError(t, json.NewEncoder(&lines).Encode(r))
	}
	read, err := ParseOutput("flows.json", []byte(lines.String()))
	require.NoError(t, err)
	require.Equal(t, records, read.Flows)
	got, diffs := Records(read.Flows, testNames())
	require.Empty(t, diffs)
	require.Empty(t, Compare(&Golden{Flows: ModelFlows(all, testNames())},
		&Golden{Flows: got}, "model"))
}

func TestParseOutput(t *testing.T) {
	for _, bad := range []string{"\n{", `{"boot":"a"`, `{"bot":"a"}`, `{} {}`, "[]", `{}x`} {
		_, err := ParseOutput("f.json", []byte(bad))
		require.ErrorContains(t, err, "f.json:", bad)
	}
	got, err := ParseOutput("f.json", []byte("\n{\"boot\":\"a\"}\r\n\n{\"dns\":{}}\n{\"drop\":{}}\n{\"boot\":\"b\"}"))
	require.NoError(t, err)
	require.Len(t, got.Flows, 2)
	require.Len(t, got.DNS, 1)
	require.Len(t, got.Drops, 1)
}

func TestNames(t *testing.T) {
	shared := netip.MustParseAddr("192.0.2.9")
	n := NewNames(map[string][]netip.Addr{
		"a": {client, client6, client}, "b": {gateway1, gateway2, server6, stranger, shared},
		"c": {shared}, "d": nil})
	for addr, want := range map[netip.Addr]string{client: "a", client6: "a/v6",
		gateway2: "b(10.0.1.254)", stranger: "b(2001:db8:ffff::1)", server: "10.0.0.2",
		shared: "192.0.2.9"} {
		require.Equal(t, want, n.Of(addr))
		e := n.endpoint(addr, 53, true)
		back, err := parseEndpoint(e.String(), true)
		require.NoError(t, err)
		require.Equal(t, e, back)
	}
	require.Equal(t, "[2001:db8::9]:0", n.endpoint(netip.MustParseAddr("2001:db8::9"), 0,
		true).String())
	require.Len(t, n.Labels(), 4)
	require.Equal(t, map[string]string{"host": "d"}, n.Labels()["d"])
	interfaces := []spec.Interface{
		{Name: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(client, 24)}},
		{Name: "eth1", Addresses: []netip.Prefix{netip.PrefixFrom(server, 24),
			netip.PrefixFrom(server6, 64)}}}
	names := TopologyNames(spec.Topology{
		Hosts: []spec.Host{{Name: "h", Interfaces: interfaces}}})
	require.Equal(t, []string{"h(10.0.0.1)", "h(10.0.0.2)", "h/v6"},
		[]string{names.Of(client), names.Of(server), names.Of(server6)})
	require.Equal(t, "10.0.0.1", (&Names{}).Of(client))
}

func TestProtocolNames(t *testing.T) {
	for i := range 256 {
		n, err := parseProtocol(Protocol(uint8(i)))
		require.NoError(t, err)
		require.Equal(t, uint8(i), n)
	}
}

func TestUnknownInitiatorIsLowerFirst(t *testing.T) {
	e := conntrack.Entry{Src: server, Dst: client, SrcPort: 1, DstPort: 2, Protocol: 6,
		Forward: conntrack.Leg{Packets: 5}, State: conntrack.StateEstablished}
	c := Connections([]conntrack.Entry{e}, testNames())[0]
	require.Equal(t, "client:2", c.Client.String())
	require.Equal(t, N(5), c.Reverse)
}

// What no rule makes still has a form of its own, so that it shows as a difference.
func TestOddValues(t *testing.T) {
	r := rec("a", 1, 0, 1, flow.EndIdle)
	r.Role, r.Protocol, r.ICMPType, r.ICMPID = "chief", 1, 3, 7
	r.Seen = []flow.Hook{ingress, {Interface: "z", Direction: "up"}, egress}
	f, _ := Records([]flow.Record{r}, testNames())
	require.Equal(t, "{src: client, dst: server, proto: icmp, icmp: 3/0 id=7, packets: 1, "+
		"bytes: 100, flags: ACK, end: idle, state: established, seen: [server/eth0 ingress, "+
		"server/eth0 egress, z up], initiator: chief}", f[0].record().line())
	require.Empty(t, icmpForm(6, 0, 1, 1, 1))
	require.Equal(t, "128/1", icmpForm(58, 0, 128, 1, 0))
}

// A packet's way through the model to a file and back.
func TestModelToFile(t *testing.T) {
	m := model.New(model.Config{})
	m.Packet(ingress, 0, make([]byte, 20))
	m.Stop(0)
	g := &Golden{Flows: ModelFlows(m.Flows(), testNames()),
		Connections: Connections(m.Connections(0), testNames()), Counters: Counters(m.Counters())}
	require.Empty(t, Conservation(m.Counters(), g.Flows, nil))
	require.Equal(t, header+`flows: []
connections: []
counters:
  - {hook: server/eth0 ingress, seen: 1/20, accounted: 0/0, lost: {not-ip: 1/20}}
`, string(Encode(g)))
}
