package report

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// shards cuts the sample into n.
func shards(n int) (reports []*result.Report, names []string) {
	for i := range n {
		s := result.Shard{Index: i + 1, Count: n}
		r := sample()
		r.Shard = s.String()
		for k := range r.Kernels {
			var part []result.Scenario
			for j, of := range r.Kernels[k].Scenarios {
				if s.Has(j) {
					part = append(part, of)
				}
			}
			r.Kernels[k].Scenarios = part
		}
		reports = append(reports, r)
		names = append(names, fmt.Sprintf("machine%d", i+1))
	}
	return reports, names
}

// TestMerge cuts a report and puts it together again.
func TestMerge(t *testing.T) {
	for n := 1; n < 5; n++ {
		reports, names := shards(n)
		all, err := Merge(reports, names)
		require.NoError(t, err)
		require.Empty(t, Compare(sample(), all).Worse)
		require.Equal(t, sample().Totals(), all.Totals())
		require.Equal(t, sample().ExitCode(), all.ExitCode())
		require.Empty(t, all.Shard)
		require.Len(t, all.Kernels, len(sample().Kernels))
	}
}

func TestMergeKernels(t *testing.T) {
	a, b := sample(), sample()
	a.Kernels, b.Kernels = a.Kernels[:2], b.Kernels[2:]
	b.Started = a.Started.Add(-1)
	all, err := Merge([]*result.Report{a, b}, []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, b.Started, all.Started)
	require.Equal(t, sample().Totals(), all.Totals())
}

// TestMergeUnavailable has a machine that could not have a kernel: that is seen.
func TestMergeUnavailable(t *testing.T) {
	reports, names := shards(2)
	reports[1].Kernels[0] = result.Kernel{Line: "5.10", Unavailable: "no mirror"}
	all, err := Merge(reports, names)
	require.NoError(t, err)
	require.Equal(t, 2, all.Totals().Unavailable)
}

func TestMergeErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r []*result.Report) []*result.Report
		want   string
	}{
		"none":    {func([]*result.Report) []*result.Report { return nil }, "no report"},
		"missing": {func(r []*result.Report) []*result.Report { return r[1:] }, "5.10 lacks shard 1/3; there are 2/3, 3/3"},
		"twice":   {func(r []*result.Report) []*result.Report { return append(r, r[0]) }, "is in machine1 and in machine4"},
		"other suite": {func(r []*result.Report) []*result.Report {
			r[2].Shard = "3/4"
			return r
		}, "5.10 has shards of different suites: 1/3, 2/3, 3/4"},
		"part and whole": {func(r []*result.Report) []*result.Report {
			r[0].Shard = ""
			return r
		}, "different suites"},
		"other kernel": {func(r []*result.Report) []*result.Report {
			r[1].Kernels[1].Version = "6.1.0-52-amd64"
			return r
		}, "6.1 is 6.1.0-51-amd64 in machine1, 6.1.0-52-amd64 in machine2"},
		"other machines": {func(r []*result.Report) []*result.Report {
			r[1].Kernels[1].Lane = "smp 2"
			return r
		}, "6.1 ran on other machines in machine1 (tcg) than in machine2 (tcg smp 2)"},
		"other weir": {func(r []*result.Report) []*result.Report {
			r[2].Weir = "v0.3.0"
			return r
		}, "machine3 is of weir v0.3.0, machine1 of v0.2.0"},
		"no shard": {func(r []*result.Report) []*result.Report {
			r[0].Shard = "4/3"
			return r
		}, "want I/N"},
	} {
		reports, names := shards(3)
		_, err := Merge(c.change(reports), append(names, "machine4"))
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestExitCode(t *testing.T) {
	pass := []result.Scenario{{Verdict: result.Pass}}
	tests := map[string]struct {
		kernels []result.Kernel
		allow   bool
		code    int
	}{
		"green":           {[]result.Kernel{{Line: "6.1", Scenarios: pass}}, false, result.ExitGood},
		"nothing":         {nil, false, result.ExitHarness},
		"all unavailable": {[]result.Kernel{{Line: "rc", Unavailable: "x"}}, true, result.ExitHarness},
		"rc missing": {[]result.Kernel{{Line: "6.1", Scenarios: pass},
			{Line: "rc", Unavailable: "x"}}, false, result.ExitGood},
		"line missing": {[]result.Kernel{{Line: "6.1", Scenarios: pass},
			{Line: "5.10", Unavailable: "x"}}, false, result.ExitHarness},
		"line missing, allowed": {[]result.Kernel{{Line: "6.1", Scenarios: pass},
			{Line: "5.10", Unavailable: "x"}}, true, result.ExitGood},
		"red": {[]result.Kernel{{Line: "6.1", Scenarios: []result.Scenario{
			{Verdict: result.Pass}, {Verdict: result.Panic}}}}, false, result.ExitRed},
	}
	for name, tt := range tests {
		require.Equal(t, tt.code, ExitCode(&result.Report{Kernels: tt.kernels}, tt.allow), name)
	}
}
