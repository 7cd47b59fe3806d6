package vmtests

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/matrix"
	"github.com/weirnet/weir/vmtests/qemu"
)

// shellCommand is `weir vm shell`.
func shellCommand() *cobra.Command {
	var c common
	cmd := &cobra.Command{
		Use:   "shell LINE [SCENARIO]",
		Short: "Work by hand in a guest, with the topology of a scenario if one is named",
		Long: "Work by hand in a guest, with the topology of a scenario if one is named.\n" +
			"The guest has no programs but weir and those that the scenario needs; help shows the commands of its shell.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return c.shell(cmd, args) },
	}
	c.mirrorFlags(cmd)
	c.accelFlag(cmd)
	return cmd
}

func (c *common) shell(cmd *cobra.Command, args []string) error {
	lines, err := kernel.ParseLines(args[0])
	if err != nil {
		return usage(err)
	}
	if len(lines) != 1 || lines[0] == kernel.Every {
		return usage(errors.New("a shell wants one kernel"))
	}
	accel, err := qemu.ParseAccel(c.accel)
	if err != nil {
		return usage(err)
	}
	var jobs []runner.Job
	if len(args) > 1 {
		if jobs, err = suite.Find(args[1:], nil); err != nil {
			return usage(err)
		}
		if len(jobs) > 1 {
			return usage(fmt.Errorf("a shell wants one scenario, %s is %d", args[1], len(jobs)))
		}
	}
	store, err := c.store(cmd)
	if err != nil {
		return err
	}
	bin, err := binary()
	if err != nil {
		return err
	}
	// An interrupt is for the command in the guest: only the other signals end the shell.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	files, err := programsOf(ctx, jobs)
	if err != nil {
		return err
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	err = matrix.Shell(ctx, matrix.Config{
		Cache: store.Dir, Binary: bin, Kernels: store.Get(ctx, lines), Jobs: jobs, Files: files, Accel: accel,
	}, matrix.Terminal{
		Lines: readLines(cmd.InOrStdin()), Interrupts: interrupts, Out: cmd.OutOrStdout(),
	})
	if err != nil {
		return broken(err)
	}
	return nil
}

// readLines hands out the lines of r, and closes the channel at its end.
func readLines(r io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	return lines
}
