package matrix

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/guest"
	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/kernel"
)

// TestMain makes this test binary the init of the guests that it starts.
func TestMain(m *testing.M) {
	if guest.IsGuest() {
		guest.Main(guest.Options{NewRunner: func() (guest.Runner, error) { return greeter{}, nil }})
	}
	os.Exit(m.Run())
}

// greeter is a runner that passes scenarios whose specification it likes.
type greeter struct{}

func (greeter) Probe() error { return nil }

func (greeter) Verified() (map[string]int, error) { return map[string]int{"greet": 1}, nil }

func (greeter) Memory() (map[string]uint64, error) { return map[string]uint64{"greetings": 1}, nil }

func (greeter) Run(_ context.Context, j runner.Job) result.Scenario {
	if strings.HasPrefix(string(j.Spec), "hello") {
		return result.Scenario{Verdict: result.Pass, Summary: fmt.Sprint(len(j.Spec))}
	}
	return result.Scenario{Verdict: result.Fail, Reason: "no greeting"}
}

func (greeter) Close() error { return nil }

// vmConfig is a configuration for tests with virtual machines, on the cached ones of lines.
func vmConfig(t *testing.T, lines ...string) Config {
	t.Helper()
	if os.Getenv("WEIR_VM_TESTS") == "" {
		t.Skip("set WEIR_VM_TESTS=1 and CGO_ENABLED=0 to run tests in virtual machines")
	}
	cache, err := kernel.CacheDir()
	require.NoError(t, err)
	c := Config{Cache: t.TempDir(), Accel: "tcg"}
	c.Binary, err = os.Executable()
	require.NoError(t, err)
	for _, f := range (&kernel.Store{Dir: cache}).Cached(lines) {
		if f.Err != nil {
			t.Logf("without kernel %s: %v (fetch it: weir vm pull %s)", f.Line, f.Err, f.Line)
			continue
		}
		c.Kernels = append(c.Kernels, f)
	}
	if len(c.Kernels) == 0 {
		t.Skip("no kernel is cached: weir vm pull")
	}
	return c
}

// Every fault gets its own verdict, and nothing else is blamed for it.
func TestFaults(t *testing.T) {
	checks, err := SelfTest(t.Context(), vmConfig(t, "5.10", kernel.Newest))
	if err != nil && strings.Contains(err.Error(), initramfs.ErrDynamic.Error()) {
		t.Skip(err)
	}
	require.NoError(t, err)
	for _, check := range checks {
		t.Run(check.Line+"/"+strings.TrimPrefix(check.Name, guest.FaultPrefix), func(t *testing.T) {
			if check.Got.Verdict == result.Skip {
				t.Skip(check.Got.Reason)
			}
			require.NoError(t, check.Err)
		})
	}
}

// Every cached kernel boots, is restored, and runs scenarios, also a large one; the second run
// boots nothing.
func TestKernels(t *testing.T) {
	c := vmConfig(t, kernel.Matrix...)
	large := []byte("hello" + strings.Repeat(" world", 40_000))
	c.Jobs = []runner.Job{
		{Name: "a", Spec: []byte("hello")}, {Name: "b"}, {Name: "c", Spec: large},
	}
	booted := 0
	c.Progress = func(p Progress) {
		if p.Event == Booted {
			booted++
		}
	}
	for round := range 2 {
		start := time.Now()
		kernels, err := Run(t.Context(), c)
		require.NoError(t, err)
		t.Logf("round %d: %v", round, time.Since(start).Round(time.Millisecond))
		require.Len(t, kernels, len(c.Kernels))
		for _, k := range kernels {
			t.Logf("%s %s: booted in %d ms once, ran in %d ms", k.Line, k.Version, k.BootMillis, k.Millis)
			require.Empty(t, k.Unavailable)
			require.Len(t, k.Scenarios, 3)
			require.Equal(t, result.Pass, k.Scenarios[0].Verdict, k.Scenarios[0].Reason)
			require.Equal(t, result.Fail, k.Scenarios[1].Verdict)
			require.Equal(t, "no greeting", k.Scenarios[1].Reason)
			require.Equal(t, result.Pass, k.Scenarios[2].Verdict, k.Scenarios[2].Reason)
			require.Equal(t, fmt.Sprint(len(large)), k.Scenarios[2].Summary)
		}
		require.Equal(t, len(c.Kernels), booted)
	}
}

// What a packet costs is the same each time that it is counted.
func TestCount(t *testing.T) {
	c := vmConfig(t, "5.10", kernel.Newest)
	snaps, err := newSnapshots(c.Cache, c.Binary, nil, DefaultLimits.exact())
	require.NoError(t, err)
	for _, f := range c.Kernels {
		first, err := snaps.count(t.Context(), f.Kernel)
		require.NoError(t, err)
		again, err := snaps.count(t.Context(), f.Kernel)
		require.NoError(t, err)
		t.Logf("%s: %v", f.Line, first)
		require.Greater(t, first["tcp4/new"], first["tcp4/hot"], "a connection that is new costs more")
		require.Equal(t, first, again)
	}
}
