package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"
)

// flags are the flags of `weir bench`.
type flags struct {
	object, program, match, output string
	set                            []string
	rounds                         int
	endToEnd                       bool
}

// Command is `weir bench`.
func Command() *cobra.Command { return new(flags).command() }

func (f *flags) command() *cobra.Command {
	c := &cobra.Command{
		Use: "bench", Short: "measure what a packet and a sweep cost", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := f.options()
			if err != nil {
				return err
			}
			if f.endToEnd {
				r, err := RunEndToEnd(cmd.Context(), EndToEndOptions{Rounds: f.rounds, Progress: cmd.ErrOrStderr()})
				if err != nil {
					return err
				}
				return f.print(cmd.OutOrStdout(), &r)
			}
			opts.Progress = cmd.ErrOrStderr()
			r, err := Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), &r)
		},
	}
	c.Flags().BoolVar(&f.endToEnd, "end-to-end", false,
		"send at the highest rate past no observer, weir, and others that are installed")
	c.Flags().StringVar(&f.object, "object", "", "compare with a program of this compiled `FILE`")
	c.Flags().StringVar(&f.program, "program", "", "`NAME` of the tc program in it")
	c.Flags().StringArrayVar(&f.set, "set", nil, "set a global variable of it, as `NAME=NUMBER`; repeatable")
	c.Flags().StringVar(&f.match, "run", "", "only figures whose name matches this regular expression")
	c.Flags().IntVar(&f.rounds, "rounds", 0, "rounds of each case (0: 15; end to end: 5)")
	c.Flags().StringVarP(&f.output, "output", "o", "table", "table or json")
	return c
}

// print writes a result in the form that was asked for.
func (f *flags) print(w io.Writer, r interface{ Write(io.Writer) error }) error {
	if f.output != "json" {
		return r.Write(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// options turns the flags into options.
func (f *flags) options() (Options, error) {
	opts := Options{Rounds: f.rounds}
	if f.output != "table" && f.output != "json" {
		return opts, fmt.Errorf("--output %s: want table or json", f.output)
	}
	if f.rounds < 0 {
		return opts, fmt.Errorf("--rounds %d: want at least 1", f.rounds)
	}
	if (f.object == "") != (f.program == "") || f.object == "" && f.set != nil {
		return opts, fmt.Errorf("--object and --program go together, and --set with them")
	}
	if f.endToEnd && (f.object != "" || f.match != "") {
		return opts, fmt.Errorf("--end-to-end goes with --rounds and --output alone")
	}
	if f.match != "" {
		re, err := regexp.Compile(f.match)
		if err != nil {
			return opts, fmt.Errorf("--run %q: %w", f.match, err)
		}
		opts.Match = re
	}
	if f.object == "" {
		return opts, nil
	}
	set, err := parseSet(f.set)
	opts.Peer = &Peer{Object: f.object, Program: f.program, Set: set}
	return opts, err
}
