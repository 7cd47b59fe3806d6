package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/collector"
	"github.com/weirnet/weir/sim/result"
)

func collectCommand() *cobra.Command {
	var listen, output string
	c := &cobra.Command{
		Use: "collect [flags] [-- COMMAND...]", Short: "write NetFlow 9 and IPFIX as lines of JSON",
		Long: `Receives NetFlow version 9 and IPFIX over UDP and writes each flow record as a line of JSON, with
the names of IANA's registry. With a command, it runs that, with {collector} replaced by the
address that it listens on, hands it SIGINT and SIGTERM, and ends when it has ended; without one it
ends with the signal. For scenarios that judge another program.`,
		Example: "  weir sim collect --output flows.jsonl -- softflowd -d -i eth0 -v 10 -n {collector}",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
			defer stop()
			if output == "-" {
				return collect(ctx, cmd, listen, cmd.OutOrStdout(), args)
			}
			f, err := os.Create(output)
			if err != nil {
				return fmt.Errorf("collect: %w", err)
			}
			return errors.Join(collect(ctx, cmd, listen, f, args), f.Close())
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`address` to listen on; port 0 is any that is free")
	c.Flags().StringVar(&output, "output", "-", "`file` to write; - is standard output")
	return c
}

func collect(ctx context.Context, cmd *cobra.Command, listen string, out io.Writer, args []string) error {
	c, err := collector.Listen(listen, out)
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "collecting on", c.Addr())
	if len(args) == 0 {
		<-ctx.Done()
	} else {
		err = runBeside(ctx, cmd.ErrOrStderr(), c.Addr(), args)
	}
	stats, closed := c.Close()
	fmt.Fprintf(cmd.ErrOrStderr(), "%d messages, %d records, %d malformed, %d data sets without template\n",
		stats.Messages, stats.Records, stats.Malformed, stats.WithoutTemplate)
	if errors.Join(err, closed) != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "weir: collect:", errors.Join(err, closed))
		return &ExitError{result.ExitHarness}
	}
	return nil
}

// runBeside runs the exporter until it ends. A signal to us is one to it.
func runBeside(ctx context.Context, log io.Writer, address string, args []string) error {
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "{collector}", address)
	}
	child := exec.CommandContext(ctx, args[0], args[1:]...)
	child.Stdout, child.Stderr = log, log
	child.Cancel = func() error { return child.Process.Signal(unix.SIGTERM) }
	err := child.Run()
	if ctx.Err() != nil { // it was told to end, and how it says so is its own matter
		return nil
	}
	return err
}
