package vmtests

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/kernel"
)

func TestUsageErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("WEIR_CACHE", t.TempDir())
	for _, args := range [][]string{
		{"run", "--kernel", "6.x.1"}, {"run", "--accel", "hvf"}, {"run", "--run", "("},
		{"run", "nowhere"}, {"list", "five"}, {"pull", "five"}, {"shell", "all"},
		{"selftest", "--kernel", "x"},
	} {
		cmd := Command()
		cmd.SetArgs(args)
		err := cmd.Execute()
		var exit *ExitError
		require.ErrorAs(t, err, &exit, args)
		require.Equal(t, result.ExitUsage, exit.ExitCode(), args)
		require.False(t, exit.Silent())
		require.NotEmpty(t, exit.Error())
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
		f := runFlags{allowUnavailable: tt.allow}
		require.Equal(t, tt.code, f.exitCode(&result.Report{Kernels: tt.kernels}), name)
	}
}

func TestExitError(t *testing.T) {
	cause := errors.New("cause")
	require.ErrorIs(t, usage(cause), cause)
	require.True(t, (&ExitError{Code: 1}).Silent())
	require.Equal(t, "exit code 1", (&ExitError{Code: 1}).Error())
}

func TestState(t *testing.T) {
	s := &kernel.Store{Dir: t.TempDir()}
	word, why := state(s.Cached([]string{"6.1"})[0])
	require.Equal(t, "not fetched", word)
	require.Empty(t, why)
	word, why = state(s.Cached([]string{"/no/kernel"})[0])
	require.Equal(t, "broken", word)
	require.Contains(t, why, "no such file")
	word, _ = state(kernel.Found{Line: "5.4", Err: kernel.ErrUnavailable})
	require.Equal(t, "unavailable", word)
	word, _ = state(kernel.Found{})
	require.Equal(t, "cached", word)
}
