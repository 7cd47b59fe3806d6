package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/outline"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
)

// runFlags are the flags of `weir sim run`.
type runFlags struct {
	match, report, pcap, shell string
	update, keep, watch        bool
	count                      int
}

// watchEvery is how often --watch looks at the files: sooner than a hand is back on the keys.
const watchEvery = 250 * time.Millisecond

func runCommand(report ReportFunc) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run [file or folder...]", Short: "run scenarios and judge them",
		Long: `Runs scenarios on this machine's kernel, in network namespaces of their own, and compares
what the agent reports with the reference model, the conservation law and the golden files.
Needs root. Exit codes: 0 good, 1 judged red, 2 bad input, 3 the harness failed.`,
		Example: `  weir sim run --run '^tcp/'
  weir sim run --watch scenarios/tcp/my-scenario.yaml
  weir sim run --pcap out/pcap scenarios/l3/routed.yaml
  weir sim run --shell 2 scenarios/l3/routed.yaml        # stops before the second step`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
			defer stop()
			if f.watch {
				return f.watchAll(ctx, cmd.OutOrStdout(), args)
			}
			jobs, err := find(args, f.match)
			if err != nil {
				return err
			}
			if err := suite.Check(jobs); err != nil {
				return err
			}
			if f.shell != "" {
				return f.runShell(ctx, cmd.InOrStdin(), cmd.OutOrStdout(), jobs)
			}
			return f.runAll(ctx, cmd.OutOrStdout(), jobs, report)
		},
	}
	c.Flags().StringVar(&f.match, "run", "", "only scenarios whose name matches this regular expression")
	c.Flags().BoolVar(&f.update, "update", false,
		"write the golden files, where model, witness and invariants agree")
	c.Flags().BoolVar(&f.keep, "keep", false, "leave namespaces and files in place afterwards")
	c.Flags().StringVar(&f.report, "report", "", "write a report into this folder")
	c.Flags().IntVar(&f.count, "count", 1, "run everything so many times")
	c.Flags().BoolVar(&f.watch, "watch", false, "run again what changes, until interrupted")
	c.Flags().StringVar(&f.pcap, "pcap", "", "write what passes on every link into this `folder`, as pcapng")
	c.Flags().StringVar(&f.shell, "shell", "",
		"stop at a `step`, with a prompt: 2 and before:2 before the second, after:2 behind it, end")
	return c
}

// check refuses what does not go together.
func (f *runFlags) check() error {
	switch {
	case f.count < 1:
		return fmt.Errorf("--count %d: want at least 1", f.count)
	case f.update && os.Getenv("CI") != "":
		return errors.New("--update: refused where CI is set; goldens are written by people")
	case f.shell != "" && (f.watch || f.update || f.count > 1 || f.report != ""):
		return errors.New("--shell goes with --run, --keep and --pcap only")
	case f.watch && (f.count > 1 || f.report != ""):
		return errors.New("--watch does not go with --count and --report")
	}
	return nil
}

// session is a runner, and what it has run.
type session struct {
	*runFlags
	runner *runner.Runner
	out    io.Writer
	kernel result.Kernel
}

// open starts a runner; that it cannot is said on the output, as of all that goes wrong there.
func (f *runFlags) open(w io.Writer) (*session, error) {
	r, err := newRunner(w, runner.Options{Keep: f.keep, Pcap: f.pcap})
	if err != nil {
		return nil, err
	}
	return &session{runFlags: f, runner: r, out: w,
		kernel: result.Kernel{Line: "host", Version: release(), Accel: "host"}}, nil
}

// newRunner starts a runner; what keeps it from starting is written to w.
func newRunner(w io.Writer, opts runner.Options) (*runner.Runner, error) {
	r, err := runner.New(opts)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		err = fmt.Errorf("%w; scenarios on this machine's kernel need root, \"weir vm run\" does not", err)
	}
	if err != nil {
		fmt.Fprintln(w, "weir:", err)
		return nil, &ExitError{result.ExitHarness}
	}
	return r, nil
}

// run runs one scenario and prints the result.
func (s *session) run(ctx context.Context, job runner.Job) error {
	out := s.runner.Run(ctx, job)
	if s.update {
		update(&out, job)
	}
	out.Reproduce = "weir sim run --run '^" + regexp.QuoteMeta(job.Name) + "$'"
	if err := print(s.out, &out); err != nil {
		return err
	}
	if s.keep {
		fmt.Fprint(s.out, out.AgentLog)
	}
	s.kernel.Scenarios = append(s.kernel.Scenarios, out)
	return nil
}

func (f *runFlags) runAll(ctx context.Context, w io.Writer, jobs []runner.Job, report ReportFunc) error {
	begin := time.Now()
	s, err := f.open(w)
	if err != nil {
		return err
	}
	defer s.runner.Close()
	for range f.count {
		for _, job := range jobs {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("interrupted after %d runs", len(s.kernel.Scenarios))
			}
			if err := s.run(ctx, job); err != nil {
				return err
			}
		}
	}
	s.kernel.Millis = time.Since(begin).Milliseconds()
	rep := &result.Report{SchemaVersion: result.SchemaVersion, Started: begin, Millis: s.kernel.Millis,
		Command: "weir sim run", Kernels: []result.Kernel{s.kernel}}
	if f.report != "" {
		if rep.Outlines, err = outline.Of(jobs); err != nil {
			return err
		}
		if err := report(f.report, rep); err != nil {
			return err
		}
	}
	return close(w, rep)
}

// watchAll runs scenarios, and those that change again, until it is interrupted. That is its
// regular end: what is red is mended while it runs.
func (f *runFlags) watchAll(ctx context.Context, w io.Writer, args []string) error {
	match, err := pattern(f.match)
	if err != nil {
		return err
	}
	s, err := f.open(w)
	if err != nil {
		return err
	}
	defer s.runner.Close()
	for jobs, err := range suite.Watch(ctx, args, match, watchEvery) {
		if err != nil {
			fmt.Fprintln(w, "weir:", err)
			continue
		}
		s.kernel.Scenarios = nil
		for _, job := range jobs {
			if err := suite.Check([]runner.Job{job}); err != nil {
				fmt.Fprintln(w, "weir:", err)
				continue
			}
			if ctx.Err() != nil {
				return nil
			}
			if err := s.run(ctx, job); err != nil {
				return err
			}
		}
		if len(s.kernel.Scenarios) > 0 {
			totals(w, &result.Report{Kernels: []result.Kernel{s.kernel}})
		}
		fmt.Fprintln(w, "watching; end with Ctrl-C")
	}
	return nil
}

// update writes the golden file of a sound run, and judges the run anew.
func update(out *result.Scenario, job runner.Job) {
	if out.Golden == "" {
		return
	}
	if err := suite.WriteGolden(job, out.GoldenKernel, out.Golden); err != nil {
		out.Verdict, out.Reason = result.Error, "write the golden file: "+err.Error()
		return
	}
	out.Verdict, out.Reason, out.Differences = result.Pass, "golden file written", nil
}

func print(w io.Writer, s *result.Scenario) error {
	fmt.Fprintf(w, "%-7s %-32s %5d ms", s.Verdict, s.Name, s.Millis)
	if s.Reason != "" {
		fmt.Fprintf(w, "  %s", s.Reason)
	}
	fmt.Fprintln(w)
	for _, n := range s.Notes {
		fmt.Fprintf(w, "        %s\n", result.Printable(n))
	}
	return result.DiffText(w, s.Differences)
}

// totals prints the closing line.
func totals(w io.Writer, r *result.Report) {
	t := r.Totals()
	fmt.Fprintf(w, "%d passed, %d failed", t.Passed, t.Failed)
	if t.Skipped > 0 {
		fmt.Fprintf(w, ", %d skipped", t.Skipped)
	}
	fmt.Fprintln(w)
}

// close prints the closing line and turns the verdicts into the exit code.
func close(w io.Writer, r *result.Report) error {
	totals(w, r)
	if code := r.ExitCode(); code != result.ExitGood {
		return &ExitError{code}
	}
	return nil
}
