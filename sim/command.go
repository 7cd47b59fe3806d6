// Package sim is `weir sim`: it runs scenarios on the kernel of this machine.
package sim

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/differ"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/suite"
)

// ExitError ends the program with a code after everything was said.
type ExitError struct{ Code int }

// Error implements error.
func (e *ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// ExitCode is the code to exit with.
func (e *ExitError) ExitCode() int { return e.Code }

// Silent tells that everything has been printed.
func (e *ExitError) Silent() bool { return true }

// ReportFunc writes a report of a run into a folder.
type ReportFunc func(dir string, r *result.Report) error

// Command is `weir sim`. Report is called when --report asks for one.
func Command(report ReportFunc) *cobra.Command {
	c := &cobra.Command{
		Use: "sim", Short: "run scenarios on this machine's kernel", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(runCommand(report), listCommand(), lintCommand(), explainCommand(), schemaCommand(),
		differ.VectorsCommand(), differ.FuzzCommand())
	return c
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of scenario files", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(spec.Schema())
			return err
		},
	}
}

// pattern is the --run flag.
func pattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("--run %q: %w", text, err)
	}
	return re, nil
}

func listCommand() *cobra.Command {
	var match string
	c := &cobra.Command{
		Use: "list [file or folder...]", Short: "list scenarios and what they show",
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := find(args, match)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				sc, err := spec.Parse(j.File, j.Spec)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-32s %s\n", j.Name, sc.Summary)
			}
			return nil
		},
	}
	c.Flags().StringVar(&match, "run", "", "only scenarios whose name matches this regular expression")
	return c
}

func lintCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lint [file or folder...]", Short: "check scenario files without running them",
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := find(args, "")
			if err != nil {
				return err
			}
			if err := suite.Check(jobs); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d scenarios are fine\n", len(jobs))
			return nil
		},
	}
}

func find(args []string, match string) ([]runner.Job, error) {
	re, err := pattern(match)
	if err != nil {
		return nil, err
	}
	return suite.Find(args, re)
}

// runFlags are the flags of `weir sim run`.
type runFlags struct {
	match, report string
	update, keep  bool
	count         int
}

func runCommand(report ReportFunc) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run [file or folder...]", Short: "run scenarios and judge them",
		Long: `Runs scenarios on this machine's kernel, in network namespaces of their own, and compares
what the agent reports with the reference model, the conservation law and the golden files.
Needs root. Exit codes: 0 good, 1 judged red, 2 bad input, 3 the harness failed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := find(args, f.match)
			if err != nil {
				return err
			}
			if err := suite.Check(jobs); err != nil {
				return err
			}
			if f.count < 1 {
				return fmt.Errorf("--count %d: want at least 1", f.count)
			}
			if f.update && os.Getenv("CI") != "" {
				return fmt.Errorf("--update: refused where CI is set; goldens are written by people")
			}
			return runAll(cmd.Context(), cmd.OutOrStdout(), jobs, &f, report)
		},
	}
	c.Flags().StringVar(&f.match, "run", "", "only scenarios whose name matches this regular expression")
	c.Flags().BoolVar(&f.update, "update", false,
		"write the golden files, where model, witness and invariants agree")
	c.Flags().BoolVar(&f.keep, "keep", false, "leave namespaces and files in place afterwards")
	c.Flags().StringVar(&f.report, "report", "", "write a report into this folder")
	c.Flags().IntVar(&f.count, "count", 1, "run everything so many times")
	return c
}

func runAll(ctx context.Context, w io.Writer, jobs []runner.Job, f *runFlags, report ReportFunc) error {
	begin := time.Now()
	r, err := runner.New(runner.Options{Keep: f.keep})
	if err != nil {
		fmt.Fprintln(w, "weir:", err)
		return &ExitError{result.ExitHarness}
	}
	defer r.Close()
	host := result.Kernel{Line: "host", Version: release(), Accel: "host"}
	for range f.count {
		for _, job := range jobs {
			out := r.Run(ctx, job)
			if f.update {
				update(&out, job)
			}
			out.Reproduce = "weir sim run --run '^" + regexp.QuoteMeta(job.Name) + "$'"
			if err := print(w, &out); err != nil {
				return err
			}
			if f.keep {
				fmt.Fprint(w, out.AgentLog)
			}
			host.Scenarios = append(host.Scenarios, out)
		}
	}
	host.Millis = time.Since(begin).Milliseconds()
	rep := &result.Report{SchemaVersion: result.SchemaVersion, Started: begin, Millis: host.Millis,
		Command: "weir sim run", Kernels: []result.Kernel{host}}
	if f.report != "" {
		if err := report(f.report, rep); err != nil {
			return err
		}
	}
	return close(w, rep)
}

// update writes the golden file of a sound run, and judges the run anew.
func update(out *result.Scenario, job runner.Job) {
	if out.Golden == "" {
		return
	}
	if err := suite.WriteGolden(job, out.Golden); err != nil {
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
	return result.DiffText(w, s.Differences)
}

// close prints the closing line and turns the verdicts into the exit code.
func close(w io.Writer, r *result.Report) error {
	t := r.Totals()
	fmt.Fprintf(w, "%d passed, %d failed", t.Passed, t.Failed)
	if t.Skipped > 0 {
		fmt.Fprintf(w, ", %d skipped", t.Skipped)
	}
	fmt.Fprintln(w)
	if code := r.ExitCode(); code != result.ExitGood {
		return &ExitError{code}
	}
	return nil
}
