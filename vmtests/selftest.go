package vmtests

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/matrix"
	"github.com/weirnet/weir/vmtests/qemu"
)

// selftestCommand is `weir vm selftest`.
func selftestCommand() *cobra.Command {
	var (
		c       common
		kernels string
	)
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "Let everything go wrong in a guest, and check that the harness notices",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lines, err := kernel.ParseLines(kernels)
			if err != nil {
				return usage(err)
			}
			accel, err := qemu.ParseAccel(c.accel)
			if err != nil {
				return usage(err)
			}
			return c.selftest(cmd, lines, accel)
		},
	}
	cmd.Flags().StringVarP(&kernels, "kernel", "k", "5.10,newest",
		"`LINES`, separated by commas")
	c.mirrorFlags(cmd)
	c.accelFlag(cmd)
	return cmd
}

func (c *common) selftest(cmd *cobra.Command, lines []string, accel qemu.Accel) error {
	store, err := c.store(cmd)
	if err != nil {
		return err
	}
	bin, err := binary()
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	line := newLiveLine(cmd.ErrOrStderr())
	checks, err := matrix.SelfTest(ctx, matrix.Config{
		Cache: store.Dir, Binary: bin, Kernels: store.Get(ctx, lines), Accel: accel,
		Progress: line.show,
	})
	line.clear()
	if err != nil {
		return broken(err)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	passed, failed, skipped := 0, 0, 0
	for _, check := range checks {
		word := "ok"
		switch {
		case check.Err != nil:
			word = "WRONG: " + check.Err.Error()
			failed++
		case check.Got.Verdict == result.Skip:
			word = "skipped"
			skipped++
		default:
			passed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d ms\t%s\t%s\n", check.Line, check.Name,
			check.Got.Verdict, check.Got.Millis, word, oneLine(check.Got.Reason))
	}
	if err := w.Flush(); err != nil {
		return broken(fmt.Errorf("print checks: %w", err))
	}
	closing := fmt.Sprintf("%d passed, %d failed", passed, failed)
	if skipped > 0 {
		closing += fmt.Sprintf(", %d skipped", skipped)
	}
	fmt.Fprintln(cmd.OutOrStdout(), closing)
	if failed > 0 || passed == 0 {
		return &ExitError{Code: result.ExitHarness}
	}
	return nil
}

// oneLine shortens a reason for a table.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 70 {
		s = string(r[:69]) + "…"
	}
	return s
}
