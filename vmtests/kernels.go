package vmtests

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/vmtests/kernel"
)

// listCommand is `weir vm list`.
func listCommand() *cobra.Command {
	var c common
	return &cobra.Command{
		Use:   "list [LINE...]",
		Short: "Show kernel lines, what they were resolved to, and whether they are cached",
		RunE: func(cmd *cobra.Command, args []string) error {
			lines, err := kernel.ParseLines(strings.Join(args, ","))
			if err != nil {
				return usage(err)
			}
			store, err := c.store(cmd)
			if err != nil {
				return err
			}
			return printKernels(cmd, store.Cached(lines))
		},
	}
}

// pullCommand is `weir vm pull`.
func pullCommand() *cobra.Command {
	var c common
	cmd := &cobra.Command{
		Use:   "pull [LINE...]",
		Short: "Resolve lines to their newest packages and fetch what is new",
		RunE: func(cmd *cobra.Command, args []string) error {
			lines, err := kernel.ParseLines(strings.Join(args, ","))
			if err != nil {
				return usage(err)
			}
			store, err := c.store(cmd)
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			found := store.Pull(ctx, lines)
			if err := printKernels(cmd, found); err != nil {
				return err
			}
			for _, f := range found {
				if f.Err != nil && !kernel.Optional(f.Line) {
					return broken(fmt.Errorf("fetch kernel %s: %w", f.Line, f.Err))
				}
			}
			return nil
		},
	}
	c.mirrorFlags(cmd)
	return cmd
}

// printKernels prints a table of lines. Lines that are the same kernel are said to be.
func printKernels(cmd *cobra.Command, found []kernel.Found) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LINE\tSTATE\tRELEASE\tRESOLVED\tPACKAGE")
	first := map[string]string{}
	for _, f := range found {
		word, why := state(f)
		resolved := "-"
		if !f.Resolved.IsZero() {
			resolved = f.Resolved.Format("2006-01-02")
		}
		note := f.Kernel.Package
		if f.Err == nil {
			if other, ok := first[f.Kernel.SHA256]; ok {
				note += " (the same as " + other + ")"
			} else {
				first[f.Kernel.SHA256] = f.Line
			}
		} else {
			note = why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Line, word, dash(f.Kernel.Release), resolved,
			dash(note))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print kernels: %w", err)
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
