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
		{"run", "--kernel", "6.x.1"}, {"run", "--accel", "hvf"}, {"run", "--smp", "0"},
		{"run", "--smp", "99"}, {"run", "--exact", "--smp", "2"}, {"run", "--exact", "--accel", "kvm"},
		{"run", "--smp", "2", "--costs", "x.yaml"}, {"run", "--run", "("},
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
