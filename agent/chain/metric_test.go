package chain_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
)

// TestReadings: metrics tell what members have counted, on all CPUs, also after a change; and a metric that an
// object cannot have is refused before anything changes.
func TestReadings(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		one, two := b.member(w.kind, 1, 10, pass(w.kind), 1), b.member(w.kind, 2, 20, pass(w.kind), 1)
		seen := chain.Metric{Map: "seen", As: chain.AsMaxRate}
		one.Metrics = []chain.Metric{seen, {Map: "seen", Key: 7}}
		two.Metrics, two.Disabled = []chain.Metric{seen}, true
		b.mustApply(b.chain(w.kind, w.backend, one, two))
		read := func() []chain.Reading {
			var all []chain.Reading
			b.manager(func(m *chain.Manager) { all = m.Readings() })
			require.Len(t, all, 2)
			for _, r := range all {
				require.NoError(t, r.Err)
				require.Equal(t, one.Name, r.Member)
			}
			require.Equal(t, seen, all[0].Metric)
			require.Zero(t, all[1].Value, "there is no such key")
			return all
		}
		before := read()[0].Value // the network may have sent something by itself
		b.send(w.kind, 5)
		now := read()
		require.GreaterOrEqual(t, now[0].Value, before+5)
		one.Priority = 30
		b.mustApply(b.chain(w.kind, "", one, two))
		require.GreaterOrEqual(t, read()[0].Value, now[0].Value)

		for metric, want := range map[chain.Metric]string{
			{Map: "nowhere"}: "metric of map nowhere: the object has no such map",
			{Map: "traces"}:  "metric of map traces: its values have",
			{Map: "whole"}:   "does not use map whole",
		} {
			one.Metrics = []chain.Metric{metric}
			ch := b.chain(w.kind, w.backend, one)
			b.manager(func(m *chain.Manager) {
				_, err := m.Apply(&chain.Spec{Chains: []chain.Chain{ch}}, chain.ApplyOptions{})
				require.ErrorContains(t, err, want)
			})
			read()
		}
	})
}
