package agent

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
)

var residentHeld = flag.Int("resident", 10_000, "how many connections the agent of TestResident holds")

// TestResident: the agent as it is built for users takes no more memory than docs/operating.md says, idle and with
// connections that it has reported.
func TestResident(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short, which goes with -race: the agent here is without it")
	}
	// -trimpath is left out: it changes paths in the binary alone, but has every package compiled anew.
	program, file := filepath.Join(t.TempDir(), "weir"), filepath.Join(t.TempDir(), "weir.yaml")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	p := newPair(t)
	cfg := p.pinned(t)
	cfg.Interval, cfg.Active = time.Hour, time.Hour // sweeps are asked for
	cfg.Table.Size = max(cfg.Table.Size, *residentHeld)
	agent := startCommand(t, exec.Command(program, "agent", "--config", file), file, cfg)
	client := control.Dial(cfg.Control)

	measure := func(when string, held int) {
		most := uint64(0)
		for range 5 {
			require.NoError(t, client.Sweep(t.Context()))
			most = max(most, agent.resident(t))
		}
		t.Logf("%s, %d connections: %.1f MB resident", when, held, float64(most)/1e6)
		require.LessOrEqual(t, most, uint64(60e6+200*held), "bytes resident, %s", when)
	}
	measure("idle", 0)
	p.fill(t, *residentHeld)
	measure("full", *residentHeld)
	stats, err := client.TableStats(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, *residentHeld, stats.IPv4)
	agent.end(t)
}
