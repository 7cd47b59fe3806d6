package vmtests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/differ"
	"github.com/weirnet/weir/sim/outline"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
	"github.com/weirnet/weir/vmtests/cost"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/matrix"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/report"
)

// runFlags are the flags of `weir vm run`.
type runFlags struct {
	common
	kernels          string
	match            string
	shard            string
	report           string
	vms              int
	allowUnavailable bool
	update           bool
	costs            string
	history          []string
	exact            bool
	smp              int
	limit            time.Duration
}

// runCommand is `weir vm run`.
func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [SCENARIO|FOLDER...]",
		Short: "Run scenarios on kernels and judge them",
		Long: "Run scenarios (default: all below scenarios/) on kernels and judge them.\n\n" +
			"Exit codes: 0 all green, 1 a scenario is red, 2 bad input or usage, 3 the\n" +
			"harness or the machine failed, or a kernel line could not be had.",
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.kernels, "kernel", "k", "matrix", "`LINES`, separated by commas")
	flags.StringVar(&f.match, "run", "", "only scenarios whose name matches this `REGEXP`")
	flags.StringVar(&f.shard, "shard", "", "only part `I/N` of the scenarios, for runs on N machines "+
		"(weir report merge)")
	flags.StringVar(&f.report, "report", "", "write results.json and the pages into this `DIR`")
	flags.StringSliceVar(&f.history, "history", nil, "results of `RUNS` before, the latest last: the report tells "+
		"what has changed, and what is flaky")
	flags.IntVar(&f.vms, "jobs", 0, "machines at a time (default: one per CPU)")
	flags.BoolVar(&f.allowUnavailable, "allow-unavailable", false,
		"stay green when a kernel line cannot be had (newest and rc never turn a run red)")
	flags.BoolVar(&f.update, "update", false, "write the golden files, where all kernels and "+
		"the model agree")
	flags.StringVar(&f.costs, "costs", "", "hold what the datapath costs on each kernel against this `FILE`; "+
		"with --update, write it")
	flags.BoolVar(&f.exact, "exact", false, "count instructions, and let guests' clocks go by them: "+
		"the same scenarios give the same results, byte for byte; slow")
	flags.IntVar(&f.smp, "smp", 1, "CPUs of each machine")
	flags.DurationVar(&f.limit, "limit", matrix.DefaultLimits.Scenario,
		"give a scenario up after it has done nothing for this time")
	f.mirrorFlags(cmd)
	f.accelFlag(cmd)
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, args []string) error {
	lines, err := kernel.ParseLines(f.kernels)
	if err != nil {
		return usage(err)
	}
	accel, err := qemu.ParseAccel(f.accel)
	if err != nil {
		return usage(err)
	}
	if err := f.checkLane(accel); err != nil {
		return usage(err)
	}
	match, err := regexp.Compile(f.match)
	if err != nil {
		return usage(fmt.Errorf("read --run: %w", err))
	}
	shard, err := result.ParseShard(f.shard)
	if err != nil {
		return usage(fmt.Errorf("read --shard: %w", err))
	}
	jobs, err := findJobs(args, match)
	if err == nil && f.update && os.Getenv("CI") != "" {
		err = errors.New("--update: refused where CI is set; goldens are written by people")
	}
	if err != nil {
		return usage(err)
	}
	for _, l := range lines {
		if kernel.IsPath(l) {
			if _, err := kernel.FromPath(l); err != nil {
				return usage(err)
			}
		}
	}
	base, err := f.baseline()
	if err != nil {
		return usage(err)
	}
	before, err := report.ReadAll(f.history)
	if err != nil {
		return usage(fmt.Errorf("read --history: %w", err))
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	r, err := f.judge(ctx, cmd, lines, part(jobs, shard), accel)
	if err == nil && f.update {
		err = update(r, jobs)
	}
	if err == nil && f.costs != "" {
		err = f.holdCosts(cmd.OutOrStdout(), base, r)
	}
	if err == nil && f.report != "" {
		report.AddHistory(r, before)
		r.Outlines, err = outline.Of(jobs)
	}
	if err != nil {
		return broken(err)
	}
	return f.show(cmd, r)
}

// checkLane finds choices that do not go together.
func (f *runFlags) checkLane(accel qemu.Accel) error {
	switch {
	case f.smp < 1 || f.smp > maxCPUs:
		return fmt.Errorf("--smp %d: want 1 to %d CPUs", f.smp, maxCPUs)
	case f.exact && f.smp > 1:
		return fmt.Errorf("--exact --smp %d: instructions can be counted on one CPU only", f.smp)
	case f.exact && accel == qemu.KVM:
		return errors.New("--exact --accel kvm: instructions are counted by tcg only")
	case (f.exact || f.smp > 1) && f.costs != "":
		return errors.New("--costs: what it holds is of usual machines, neither --exact nor --smp")
	}
	return nil
}

// maxCPUs bounds the CPUs of a machine: q35 boots with more, but guests have memory for these.
const maxCPUs = 16

// findJobs finds the scenarios that were asked for, and what runs beside them when that is the whole
// suite: packet vectors, and a while of fuzzing.
func findJobs(args []string, match *regexp.Regexp) ([]runner.Job, error) {
	var beside []runner.Job
	if suite.Whole(args) {
		beside = differ.Jobs(match)
	}
	jobs, err := suite.Find(args, match)
	if errors.Is(err, suite.ErrNoMatch) && len(beside) > 0 {
		err = nil
	}
	if err == nil {
		err = suite.Check(jobs)
	}
	return append(jobs, beside...), err
}

// part are the jobs of a shard.
func part(jobs []runner.Job, s result.Shard) []runner.Job {
	var of []runner.Job
	for i, j := range jobs {
		if s.Has(i) {
			of = append(of, j)
		}
	}
	return of
}

// judge fetches the kernels and runs the scenarios.
func (f *runFlags) judge(
	ctx context.Context, cmd *cobra.Command, lines []string, jobs []runner.Job, accel qemu.Accel,
) (*result.Report, error) {
	start := time.Now()
	store, err := f.store(cmd)
	if err != nil {
		return nil, err
	}
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	files, err := programsOf(ctx, jobs)
	if err != nil {
		return nil, err
	}
	limits := matrix.DefaultLimits
	limits.Scenario = f.limit
	line := newLiveLine(cmd.ErrOrStderr())
	kernels, err := matrix.Run(ctx, matrix.Config{
		Cache: store.Dir, Binary: bin, Kernels: store.Get(ctx, lines), Jobs: jobs,
		Files: files, Accel: accel, VMs: f.vms, CPUs: f.smp, Exact: f.exact, Count: f.costs != "", Limits: limits,
		Progress: line.show,
	})
	line.clear()
	if err != nil {
		return nil, err
	}
	return &result.Report{
		SchemaVersion: result.SchemaVersion, Started: start.UTC().Truncate(time.Millisecond),
		Millis: time.Since(start).Milliseconds(), Command: commandLine(), Weir: version(),
		Shard: f.shard, Kernels: kernels,
	}, nil
}

// show writes the report and the table, and chooses the exit code.
func (f *runFlags) show(cmd *cobra.Command, r *result.Report) error {
	out := cmd.OutOrStdout()
	if f.report != "" {
		if err := report.Write(f.report, r); err != nil {
			return broken(err)
		}
		fmt.Fprintf(out, "report: %s\n", filepath.Join(f.report, report.HTMLFile))
	}
	for _, k := range r.Kernels {
		if k.Unavailable != "" {
			fmt.Fprintf(out, "kernel %s is unavailable: %s\n", k.Line, k.Unavailable)
		}
	}
	for _, k := range r.Kernels {
		for _, c := range k.BootCrashes {
			fmt.Fprintf(out, "kernel %s crashed while booting, and was booted again: %s\n", k.Line, c)
		}
		for _, d := range k.Drift {
			fmt.Fprintf(out, "✗ cost on %s: %s\n", k.Line, d)
		}
	}
	if err := report.Table(out, r, terminal(out)); err != nil {
		return broken(err)
	}
	if code := report.ExitCode(r, f.allowUnavailable); code != result.ExitGood {
		return &ExitError{Code: code}
	}
	return nil
}

// baseline reads the file of costs. One that is to be written need not be there.
func (f *runFlags) baseline() (cost.Baseline, error) {
	if f.costs == "" {
		return nil, nil
	}
	base, err := cost.Read(f.costs)
	if f.update && errors.Is(err, os.ErrNotExist) {
		return cost.Baseline{}, nil
	}
	return base, err
}

// holdCosts compares costs with the baseline, or makes them the baseline.
func (f *runFlags) holdCosts(out io.Writer, base cost.Baseline, r *result.Report) error {
	if f.update {
		base.Take(r.Kernels)
		return cost.Write(f.costs, base)
	}
	for i := range r.Kernels {
		k := &r.Kernels[i]
		k.Drift = base.Drift(k)
		if base.Unknown(k) {
			fmt.Fprintf(out, "cost on %s: %s has no line for %s; add --update to write it\n", k.Line, f.costs, k.Version)
		}
	}
	return nil
}

// commandLine is how this program was called, for the report.
func commandLine() string {
	words := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$*?[]()^|&;<>`") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// version is the version of this binary, as far as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return v
}
