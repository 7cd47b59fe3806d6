package golden

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
)

func fieldNames(fields []result.Field) []string {
	var names []string
	for _, f := range fields {
		names = append(names, f.Name)
	}
	return names
}

// kinds shortens differences to what tests are about.
func kinds(diffs []result.Difference) []string {
	var all []string
	for _, d := range diffs {
		s := d.Section + " " + d.Kind
		for _, f := range d.Fields {
			s += " " + f.Name + "=" + f.Want + "/" + f.Got
		}
		all = append(all, s)
	}
	return all
}

// compareTests are changes to testGolden and what differs by them. Of the flows, 5 and 6 are the
// two directions of a connection, and 7 is another connection on the same tuple.
var compareTests = []struct {
	name   string
	change func(g *Golden)
	want   []string
}{
	{"nothing", func(g *Golden) {}, nil},
	{"missing flow", func(g *Golden) { g.Flows = g.Flows[1:] }, []string{"flows missing"}},
	{"extra flow", func(g *Golden) {
		f := g.Flows[0]
		f.Proto, f.Src.Host, f.Packets, f.Bytes, f.Seen = "gre", "gw", N(9), N(999), nil
		g.Flows = append(g.Flows, f)
	}, []string{"flows extra"}},
	{"duplicate flow", func(g *Golden) { g.Flows = append(g.Flows, g.Flows[5]) },
		[]string{"flows duplicate"}},
	{"three times", func(g *Golden) { g.Flows = append(g.Flows, g.Flows[5], g.Flows[5]) },
		[]string{"flows duplicate", "flows duplicate"}},
	{"fields", func(g *Golden) {
		g.Flows[5].Packets, g.Flows[5].End, g.Flows[5].State = N(7), "idle", "reset"
	}, []string{"flows differs packets=6/7 end=end-detected/idle state=closed/reset"}},
	{"seen", func(g *Golden) { g.Flows[5].Seen = []string{"server/eth0 egress"} },
		[]string{"flows differs seen=[server/eth0 ingress]/[server/eth0 egress]"}},
	{"initiator", func(g *Golden) { g.Flows[5].Initiator = InitiatorDst },
		[]string{"flows differs initiator=src/dst"}},
	{"port", func(g *Golden) { g.Flows[5].Src.Port = "40009" },
		[]string{"flows differs src=client:40000/client:40009"}},
	{"another direction in its place", func(g *Golden) { g.Flows[5] = g.Flows[6] },
		[]string{"flows missing", "flows duplicate"}},
	{"nearest of the tuple", func(g *Golden) { // two connections on one tuple
		g.Flows[5].Bytes, g.Flows[7].Bytes = N(445), N(55)
		g.Flows[5], g.Flows[7] = g.Flows[7], g.Flows[5]
	}, []string{"flows differs bytes=444/445", "flows differs bytes=54/55"}},
	{"connection", func(g *Golden) { g.Connections[1].Reverse = N(9) },
		[]string{"connections differs reverse=4/9"}},
	{"time left", func(g *Golden) { g.Connections[0].Left = "29s" },
		[]string{"connections differs left=30s/29s"}},
	{"initiator unknown", func(g *Golden) { g.Connections[0].Known = false },
		[]string{"connections differs initiator=/unknown"}},
	{"label", func(g *Golden) { g.Labels["client"]["host"] = "other" },
		[]string{"labels differs host=client/other"}},
	{"more labels", func(g *Golden) { g.Labels["x"] = map[string]string{"y": "z"} },
		[]string{"labels extra"}},
	{"counters", func(g *Golden) {
		g.Counters[0].Seen.Packets = N(11)
		g.Counters[1].LeftOut["filter"] = Traffic{N(4), N(180)}
		g.Counters[1].Lost["not-ip"] = Traffic{N(2), N(201)}
		g.Counters[1].Lost["no-hook"] = Traffic{N(1), N(1)}
	}, []string{"counters differs seen.packets=10/11",
		"counters differs left_out.filter.packets=3/4 lost.not-ip.bytes=200/201 lost.no-hook.packets=/1 " +
			"lost.no-hook.bytes=/1"}},
	{"no counters", func(g *Golden) { g.Counters = nil },
		[]string{"counters missing", "counters missing"}},
}

func TestCompare(t *testing.T) {
	for _, tt := range compareTests {
		t.Run(tt.name, func(t *testing.T) {
			got := testGolden()
			tt.change(got)
			diffs := Compare(testGolden(), got, "model")
			require.Equal(t, tt.want, kinds(diffs))
			for _, d := range diffs {
				require.Equal(t, "model", d.Against)
				require.Contains(t, d.Record, "{")
			}
		})
	}
}

// Free values go with anything, but each record of want with one of got.
func TestCompareFree(t *testing.T) {
	want := &Golden{Flows: ModelFlows(modelFlows()[:1], testNames())}
	want.Flows = append(want.Flows, want.Flows[0])
	want.Flows[0].Packets = Number{Free: true}
	got := &Golden{Flows: ModelFlows(modelFlows()[:1], testNames())}
	require.Equal(t, []string{"flows missing"}, kinds(Compare(want, got, "golden")))
	got.Flows = append(got.Flows, got.Flows[0])
	got.Flows[0].Packets = N(99)
	require.Empty(t, Compare(want, got, "golden"))
	got.Flows[1].Packets = N(98)
	require.Equal(t, []string{"flows differs packets=6/98"}, kinds(Compare(want, got, "golden")))
	require.NoError(t, want.Free("client_port"))
	got.Flows[0].Src.Port, got.Flows[1].Src.Port = "1", "2"
	require.Equal(t, []string{"flows differs packets=6/98"}, kinds(Compare(want, got, "golden")))
	got.Flows[0].Src.Host = "server"
	require.Len(t, Compare(want, got, "golden"), 1)
}

func TestConservation(t *testing.T) {
	flows := []Flow{{Packets: N(6), Bytes: N(600)}, {Packets: N(4), Bytes: N(7)}}
	require.Empty(t, Conservation(testCounters(), flows, nil))

	require.Equal(t, []string{"conservation differs packets=10/6 bytes=607/600"},
		kinds(Conservation(testCounters(), flows[:1], nil)))
	require.Len(t, Conservation(testCounters(), nil, nil), 1, "no flows at all")

	books := testCounters()
	c := books[ingress]
	c.Observed.Bytes = 5
	books[ingress] = c
	diffs := Conservation(books, flows, nil)
	require.Equal(t, []string{"conservation differs bytes=1300/1305"}, kinds(diffs))
	require.Equal(t, "server/eth0 ingress: seen = accounted + observed + left out + lost", diffs[0].Record)

	witness := map[flow.Hook]model.Count{ingress: {Packets: 13, Bytes: 1300},
		egress: {Packets: 11, Bytes: 10}, {Interface: "eth9"}: {Packets: 1, Bytes: 60}}
	diffs = Conservation(testCounters(), flows, witness)
	require.Equal(t, []string{"conservation differs packets=1/0 bytes=60/0",
		"conservation differs packets=11/10"}, kinds(diffs))
	require.Equal(t, "witness", diffs[0].Against)
}
