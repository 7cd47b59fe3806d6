package golden

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

func TestIdentities(t *testing.T) {
	record := func(boot string, id uint64, port uint16, start, end int64) flow.Record {
		return flow.Record{Boot: boot, Flow: id, Src: netip.MustParseAddr("10.0.0.1"), SrcPort: port,
			Dst: netip.MustParseAddr("10.0.0.2"), DstPort: 80, Protocol: 6, Start: start, End: end, State: "closed"}
	}
	back := func(r flow.Record) flow.Record {
		r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
		return r
	}
	for name, tc := range map[string]struct {
		records []flow.Record
		want    string // of the only difference
	}{
		"both directions":      {[]flow.Record{record("a", 1, 9, 5, 9), back(record("a", 1, 9, 6, 9))}, ""},
		"one after another":    {[]flow.Record{record("a", 1, 9, 5, 9), record("a", 2, 9, 9, 12)}, ""},
		"other maps":           {[]flow.Record{record("a", 1, 9, 5, 9), record("b", 1, 10, 5, 9)}, ""},
		"two connections":      {[]flow.Record{record("a", 1, 9, 5, 9), record("a", 1, 10, 5, 9)}, "1 is of another, too"},
		"an id a direction":    {[]flow.Record{record("a", 1, 9, 5, 9), back(record("a", 2, 9, 6, 8))}, "1 and 2"},
		"still there, and new": {[]flow.Record{record("a", 1, 9, 1, 2), record("a", 2, 9, 4, 5), record("a", 1, 9, 6, 7)}, "1 and 2"},
	} {
		t.Run(name, func(t *testing.T) {
			diffs := Identities(tc.records, TopologyNames(spec.Topology{}))
			if tc.want == "" {
				require.Empty(t, diffs)
				return
			}
			require.Len(t, diffs, 1)
			require.Equal(t, tc.want, diffs[0].Fields[0].Got)
		})
	}
}
