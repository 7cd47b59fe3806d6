package report

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func scenario(r *result.Report, line, name string) *result.Scenario {
	k := byLine(r)[line]
	return &k.Scenarios[slices.IndexFunc(k.Scenarios, func(s result.Scenario) bool { return s.Name == name })]
}

func TestCompare(t *testing.T) {
	require.Equal(t, &Changes{}, Compare(sample(), sample()))
	for name, c := range map[string]struct {
		change func(r *result.Report)
		want   Changes
	}{
		"red": {func(r *result.Report) {
			s := scenario(r, "5.10", "tcp/close")
			s.Verdict, s.Reason = result.Fail, "1 difference from the model"
		}, Changes{Worse: []string{"tcp/close on 5.10: fail (1 difference from the model), was pass"}}},
		"skipped": {func(r *result.Report) {
			s := scenario(r, "5.10", "tcp/close")
			s.Verdict, s.Reason = result.Skip, "no sch_netem"
		}, Changes{Worse: []string{"tcp/close on 5.10: skip (no sch_netem), was pass"}}},
		"mended": {func(r *result.Report) { judgeAs(r, result.Pass) },
			Changes{Better: []string{"tcp/handshake-v4 on 6.1: pass, was fail"}}},
		"red otherwise": {func(r *result.Report) { judgeAs(r, result.Panic) },
			Changes{Other: []string{"tcp/handshake-v4 on 6.1: panic, was fail"}}},
		"gone": {func(r *result.Report) { r.Kernels[0].Scenarios = r.Kernels[0].Scenarios[1:] },
			Changes{Worse: []string{"icmp/echo on 5.10 is gone, was pass"}}},
		"new": {func(r *result.Report) {
			r.Kernels[0].Scenarios = append(r.Kernels[0].Scenarios,
				result.Scenario{Name: "a", Verdict: result.Pass}, result.Scenario{Name: "b", Verdict: result.Hang})
		}, Changes{Worse: []string{"b on 5.10 is new: hang"}, Other: []string{"a on 5.10 is new: pass"}}},
		"kernel gone": {func(r *result.Report) { r.Kernels = r.Kernels[1:] },
			Changes{Worse: []string{"kernel 5.10 is gone"}}},
		"kernel not to be had": {func(r *result.Report) {
			r.Kernels[0] = result.Kernel{Line: "5.10", Unavailable: "no mirror"}
		}, Changes{Worse: []string{"kernel 5.10 could not be had: no mirror"}}},
		"kernel to be had": {func(r *result.Report) { r.Kernels[6].Unavailable = "" },
			Changes{Better: []string{"kernel rc could be had: 0 passed, 0 failed"}}},
		"kernel new": {func(r *result.Report) {
			r.Kernels = append(r.Kernels, result.Kernel{Line: "7.4"})
		}, Changes{Other: []string{"kernel 7.4 is new: 0 passed, 0 failed"}}},
		"other version": {func(r *result.Report) { r.Kernels[0].Version = "5.10.0-43-amd64" },
			Changes{Other: []string{"kernel 5.10 is 5.10.0-43-amd64, was 5.10.0-42-amd64"}}},
		"verifier": {func(r *result.Report) {
			r.Kernels[0].Verified = map[string]int{"weir_packet": 2200, "weir_track": 9901, "new": 9}
		}, Changes{Worse: []string{"weir_track on 5.10: the verifier walks 9901 instructions, was 9000"}}},
		"instructions": {func(r *result.Report) {
			r.Kernels[0].Instructions = map[string]float64{"tcp4/hot": 472.5, "new": 9}
		}, Changes{Worse: []string{"tcp4/hot on 5.10: 472.5 instructions per packet, was 429.5"}}},
	} {
		t.Run(name, func(t *testing.T) {
			after := sample()
			c.change(after)
			require.Equal(t, &c.want, Compare(sample(), after))
		})
	}
}

// judgeAs gives a scenario that is red in the sample another verdict.
func judgeAs(r *result.Report, v result.Verdict) {
	s := scenario(r, "6.1", "tcp/handshake-v4")
	s.Verdict, s.Reason = v, ""
}

func TestMergeAndDiffCommands(t *testing.T) {
	before, all := t.TempDir(), t.TempDir()
	require.NoError(t, Write(before, sample()))
	reports, _ := shards(2)
	parts := []string{t.TempDir(), t.TempDir()}
	for i, r := range reports {
		require.NoError(t, Write(parts[i], r))
	}
	said, err := run("merge", parts[0], parts[1], "--dir", all)
	require.Equal(t, &judged{sample().ExitCode()}, err)
	require.Contains(t, said, verdicts(sample().Totals()))
	said, err = run("diff", before, all)
	require.NoError(t, err)
	require.Equal(t, "0 worse, 0 better, 0 other\n", said)

	worse := sample()
	s := scenario(worse, "5.10", "tcp/close")
	s.Verdict, s.Reason = result.Fail, hostile
	require.NoError(t, Write(all, worse))
	said, err = run("diff", before, all)
	require.Equal(t, &judged{result.ExitRed}, err)
	require.Contains(t, said, "worse:\n  tcp/close on 5.10: fail (</script>")
	require.NotContains(t, said, "\x1b")

	_, err = run("merge", parts[0], "--dir", all)
	require.ErrorContains(t, err, "lacks shard 2/2")
}
