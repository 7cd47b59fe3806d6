package vmtests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/matrix"
)

// reproFlags are the flags of `weir vm repro`.
type reproFlags struct {
	common
	kernel string
	match  string
	record string
	replay string
	gdb    string
	tries  int
	seed   uint64
}

// reproCommand is `weir vm repro`.
func reproCommand() *cobra.Command {
	var f reproFlags
	cmd := &cobra.Command{
		Use:   "repro [SCENARIO|FOLDER...]",
		Short: "Record a run of scenarios on a kernel, and repeat it",
		Long: "Record a run of scenarios on a kernel, and repeat it, instruction by instruction.\n\n" +
			"With --record scenarios are run in an exact machine, again and again with another\n" +
			"seed for all that the kernel and weir draw at random, until one is red or --tries\n" +
			"are over; the folder has the last run. With --replay that run is repeated: what\n" +
			"comes of it is the same, and --gdb lets a debugger look at the kernel.\n\n" +
			"Exit codes: 0 nothing is red, 1 a scenario is red, 2 bad input or usage, 3 the\n" +
			"harness or the machine failed, or a repeated run was not the same.",
		Example: "  weir vm repro --kernel 6.1 --run '^tcp/reset$' --tries 20 --record out/repro\n" +
			"  weir vm repro --replay out/repro\n  weir vm repro --replay out/repro --gdb tcp::1234",
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.kernel, "kernel", "k", kernel.Newest, "`LINE` to record on")
	flags.StringVar(&f.match, "run", "", "only scenarios whose name matches this `REGEXP`")
	flags.StringVar(&f.record, "record", "", "record into this `DIR`")
	flags.StringVar(&f.replay, "replay", "", "repeat the run that was recorded in this `DIR`")
	flags.StringVar(&f.gdb, "gdb", "", "with --replay: wait for a debugger at this `ADDRESS`, as QEMU has it (tcp::1234)")
	flags.IntVar(&f.tries, "tries", 1, "with --record: how many runs there are at most")
	flags.Uint64Var(&f.seed, "seed", 1, "with --record: the first run's seed; each further run has the next one")
	f.mirrorFlags(cmd)
	return cmd
}

func (f *reproFlags) run(cmd *cobra.Command, args []string) error {
	switch {
	case (f.record == "") == (f.replay == ""):
		return usage(errors.New("repro wants --record DIR, or --replay DIR"))
	case f.replay != "" && (len(args) > 0 || f.match != ""):
		return usage(errors.New("--replay: the scenarios are those of the recording"))
	case f.record != "" && f.gdb != "":
		return usage(errors.New("--gdb: wants --replay"))
	case f.tries < 1:
		return usage(fmt.Errorf("--tries %d: want 1 or more", f.tries))
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	if f.replay != "" {
		return f.repeat(ctx, cmd.OutOrStdout())
	}
	return f.tape(ctx, cmd, args)
}

// tape records until a scenario is red.
func (f *reproFlags) tape(ctx context.Context, cmd *cobra.Command, args []string) error {
	match, err := regexp.Compile(f.match)
	if err != nil {
		return usage(fmt.Errorf("read --run: %w", err))
	}
	jobs, err := findJobs(args, match)
	if err != nil {
		return usage(err)
	}
	lines, err := kernel.ParseLines(f.kernel)
	if err != nil || len(lines) != 1 || lines[0] == kernel.Every {
		return usage(errors.Join(err, errors.New("a recording is of one kernel")))
	}
	store, err := f.store(cmd)
	if err != nil {
		return err
	}
	bin, err := binary()
	if err != nil {
		return err
	}
	files, err := programsOf(ctx, jobs)
	if err != nil {
		return broken(err)
	}
	c := matrix.Config{Cache: store.Dir, Binary: bin, Kernels: store.Get(ctx, lines), Jobs: jobs, Files: files}
	out := cmd.OutOrStdout()
	for try := range f.tries {
		r, err := matrix.RecordRun(ctx, c, f.record, f.seed+uint64(try))
		if err != nil {
			return broken(err)
		}
		fmt.Fprintf(out, "%s, seed %d:\n", r.Release, r.Seed)
		if err := tell(out, r.Scenarios); err != nil {
			return broken(err)
		}
		if r.Red() {
			fmt.Fprintf(out, "repeat it: weir vm repro --replay %s\n", f.record)
			return &ExitError{Code: result.ExitRed}
		}
	}
	return nil
}

// repeat replays a recording.
func (f *reproFlags) repeat(ctx context.Context, out io.Writer) error {
	r, err := matrix.OpenRecording(f.replay)
	if err != nil {
		return usage(err)
	}
	if f.gdb != "" {
		fmt.Fprintf(out, "waiting for a debugger at %s\n", f.gdb)
	}
	got, err := r.Replay(ctx, f.gdb)
	if err != nil {
		return broken(err)
	}
	fmt.Fprintf(out, "%s, seed %d, repeated:\n", r.Release, r.Seed)
	if err := tell(out, got); err != nil {
		return broken(err)
	}
	if err := alike(r.Scenarios, got); err != nil {
		return broken(err)
	}
	fmt.Fprintln(out, "as recorded, byte for byte")
	if r.Red() {
		return &ExitError{Code: result.ExitRed}
	}
	return nil
}

// alike compares results in all that they say.
func alike(recorded, got []result.Scenario) error {
	for i := range recorded {
		want, err := json.Marshal(recorded[i])
		if err != nil {
			return err
		}
		is, err := json.Marshal(got[i])
		if err != nil {
			return err
		}
		if string(want) != string(is) {
			return fmt.Errorf("%s is not as it was recorded: %s, was %s: %s", got[i].Name, is, recorded[i].Verdict, want)
		}
	}
	return nil
}

// tell prints results, a line each, and what differs.
func tell(out io.Writer, all []result.Scenario) error {
	for _, s := range all {
		fmt.Fprintf(out, "%-7s %s  %s\n", s.Verdict, result.Printable(s.Name), result.Printable(s.Reason))
		if err := result.DiffText(out, s.Differences); err != nil {
			return err
		}
	}
	return nil
}
