// Package sim is `weir sim`: it runs scenarios on the kernel of this machine.
package sim

import (
	"fmt"
	"regexp"

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
	c.AddCommand(runCommand(report), listCommand(), newCommand(), lintCommand(), explainCommand(),
		goldenCommand(), coverageCommand(), schemaCommand(), collectCommand(),
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
				sc, err := spec.ParseVariant(j.File, j.Spec, j.Variant)
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

func find(args []string, match string) ([]runner.Job, error) {
	re, err := pattern(match)
	if err != nil {
		return nil, err
	}
	return suite.Find(args, re)
}
