package sim

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/lint"
	"github.com/weirnet/weir/sim/result"
)

// linted is the output of lint as JSON. SchemaVersion grows when a field changes its meaning.
type linted struct {
	SchemaVersion int            `json:"schema_version"`
	Scenarios     int            `json:"scenarios"`
	Problems      []lint.Problem `json:"problems"`
}

func lintCommand() *cobra.Command {
	var output string
	var strict bool
	c := &cobra.Command{
		Use: "lint [file or folder...]", Short: "check scenario files without running them",
		Long: `Reads scenarios (all below ./scenarios when none are named) and their golden files, and prints
every problem with its place, its cause and the nearest right spelling. Nothing is run and no
privilege is needed.

Errors make a scenario impossible to run: exit code 2. Warnings are about scenarios that run and
probably do not show what was wanted: steps that no hook can see, hosts that take no part, golden
files without a scenario and scenarios without one. With --strict they give exit code 1.`,
		Example: `  weir sim lint
  weir sim lint --strict -o json scenarios/tcp`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %s: want text or json", output)
			}
			jobs, err := find(args, "")
			if err != nil {
				return err
			}
			problems, err := lint.Check(jobs)
			if err != nil {
				return fmt.Errorf("check scenarios: %w", err)
			}
			out := linted{SchemaVersion: 1, Scenarios: len(jobs), Problems: problems}
			if err := out.write(cmd.OutOrStdout(), output); err != nil {
				return err
			}
			return out.verdict(strict)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.Flags().BoolVar(&strict, "strict", false, "exit with 1 when there are warnings")
	return c
}

func (l *linted) write(w io.Writer, form string) error {
	if form == "json" {
		if l.Problems == nil {
			l.Problems = []lint.Problem{} // a list, not null
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(l)
	}
	for _, p := range l.Problems {
		fmt.Fprintln(w, result.Printable(p.String()))
	}
	if len(l.Problems) > 0 {
		_, err := fmt.Fprintf(w, "%d problems in %d scenarios\n", len(l.Problems), l.Scenarios)
		return err
	}
	_, err := fmt.Fprintf(w, "%d scenarios are fine\n", l.Scenarios)
	return err
}

// verdict is the exit code.
func (l *linted) verdict(strict bool) error {
	warned := false
	for _, p := range l.Problems {
		if p.Level == lint.Error {
			return &ExitError{result.ExitUsage}
		}
		warned = true
	}
	if strict && warned {
		return &ExitError{result.ExitRed}
	}
	return nil
}
