package report

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// oneRun is a report of one scenario on one kernel, once for each verdict.
func oneRun(weir, version string, verdicts ...result.Verdict) *result.Report {
	k := result.Kernel{Line: "6.1", Version: version}
	for _, v := range verdicts {
		k.Scenarios = append(k.Scenarios, result.Scenario{Name: "tcp/reset", Verdict: v, Reason: "why"})
	}
	return &result.Report{Weir: weir, Kernels: []result.Kernel{k}}
}

func TestFlakes(t *testing.T) {
	flake := func(runs, red int) []result.Flake {
		return []result.Flake{{Scenario: "tcp/reset", Kernel: "6.1", Version: "6.1.0", Weir: "a", Runs: runs, Red: red, Reason: "why"}}
	}
	for name, tc := range map[string]struct {
		runs []*result.Report
		want []result.Flake
	}{
		"none":               {nil, nil},
		"always green":       {[]*result.Report{oneRun("a", "6.1.0", result.Pass), oneRun("a", "6.1.0", result.Pass)}, nil},
		"always red":         {[]*result.Report{oneRun("a", "6.1.0", result.Fail), oneRun("a", "6.1.0", result.Hang)}, nil},
		"red once":           {[]*result.Report{oneRun("a", "6.1.0", result.Pass, result.Fail, result.Pass)}, flake(3, 1)},
		"in several reports": {[]*result.Report{oneRun("a", "6.1.0", result.Fail), oneRun("a", "6.1.0", result.Pass)}, flake(2, 1)},
		"another binary":     {[]*result.Report{oneRun("a", "6.1.0", result.Fail), oneRun("b", "6.1.0", result.Pass)}, nil},
		"another kernel":     {[]*result.Report{oneRun("a", "6.1.0", result.Fail), oneRun("a", "6.1.9", result.Pass)}, nil},
		"a skip is no run":   {[]*result.Report{oneRun("a", "6.1.0", result.Fail, result.Skip)}, nil},
	} {
		require.Equal(t, tc.want, Flakes(tc.runs), name)
	}
}

func TestAddHistory(t *testing.T) {
	now := oneRun("b", "6.1.0", result.Pass)
	now.Kernels[0].Scenarios = append(now.Kernels[0].Scenarios, result.Scenario{Name: "tcp/new", Verdict: result.Pass})
	AddHistory(now, []*result.Report{oneRun("a", "6.1.0", result.Pass), oneRun("a", "6.1.0", result.Fail)})
	require.Equal(t, "was fail", now.Kernels[0].Scenarios[0].Change, "the latest counts")
	require.Equal(t, "is new", now.Kernels[0].Scenarios[1].Change)
	require.Len(t, now.Flaky, 1)

	same := oneRun("b", "6.1.0", result.Pass)
	AddHistory(same, []*result.Report{oneRun("b", "6.1.0", result.Pass)})
	require.Empty(t, same.Kernels[0].Scenarios[0].Change)
	require.Empty(t, same.Flaky)
	AddHistory(same, nil)
	require.Empty(t, same.Kernels[0].Scenarios[0].Change, "without history nothing is new")
}

func TestCosts(t *testing.T) {
	kernels := []*result.Kernel{
		{Verified: map[string]int{"one": 1000, "two": 10}}, {Unavailable: "gone"},
		{Verified: map[string]int{"one": 1040}}, {Verified: map[string]int{"one": 2000, "two": 11}},
	}
	tables := costTables(kernels, []string{"5.10", "6.1", "6.12", "newest"})
	require.Len(t, tables, 1)
	one, two := tables[0].Rows[0], tables[0].Rows[1]
	require.Equal(t, "first on newest: 2000, before 1040", one.First)
	require.Equal(t, []costCell{{1000, true, 50, false}, {}, {1040, true, 52, false}, {2000, true, 100, true}}, one.Cells)
	require.Equal(t, "first on newest: 11, before 10", two.First)
}

func TestTimes(t *testing.T) {
	rows := timeRows([]*result.Kernel{{Millis: 1000, BootMillis: 300, LoadMillis: 100,
		Scenarios: []result.Scenario{{Millis: 250}, {Millis: 150}}}, {Unavailable: "gone", Millis: 5}}, []string{"a", "b"})
	require.Equal(t, []timeRow{{"a", 1000, []timePart{{"boot", 300, 30}, {"load", 100, 10},
		{"scenarios", 400, 40}, {"other", 200, 20}}}}, rows)
}
