package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/guest"
)

// How soon after it happened a fault must have its verdict on a host with nothing else to do. On a
// busy one the limits are stretched by its load: the harness itself has to wait for a CPU there.
const (
	panicLimit = 2 * time.Second
	hangLimit  = 20 * time.Second
)

// Check is what became of one fault on one kernel.
type Check struct {
	Line string // kernel line
	Name string // of the job
	Got  result.Scenario
	Err  error // why it is not what it should be; nil when it is
}

// SelfTest lets every fault happen on every kernel of the configuration, between scenarios that
// must pass, and checks that each gets its own verdict and nothing else is blamed. The jobs and
// the limit on a scenario of the configuration are not used.
func SelfTest(ctx context.Context, c Config) ([]Check, error) {
	c.Faults = true
	c.Jobs = nil
	wants := map[string]guest.Fault{}
	add := func(f guest.Fault, name string) {
		wants[name] = f
		c.Jobs = append(c.Jobs, runner.Job{Name: name})
	}
	none := guest.Faults[0]
	for _, f := range guest.Faults[1:] {
		add(f, guest.FaultPrefix+f.Name)
		add(none, guest.FaultPrefix+none.Name+"/after-"+f.Name)
	}
	for _, f := range guest.Faults { // the last record of all: nothing comes after it but bye
		if f.Want == result.Missing {
			add(f, guest.FaultPrefix+f.Name+"/last")
		}
	}
	kernels, err := Run(ctx, c)
	if err != nil {
		return nil, err
	}
	var checks []Check
	for _, k := range kernels {
		if k.Unavailable != "" {
			checks = append(checks, Check{Line: k.Line, Name: "kernel",
				Err: errors.New(k.Unavailable)})
		}
		for _, s := range k.Scenarios {
			checks = append(checks, Check{Line: k.Line, Name: s.Name, Got: s,
				Err: compare(wants[s.Name], s)})
		}
	}
	return checks, nil
}

// stretch is how many want a CPU for each that there is; at least 1.
func stretch() float64 {
	data, _ := os.ReadFile("/proc/loadavg")
	var load float64
	_, _ = fmt.Sscan(string(data), &load) // without it nothing is stretched
	return max(1, load/float64(runtime.NumCPU()))
}

// compare holds a result against what a fault must come to.
func compare(f guest.Fault, got result.Scenario) error {
	took := time.Duration(float64(got.Millis)/stretch()) * time.Millisecond
	switch {
	case got.Verdict == result.Skip && got.Reason != "":
		return nil // it cannot be made to happen on this kernel
	case got.Verdict != f.Want:
		return fmt.Errorf("verdict %s, want %s: %s", got.Verdict, f.Want, got.Reason)
	case !strings.Contains(got.Reason, f.Says):
		return fmt.Errorf("the reason does not say %q: %s", f.Says, got.Reason)
	case f.Want == result.Pass && strings.Contains(got.Console, "on purpose"):
		return fmt.Errorf("it is blamed for what it did not do: %s", got.Console)
	case f.Want == result.Panic && took > panicLimit:
		return fmt.Errorf("the verdict took %v, at most %v", took, panicLimit)
	case f.Want == result.Hang && took > hangLimit:
		return fmt.Errorf("the verdict took %v, at most %v", took, hangLimit)
	case f.Want == result.Panic && got.Console == "":
		return errors.New("the console is missing")
	case got.Verdict.Red() && got.Reproduce == "":
		return errors.New("the command to reproduce it is missing")
	}
	return nil
}
