package vmtests

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func TestReproUsage(t *testing.T) {
	empty := t.TempDir()
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, "repro.json"), []byte(`{"jobs": [{"name": "a"}]}`), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":       {nil, "wants --record DIR, or --replay DIR"},
		"both":          {[]string{"--record", "x", "--replay", "x"}, "wants --record DIR, or --replay DIR"},
		"scenarios":     {[]string{"--replay", "x", "--run", "tcp"}, "those of the recording"},
		"gdb":           {[]string{"--record", "x", "--gdb", "tcp::1"}, "--gdb: wants --replay"},
		"tries":         {[]string{"--record", "x", "--tries", "0"}, "--tries 0: want 1 or more"},
		"not there":     {[]string{"--replay", empty}, "repro.json"},
		"broken":        {[]string{"--replay", broken}, "has 0 results of 1 scenarios"},
		"two kernels":   {[]string{"--record", "x", "--kernel", "5.10,6.1", "../scenarios/udp"}, "of one kernel"},
		"every kernel":  {[]string{"--record", "x", "--kernel", "all", "../scenarios/udp"}, "of one kernel"},
		"no such match": {[]string{"--record", "x", "--run", "("}, "read --run"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := reproCommand()
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(c.args)
			cmd.SetOut(&bytes.Buffer{})
			err := cmd.Execute()
			require.ErrorContains(t, err, c.want)
			var exit *ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, result.ExitUsage, exit.Code)
		})
	}
}

func TestAlike(t *testing.T) {
	a := []result.Scenario{{Name: "tcp/x", Verdict: result.Pass, Packets: 7}}
	b := []result.Scenario{{Name: "tcp/x", Verdict: result.Pass, Packets: 7}}
	require.NoError(t, alike(a, b))
	b[0].AgentLog = "another word"
	require.ErrorContains(t, alike(a, b), "tcp/x is not as it was recorded")
}
