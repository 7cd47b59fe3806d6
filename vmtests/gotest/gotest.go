// Package gotest runs Go tests of a package on other kernels: the test binary itself is what guests run.
package gotest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/guest"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/matrix"
	"github.com/weirnet/weir/vmtests/programs"
)

// Env is the environment variable that names the lines of kernels for tests that want virtual machines, separated by
// blanks; 1 stands for Lines. They need CGO_ENABLED=0, too: guests have no shared libraries.
const Env = "WEIR_VM_TESTS"

// Lines are the kernels that tests are run on: the oldest one, and those of which each has more for eBPF
// programs than the one before. `make guesttest` fetches them.
var Lines = []string{"5.10", "6.1", "6.12", kernel.Newest}

func lines() []string {
	if named := os.Getenv(Env); named != "1" {
		return strings.Fields(named)
	}
	return Lines
}

// busy is how long a test may work in a guest. One is of many rounds where a scenario has one.
const busy = 5 * time.Minute

// Guest makes the test binary the init of a guest, if it runs in one. TestMain calls it first.
func Guest() {
	if guest.IsGuest() {
		guest.Main(guest.Options{NewRunner: func() (guest.Runner, error) { return inGuest{}, nil }})
	}
}

// inGuest is a runner whose scenarios are the arguments of runs of this binary.
type inGuest struct{}

// Run implements guest.Runner.
func (inGuest) Run(ctx context.Context, j runner.Job) result.Scenario {
	args := append(strings.Fields(string(j.Spec)), "-test.run=^"+j.Name+"$", "-test.v", "-test.short")
	out, err := exec.CommandContext(ctx, "/proc/self/exe", args...).CombinedOutput()
	r := result.Scenario{Verdict: result.Pass, Summary: string(out)}
	r.OutOfMemory = kerneltest.StarvedIn(r.Summary)
	switch {
	case strings.Contains(r.Summary, "--- SKIP: "+j.Name+" "):
		r.Verdict, r.Reason = result.Skip, r.Summary
	case err != nil || !strings.Contains(r.Summary, "--- PASS: "+j.Name+" "):
		r.Verdict, r.Reason = result.Fail, fmt.Sprintf("%v\n%s", err, out)
	}
	return r
}

// Probe implements guest.Runner.
func (inGuest) Probe() error { return nil }

// Verified implements guest.Runner.
func (inGuest) Verified() (map[string]int, error) { return map[string]int{"none": 0}, nil }

// Memory implements guest.Runner.
func (inGuest) Memory() (map[string]uint64, error) { return nil, nil }

// Close implements guest.Runner.
func (inGuest) Close() error { return nil }

// Tests are tests of the package.
type Tests struct {
	Names []string
	Flags []string // more of them for the test binary
	// Programs are those of this machine that the tests run: guests have no other ones.
	Programs []string
}

// OnKernels runs tests on the kernels that Env names, which must be in the cache. It skips without Env.
func OnKernels(t *testing.T, tests Tests) {
	t.Helper()
	if os.Getenv(Env) == "" {
		t.Skipf("skipped: set %s=1 and CGO_ENABLED=0 to run tests in virtual machines", Env)
	}
	kernels, err := run(t, &tests)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kernels {
		for _, s := range k.Scenarios {
			t.Run(k.Line+"/"+s.Name, func(t *testing.T) {
				switch {
				case s.Verdict == result.Skip:
					t.Skip(s.Reason)
				case s.Verdict != result.Pass:
					t.Fatalf("%s: %s\n%s", s.Verdict, s.Reason, s.Console)
				}
				t.Log(s.Summary)
			})
		}
		if k.Unavailable != "" {
			t.Errorf("kernel %s: %s", k.Line, k.Unavailable)
		}
	}
}

func run(t *testing.T, tests *Tests) ([]result.Kernel, error) {
	cache, err := kernel.CacheDir()
	if err != nil {
		return nil, err
	}
	c := matrix.Config{Cache: t.TempDir(), Accel: "tcg", Limits: matrix.DefaultLimits}
	c.Limits.Busy = busy
	if c.Binary, err = os.Executable(); err != nil {
		return nil, err
	}
	for _, name := range tests.Names {
		c.Jobs = append(c.Jobs, runner.Job{Name: name, Spec: []byte(strings.Join(tests.Flags, " "))})
	}
	if c.Files, err = programs.Find(t.Context(), tests.Programs); err != nil {
		return nil, err
	}
	c.Kernels = (&kernel.Store{Dir: cache}).Cached(lines())
	return matrix.Run(t.Context(), c)
}
