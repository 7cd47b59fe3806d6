package report

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/result"
)

// Command is `weir report`: it makes reports again from a results.json. Its errors are all about
// bad input or usage, but for merge and diff, which also judge.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Make reports from the results of a run",
		Long: "Make reports from results.json, the results of a run.\n" +
			"RESULTS is that file or the folder that holds it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var color bool
	table := func(w io.Writer, r *result.Report) error { return Table(w, r, color) }
	tableCmd := renderCommand("table", "Print the matrix and the red results in short", table)
	tableCmd.Flags().BoolVar(&color, "color", false, "use ANSI colours")
	cmd.AddCommand(
		writeCommand(),
		mergeCommand(),
		diffCommand(),
		flakesCommand(),
		tableCmd,
		renderCommand("html", "Render the page as one self-contained file", HTML),
		renderCommand("junit", "Render JUnit XML, a suite per kernel", JUnit),
		renderCommand("markdown", "Render the summary for CI", Markdown),
		renderCommand("kernels", "Render the documentation's page of kernels", Kernels),
		renderCommand("annotations", "Render annotations for GitHub Actions", Annotations),
		schemaCommand(),
	)
	return cmd
}

// renderCommand is a command that renders results to standard output or into a file.
func renderCommand(
	name, short string, render func(io.Writer, *result.Report) error,
) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   name + " RESULTS",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			r, err := Read(args[0])
			if err != nil {
				return err
			}
			if out == "" || out == "-" {
				return render(cmd.OutOrStdout(), r)
			}
			return writeFile(out, r, render)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to `FILE` rather than to standard output")
	return cmd
}

// writeCommand is `weir report write`.
func writeCommand() *cobra.Command {
	var dir string
	var history []string
	cmd := &cobra.Command{
		Use:   "write RESULTS --dir DIR",
		Short: "Write results.json and all that is made from it into a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			r, err := Read(args[0])
			if err != nil {
				return err
			}
			before, err := ReadAll(history)
			if err != nil {
				return err
			}
			if len(before) > 0 {
				AddHistory(r, before)
			}
			return Write(dir, r)
		},
	}
	cmd.Flags().StringSliceVar(&history, "history", nil, "results of `RUNS` before, the latest last: to tell "+
		"what has changed, and what is flaky")
	cmd.Flags().StringVar(&dir, "dir", "", "the `DIR` to write into; it is created if need be")
	_ = cmd.MarkFlagRequired("dir") // it fails for an unknown flag only
	return cmd
}

// judged is an exit code of a command that has said all there is to say.
type judged struct{ code int }

func (j *judged) Error() string { return fmt.Sprintf("exit code %d", j.code) }

// ExitCode is the code to exit with.
func (j *judged) ExitCode() int { return j.code }

// Silent tells that everything has been printed.
func (j *judged) Silent() bool { return true }

func judge(code int) error {
	if code == result.ExitGood {
		return nil
	}
	return &judged{code}
}

// mergeCommand is `weir report merge`.
func mergeCommand() *cobra.Command {
	var dir string
	var allow bool
	cmd := &cobra.Command{
		Use:   "merge RESULTS... --dir DIR",
		Short: "Put the reports of several machines together",
		Long: "Put the reports of several runs together: of shards (weir vm run --shard), of\n" +
			"different kernels, or both. A shard that is missing and a scenario that is there\n" +
			"twice are errors. The exit code is that of one run of everything.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			reports, err := ReadAll(args)
			if err != nil {
				return err
			}
			all, err := Merge(reports, args)
			if err != nil {
				return err
			}
			if err := Write(dir, all); err != nil {
				return err
			}
			if err := Table(cmd.OutOrStdout(), all, false); err != nil {
				return err
			}
			return judge(ExitCode(all, allow))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `DIR` to write into; it is created if need be")
	cmd.Flags().BoolVar(&allow, "allow-unavailable", false,
		"stay green when a kernel line could not be had (newest and rc never turn a run red)")
	_ = cmd.MarkFlagRequired("dir") // it fails for an unknown flag only
	return cmd
}

// diffCommand is `weir report diff`.
func diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Tell in words what has changed between two runs",
		Long: "Tell in words what has changed between two runs: what has become red, is gone, or\n" +
			"needs much more of the verifier's instructions. Exit codes: 0 nothing is worse,\n" +
			"1 something is, 2 bad input.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			both, err := ReadAll(args)
			if err != nil {
				return err
			}
			c := Compare(both[0], both[1])
			if err := c.Text(cmd.OutOrStdout()); err != nil {
				return err
			}
			if len(c.Worse) > 0 {
				return judge(result.ExitRed)
			}
			return nil
		},
	}
}

// flakesCommand is `weir report flakes`.
func flakesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "flakes RESULTS...",
		Short: "List the scenarios that are not always red",
		Long: "List the scenarios that were red in some runs and green in others, of the same binary on\n" +
			"the same version of a kernel. Exit codes: 0 there is none, 2 bad input, 4 there are some.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			reports, err := ReadAll(args)
			if err != nil {
				return err
			}
			flaky := Flakes(reports)
			for _, f := range flaky {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s on %s (%s): red in %d of %d runs of weir %s: %s\n",
					f.Scenario, f.Kernel, f.Version, f.Red, f.Runs, f.Weir, f.Reason)
				if err != nil {
					return err
				}
			}
			if len(flaky) > 0 {
				return judge(result.ExitFlaky)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "none is flaky")
			return err
		},
	}
}

// schemaCommand is `weir report schema`.
func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of results.json",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := io.Copy(cmd.OutOrStdout(), bytes.NewReader(schema)); err != nil {
				return fmt.Errorf("write the schema: %w", err)
			}
			return nil
		},
	}
}
