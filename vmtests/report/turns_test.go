package report

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// along makes a report of one scenario with these verdicts on kernels 1, 2, ...
func along(verdicts ...result.Verdict) *result.Report {
	r := &result.Report{}
	for i, v := range verdicts {
		r.Kernels = append(r.Kernels, result.Kernel{Line: fmt.Sprint(i + 1),
			Scenarios: []result.Scenario{{Name: "tcp/x", Verdict: v}}})
	}
	return r
}

func TestTurns(t *testing.T) {
	cases := map[string]struct {
		r    *result.Report
		want []string
	}{
		"green":         {along(result.Pass, result.Pass), nil},
		"red":           {along(result.Fail, result.Panic), nil},
		"turns red":     {along(result.Pass, result.Pass, result.Fail, result.Fail), []string{"tcp/x: pass on 2, first fail on 3"}},
		"turns green":   {along(result.Splat, result.Pass), []string{"tcp/x: splat on 1, first pass on 2"}},
		"twice":         {along(result.Pass, result.Fail, result.Pass), []string{"tcp/x: pass on 1, first fail on 2"}},
		"past a skip":   {along(result.Pass, result.Skip, result.Hang), []string{"tcp/x: pass on 1, first hang on 3"}},
		"skipped first": {along(result.Skip, result.Fail), nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, newMatrix(c.r).turns()) })
	}
}

func TestCostTurns(t *testing.T) {
	r := along(result.Pass, result.Pass, result.Pass)
	r.Kernels[1].Unavailable = "not there"
	r.Kernels[2].Drift = []string{"weir_packet: 2 instructions", "weir_track: 3"}
	require.Equal(t, []string{"cost: as the baseline has it on 1, first otherwise on 3: weir_packet: 2 instructions"},
		newMatrix(r).turns())
	r.Kernels[0].Drift = []string{"from the first on"}
	require.Empty(t, newMatrix(r).turns())
}

func TestTurnsAreTold(t *testing.T) {
	r := along(result.Pass, result.Fail)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"table":    func(b *bytes.Buffer) error { return Table(b, r, false) },
		"markdown": func(b *bytes.Buffer) error { return Markdown(b, r) },
	} {
		var b bytes.Buffer
		require.NoError(t, write(&b), name)
		require.Contains(t, b.String(), "tcp/x: pass on 1, first fail on 2", name)
	}
}

// A note stands once, with the kernels on which it is the same.
func TestNotes(t *testing.T) {
	r := along(result.Pass, result.Pass, result.Fail)
	for k, notes := range [][]string{{"one"}, {"one", "two"}, nil} {
		r.Kernels[k].Scenarios[0].Notes = notes
	}
	want := []string{"tcp/x on 1, 2: one", "tcp/x on 2: two"}
	require.Equal(t, want, newMatrix(r).notes())
	for name, write := range map[string]func(*bytes.Buffer) error{
		"table":    func(b *bytes.Buffer) error { return Table(b, r, false) },
		"markdown": func(b *bytes.Buffer) error { return Markdown(b, r) },
	} {
		var b bytes.Buffer
		require.NoError(t, write(&b))
		for _, line := range want {
			require.Contains(t, b.String(), line, name)
		}
	}
}
