package golden

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
)

// A field may differ within its tolerance alone, whatever section it is in; what differs beside it, or by
// more, is told as without tolerances.
func TestCompareWithin(t *testing.T) {
	within := []spec.Tolerance{
		{Field: "packets", Within: spec.Bound{Count: 2}, Reason: "sockets decide"},
		{Field: "bytes", Within: spec.Bound{Percent: 1}, Reason: "sockets decide"},
		{Field: "left", Within: spec.Bound{Duration: time.Second}, Reason: "time passes"},
	}
	for _, c := range []struct {
		name    string
		change  func(g *Golden)
		allowed []string
		differ  []string
	}{
		{"nothing", func(*Golden) {}, nil, nil},
		{"packets within", func(g *Golden) { g.Flows[5].Packets = N(8) }, []string{"flows packets=6/8"}, nil},
		{"packets beyond", func(g *Golden) { g.Flows[5].Packets = N(9) }, nil, []string{"flows differs packets=6/9"}},
		{"another field", func(g *Golden) { g.Flows[5].Packets, g.Flows[5].End = N(7), "idle" }, nil,
			[]string{"flows differs packets=6/7 end=end-detected/idle"}},
		{"both", func(g *Golden) { g.Flows[5].Packets, g.Flows[5].Bytes = N(5), N(448) },
			[]string{"flows packets=6/5", "flows bytes=444/448"}, nil},
		{"one of both", func(g *Golden) { g.Flows[5].Packets, g.Flows[5].Bytes = N(5), N(449) }, nil,
			[]string{"flows differs packets=6/5 bytes=444/449"}},
		{"a connection", func(g *Golden) { g.Connections[0].Left, g.Connections[1].Reverse = "29s", N(5) },
			[]string{"connections left=30s/29s", "connections reverse=4/5"}, nil},
		{"a hook", func(g *Golden) { g.Counters[0].Seen.Packets = N(11) }, []string{"counters seen.packets=10/11"}, nil},
		{"another flow", func(g *Golden) { g.Flows[5].Packets, g.Flows[5].Src.Port = N(7), "1" }, nil,
			[]string{"flows differs src=client:40000/client:1 packets=6/7"}},
		{"one more", func(g *Golden) {
			f := g.Flows[5]
			f.Packets = N(7)
			g.Flows = append(g.Flows, f)
		}, nil, []string{"flows extra"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := testGolden()
			c.change(got)
			diffs, allowed := CompareWithin(testGolden(), got, "golden", within)
			var told []string
			for _, a := range allowed {
				told = append(told, a.Section+" "+a.Field.Name+"="+a.Field.Want+"/"+a.Field.Got)
				require.Contains(t, a.String(), "want "+a.Field.Want+", got "+a.Field.Got+", within "+
					a.Tolerance.Within.String()+": "+a.Tolerance.Reason)
			}
			require.Equal(t, c.allowed, told)
			require.Equal(t, c.differ, kinds(diffs))
		})
	}
}
