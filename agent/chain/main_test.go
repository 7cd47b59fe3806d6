package chain_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/guest"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/matrix"
)

// TestMain makes this test binary the init of guests, and a weir that is killed in an apply.
func TestMain(m *testing.M) {
	if guest.IsGuest() {
		guest.Main(guest.Options{NewRunner: func() (guest.Runner, error) { return tests{}, nil }})
	}
	if os.Getenv(victimStage) != "" {
		victim()
	}
	os.Exit(m.Run())
}

// tests is a runner whose scenarios are the tests of this binary, by their names.
type tests struct{}

func (tests) Run(ctx context.Context, j runner.Job) result.Scenario {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run", "^"+string(j.Spec)+"$",
		"-test.v", "-test.short")
	out, err := cmd.CombinedOutput()
	r := result.Scenario{Verdict: result.Pass, Summary: string(out)}
	if err != nil || !strings.Contains(r.Summary, "--- PASS: "+j.Name) {
		r.Verdict, r.Reason = result.Fail, fmt.Sprintf("%v\n%s", err, out)
	}
	return r
}

func (tests) Verified() (map[string]int, error) { return map[string]int{"none": 0}, nil }

func (tests) Memory() (map[string]uint64, error) { return nil, nil }

func (tests) Close() error { return nil }

// TestKernels runs the tests of chains on other kernels.
func TestKernels(t *testing.T) {
	if os.Getenv("WEIR_VM_TESTS") == "" {
		t.Skip("skipped: set WEIR_VM_TESTS=1 and CGO_ENABLED=0 to run tests in virtual machines")
	}
	cache, err := kernel.CacheDir()
	require.NoError(t, err)
	c := matrix.Config{Cache: t.TempDir(), Accel: "tcg"}
	c.Binary, err = os.Executable()
	require.NoError(t, err)
	for _, name := range guestTests {
		c.Jobs = append(c.Jobs, runner.Job{Name: name, Spec: []byte(name)})
	}
	c.Kernels = (&kernel.Store{Dir: cache}).Cached([]string{"5.10", "6.1", "6.12", kernel.Newest})
	kernels, err := matrix.Run(t.Context(), c)
	require.NoError(t, err)
	require.NotEmpty(t, kernels)
	for _, k := range kernels {
		if k.Unavailable != "" {
			t.Logf("without kernel %s: %s", k.Line, k.Unavailable)
			continue
		}
		for _, s := range k.Scenarios {
			t.Run(k.Line+"/"+s.Name, func(t *testing.T) {
				require.Equal(t, result.Pass, s.Verdict, "%s\n%s", s.Reason, s.Console)
				t.Log(s.Summary)
			})
		}
	}
}

// guestTests are the tests that depend on the kernel.
var guestTests = []string{"TestApply", "TestRandomChains", "TestFailedApply", "TestKilledApply",
	"TestForeign", "TestDrift", "TestState", "TestSwapUnderLoad"}
