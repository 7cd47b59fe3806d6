package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/static"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/spec"
)

// TestHeld: a record that should have waited for an owner is found.
func TestHeld(t *testing.T) {
	const second = int64(time.Second)
	p := &play{sc: &spec.Scenario{Cluster: &spec.Cluster{Wait: 20 * time.Second, Objects: static.File{
		Pods: map[string]static.Pod{"shop/late": {From: "1s", Told: "15s"}, "shop/early": {}}}}}}
	record := func(why flow.EndReason, dst flow.Labels) flow.Record {
		return flow.Record{Flow: 7, Reason: why, Start: start + 2*second, SrcLabels: &flow.Labels{Kind: flow.KindNode},
			DstLabels: &dst}
	}
	nobody, late := flow.Labels{Kind: flow.KindPrivate}, flow.Labels{Kind: flow.KindPod, Cluster: spec.ClusterName,
		Namespace: "shop", Pod: "late"}
	first, last := record(flow.EndActive, nobody), record(flow.EndIdle, late)
	require.Len(t, p.held([]flow.Record{first, last}), 1)
	require.Empty(t, p.held([]flow.Record{last, first}))
	require.Empty(t, p.held([]flow.Record{record(flow.EndActive, late), last}))
	other := last
	other.Flow = 8
	require.Empty(t, p.held([]flow.Record{first, other}))
	early := flow.Labels{Kind: flow.KindPod, Cluster: spec.ClusterName, Namespace: "shop", Pod: "early"}
	require.Empty(t, p.held([]flow.Record{first, record(flow.EndIdle, early)}))
	p.sc.Cluster.Wait = 13 * time.Second
	require.Empty(t, p.held([]flow.Record{first, last}), "told after the wait")
	p.sc.Cluster = nil
	require.Empty(t, p.held([]flow.Record{first, last}))
}

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
