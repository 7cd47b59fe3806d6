package sim

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
)

func goldenCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "golden", Short: "look after golden files", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(goldenDiffCommand(), goldenUpdateCommand(), goldenCleanCommand())
	return c
}

// named finds scenarios by their names below ./scenarios, or by file or folder.
func named(args []string) ([]runner.Job, error) {
	paths := slices.Clone(args)
	for i, arg := range args {
		if _, err := os.Stat(arg); err == nil {
			continue
		}
		for _, path := range []string{"scenarios/" + arg, "scenarios/" + arg + ".yaml"} {
			if _, err := os.Stat(path); err == nil {
				paths[i] = path
			}
		}
	}
	jobs, err := suite.Find(paths, nil)
	if err != nil {
		return nil, err
	}
	return jobs, suite.Check(jobs)
}

func goldenDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff [scenario...]", Short: "show what a run would change in golden files",
		Long: `Runs scenarios, named by name, file or folder, and shows as differences of fields what an update
would change in their golden files. Needs root. Exit codes: 0 nothing, 1 something, or the run is
not sound, so that there is nothing to write.`,
		Example: "  weir sim golden diff tcp/handshake-v4\n  weir sim golden diff scenarios/udp",
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := named(args)
			if err != nil {
				return err
			}
			return diffGoldens(cmd.Context(), cmd.OutOrStdout(), jobs)
		},
	}
}

func diffGoldens(ctx context.Context, w io.Writer, jobs []runner.Job) error {
	r, err := newRunner(w, runner.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	host := result.Kernel{}
	changed := 0
	for _, job := range jobs {
		out := r.Run(ctx, job)
		host.Scenarios = append(host.Scenarios, out)
		switch {
		case out.Verdict == result.Pass || out.Verdict == result.Skip:
			fmt.Fprintf(w, "%-9s %s", map[result.Verdict]string{result.Pass: "unchanged",
				result.Skip: "skip"}[out.Verdict], out.Name)
			if out.Reason != "" {
				fmt.Fprintf(w, "  %s", result.Printable(out.Reason))
			}
			fmt.Fprintln(w)
		case out.Golden == "":
			fmt.Fprintf(w, "%-9s %s  %s\n", "unsound", out.Name, result.Printable(out.Reason))
		case len(job.Golden) == 0:
			changed++
			fmt.Fprintf(w, "%-9s %s\n%s", "new", out.Name, out.Golden)
		default:
			changed++
			fmt.Fprintf(w, "%-9s %s\n", "changed", out.Name)
		}
		if err := result.DiffText(w, out.Differences); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "%d of %d golden files would change\n", changed, len(jobs))
	report := result.Report{Kernels: []result.Kernel{host}}
	if code := report.ExitCode(); code != result.ExitGood {
		return &ExitError{code}
	}
	return nil
}

func goldenUpdateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "update [scenario...]", Short: "write golden files",
		Long: `Runs scenarios, named by name, file or folder, and writes their golden files where datapath,
reference model, witness and invariants agree: weir sim run --update for the named ones. Needs
root, and is refused where CI is set.`,
		Example: "  weir sim golden update tcp/handshake-v4",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := runFlags{update: true, count: 1}
			if err := f.check(); err != nil {
				return err
			}
			jobs, err := named(args)
			if err != nil {
				return err
			}
			return f.runAll(cmd.Context(), cmd.OutOrStdout(), jobs, nil)
		},
	}
}

func goldenCleanCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "clean [file or folder...]", Short: "remove golden files that belong to no scenario",
		Long: `Lists the golden files beside the scenarios' folders (all of ./scenarios when none are named) that
belong to no scenario, and removes them when told so.`,
		Example: "  weir sim golden clean\n  weir sim golden clean --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := find(args, "")
			if err != nil {
				return err
			}
			orphans, err := suite.Orphans(jobs)
			if err != nil {
				return fmt.Errorf("find golden files: %w", err)
			}
			return clean(cmd, orphans, yes)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func clean(cmd *cobra.Command, orphans []string, yes bool) error {
	w := cmd.OutOrStdout()
	if len(orphans) == 0 {
		fmt.Fprintln(w, "every golden file has its scenario")
		return nil
	}
	for _, file := range orphans {
		fmt.Fprintln(w, file)
	}
	if !yes {
		fmt.Fprintf(w, "remove %d files? [y/N] ", len(orphans))
		answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // the end of input is a no
		if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			fmt.Fprintln(w, "nothing removed")
			return &ExitError{result.ExitRed}
		}
	}
	for _, file := range orphans {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove a golden file: %w", err)
		}
	}
	fmt.Fprintf(w, "%d files removed\n", len(orphans))
	return nil
}
