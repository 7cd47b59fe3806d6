package sim

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/chart"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/suite"
)

func explainCommand() *cobra.Command {
	var svg string
	var width int
	var steps bool
	c := &cobra.Command{
		Use: "explain FILE", Short: "draw what a scenario does as a sequence chart",
		Long: `Draws what a scenario will send, frame by frame, as a sequence chart: hosts are lifelines, ◆ marks
where the agent sees a frame. Nothing is run and no privilege is needed.

What the kernels add by themselves (answers of hosts with a stack, what real sockets exchange) is
decided when the scenario runs, and is not drawn.`,
		Example: `  weir sim explain scenarios/tcp/retransmission.yaml
  weir sim explain --svg chart.svg scenarios/l3/fragments-v4.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := suite.Find(args, nil)
			if err != nil {
				return fmt.Errorf("explain the scenario: %w", err)
			}
			if err := suite.Check(jobs); err != nil {
				return err
			}
			sc, err := jobs[0].Scenario()
			if err != nil {
				return err
			}
			if steps {
				return drawnSteps(cmd.OutOrStdout(), sc)
			}
			drawing, err := chart.New(sc, jobs[0].Spec)
			if err != nil {
				return err
			}
			if svg != "" {
				return writeTo(svg, cmd.OutOrStdout(), drawing.SVG)
			}
			if width <= 0 {
				width = terminalWidth(cmd.OutOrStdout())
			}
			return drawing.Text(cmd.OutOrStdout(), width)
		},
	}
	c.Flags().StringVar(&svg, "svg", "", "write an SVG image into this `file` instead; - is standard output")
	c.Flags().IntVar(&width, "width", 0, "columns to draw in (default: the terminal's, or 100)")
	c.Flags().BoolVar(&steps, "steps", false, "write the steps that mixes draw, as a scenario can have them")
	return c
}

// drawnSteps writes the steps of mixes.
func drawnSteps(w io.Writer, sc *spec.Scenario) error {
	for _, s := range sc.Steps {
		if _, err := io.WriteString(w, s.Text); err != nil {
			return err
		}
	}
	return nil
}

// writeTo writes a file, or standard output for "-".
func writeTo(file string, stdout io.Writer, write func(io.Writer) error) error {
	if file == "-" {
		return write(stdout)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// defaultWidth is that of a page when nobody says otherwise.
const defaultWidth = 100

// terminalWidth is how many columns an output has: those of its terminal, else $COLUMNS.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return defaultWidth
}
