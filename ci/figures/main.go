// Command figures measures the bars that weir holds itself to, and says of each whether it holds.
//
//	go run ./ci/figures [--only NAME,...] [--host-runs 50] [--matrix-runs 10] [--cold]
//	                    [--object FILE --program NAME]
//
// It drives the built binary as a user does. One line is printed for each bar: its name, the
// figure, the bar, the verdict, and what was measured. Exit codes: 0 all hold, 1 one falls short,
// 2 bad usage, 3 one could not be measured. (`go run` and make turn them into their own.)
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/weirnet/weir/sim/result"
)

func main() {
	if os.Getenv(busyEnv) != "" {
		beBusy()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags.
type options struct {
	weir       string // the binary
	scenarios  string // folder
	kernels    string // lines of the matrix
	faults     string // lines of the fault tests
	only       string
	object     string // the peer's compiled object
	program    string // in it
	hostRuns   int
	matrixRuns int
	oneRuns    int
	exactRuns  int
	busy       int
	cold, list bool
}

// parse reads the command line and chooses the bars.
func parse(args []string, stderr io.Writer) (options, []bar, error) {
	var o options
	f := flag.NewFlagSet("figures", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.weir, "weir", "out/weir", "the `BINARY` to measure; make weir builds it")
	f.StringVar(&o.scenarios, "scenarios", "scenarios", "`FOLDER` with the scenarios to run")
	f.StringVar(&o.kernels, "kernel", "matrix", "`LINES` of the matrix; fewer do not measure the bar")
	f.StringVar(&o.faults, "faults-kernel", "5.10,newest", "`LINES` of the fault tests")
	f.StringVar(&o.only, "only", "", "measure these `BARS`, separated by commas")
	f.StringVar(&o.object, "object", "", "compare speed with a program of this compiled `FILE`")
	f.StringVar(&o.program, "program", "", "`NAME` of the program in it")
	f.IntVar(&o.hostRuns, "host-runs", 50, "`RUNS` of all scenarios on this kernel; 0 leaves it out")
	f.IntVar(&o.matrixRuns, "matrix-runs", 10, "`RUNS` of the matrix; 0 leaves it out")
	f.IntVar(&o.oneRuns, "one-runs", 5, "`RUNS` of one scenario on one kernel")
	f.IntVar(&o.exactRuns, "exact-runs", 10, "`RUNS` of exact machines, to be compared; 0 leaves it out")
	f.IntVar(&o.busy, "busy", 4, "busy `LOOPS` beside the runs that look for flakes")
	f.BoolVar(&o.cold, "cold", false, "also measure with empty caches; fetches all kernels")
	f.BoolVar(&o.list, "list", false, "list the bars and measure nothing")
	if err := f.Parse(args); err != nil {
		return o, nil, err
	}
	chosen, err := o.choose()
	if f.NArg() > 0 {
		err = errors.Join(err, fmt.Errorf("unexpected argument %q", f.Arg(0)))
	}
	if o.oneRuns < 1 || o.busy < 0 || o.hostRuns < 0 || o.matrixRuns < 0 || o.exactRuns < 0 {
		err = errors.Join(err, errors.New("numbers of runs and loops cannot be negative"))
	}
	if err != nil {
		fmt.Fprintln(stderr, "figures:", err)
	}
	return o, chosen, err
}

// choose picks the bars that the flags ask for. The error names a bar that does not exist.
func (o *options) choose() ([]bar, error) {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(o.only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			wanted[name] = true
		}
	}
	all := len(wanted) == 0
	var chosen []bar
	var names []string
	for _, b := range bars {
		names = append(names, b.name)
		if wanted[b.name] || all && b.usual(o) {
			chosen = append(chosen, b)
		}
		delete(wanted, b.name)
	}
	for name := range wanted {
		return nil, fmt.Errorf("no bar %q; there are %s", name, strings.Join(names, ", "))
	}
	return chosen, nil
}

// run is main, and gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, chosen, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return result.ExitGood
	case err != nil:
		return result.ExitUsage
	}
	if o.list {
		for _, b := range chosen {
			fmt.Fprintf(stdout, "%-14s %-10s %s\n", b.name, b.bar, b.what)
		}
		return result.ExitGood
	}
	binary, err := filepath.Abs(o.weir)
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		fmt.Fprintf(stderr, "figures: find weir (make weir builds it): %v\n", err)
		return result.ExitUsage
	}
	m := &meter{options: o, binary: binary, progress: stderr}
	fmt.Fprintln(stdout, machine())
	if len(args) > 0 {
		fmt.Fprintln(stdout, "# asked for:", strings.Join(args, " "))
	}
	return printAll(stdout, chosen, func(b bar) figure { return m.measure(ctx, b) })
}

// printAll prints a line for each bar and gives the exit code.
func printAll(w io.Writer, chosen []bar, measure func(bar) figure) int {
	code := result.ExitGood
	for _, b := range chosen {
		f := measure(b)
		fmt.Fprintln(w, f.line(b))
		switch f.verdict {
		case short:
			code = result.ExitRed
		case unknown:
			if code == result.ExitGood {
				code = result.ExitHarness
			}
		}
	}
	return code
}

// machine is what the figures were measured on.
func machine() string {
	var u syscall.Utsname
	_ = syscall.Uname(&u)
	var release strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release.WriteByte(byte(c))
	}
	load, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("# %d CPUs, load %s before, kernel %s, %s", runtime.NumCPU(), one,
		&release, runtime.Version())
}
