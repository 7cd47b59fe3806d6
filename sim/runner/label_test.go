package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/spec"
)

// TestLabelledAll: a record without a class and a reason is found, and a byte that no label's count has.
func TestLabelledAll(t *testing.T) {
	good := flow.Record{SrcLabels: &flow.Labels{}, DstLabels: &flow.Labels{}, Class: "SAME_HOST"}
	unknown := good
	unknown.Class, unknown.Unlabelled = "UNKNOWN", "past-owner"
	stats := labeler.Stats{Labelled: labeler.Count{Packets: 1, Bytes: 60},
		Unknown: map[string]labeler.Count{"past-owner": {Packets: 1, Bytes: 40}}}
	p := &play{sc: &spec.Scenario{Cluster: &spec.Cluster{}},
		ledgers: []control.Counters{{Reported: bpf.Count{Packets: 2, Bytes: 100}, Labels: &stats}}}
	require.Empty(t, p.labelled([]flow.Record{good, unknown}))

	for _, change := range []func(*flow.Record){
		func(r *flow.Record) { r.Class = "" },
		func(r *flow.Record) { r.Class = "UNKNOWN" },
		func(r *flow.Record) { r.Unlabelled = "past-owner" },
		func(r *flow.Record) { r.DstLabels = nil },
	} {
		bad := good
		change(&bad)
		require.Len(t, p.labelled([]flow.Record{good, bad}), 1)
	}
	p.ledgers[0].Reported.Bytes++
	require.Len(t, p.labelled(nil), 1)
	p.ledgers[0].Labels = nil
	require.Len(t, p.labelled(nil), 1)
	p.sc.Cluster = nil
	require.Empty(t, p.labelled([]flow.Record{{}}))
}
