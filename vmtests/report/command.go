package report

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/result"
)

// Command is `weir report`: it makes reports again from a results.json. Its errors are all about
// bad input or usage; whether the results are red does not matter to it.
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
		tableCmd,
		renderCommand("html", "Render the page as one self-contained file", HTML),
		renderCommand("junit", "Render JUnit XML, a suite per kernel", JUnit),
		renderCommand("markdown", "Render the summary for CI", Markdown),
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
			return Write(dir, r)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `DIR` to write into; it is created if need be")
	_ = cmd.MarkFlagRequired("dir") // it fails for an unknown flag only
	return cmd
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
