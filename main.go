// Command weir is the network-flow agent and the harness that proves it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/chain/cli"
	chainprocess "github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/export/collect"
	"github.com/weirnet/weir/bpf/bench"
	"github.com/weirnet/weir/sim"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests"
	"github.com/weirnet/weir/vmtests/guest"
	"github.com/weirnet/weir/vmtests/report"
)

func main() {
	chainprocess.Exec()
	if guest.IsGuest() {
		guest.Main(guestOptions())
	}
	err := command().ExecuteContext(context.Background())
	if err == nil {
		return
	}
	code := result.ExitUsage
	var exit interface {
		error
		ExitCode() int
		Silent() bool
	}
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if exit == nil || !exit.Silent() {
		fmt.Fprintln(os.Stderr, "weir:", err)
	}
	os.Exit(code)
}

// guestOptions gives a guest its runner, and its shell the same one.
func guestOptions() guest.Options {
	var r *runner.Runner
	return guest.Options{
		NewRunner: func() (guest.Runner, error) {
			var err error
			r, err = runner.New(runner.Options{})
			return r, err
		},
		Shell: &runner.Stage{Runner: func() *runner.Runner { return r }},
	}
}

// writeReport writes the report of one run, with what it shows to be flaky.
func writeReport(dir string, r *result.Report) error {
	report.AddHistory(r, nil)
	return report.Write(dir, r)
}

// command is `weir` with all its sub-commands.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "weir",
		Short:         "an eBPF network-flow agent, and the harness that proves it",
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(agent.Command(), agent.StatusCommand(), agent.FlowsCommand(), agent.DoctorCommand(),
		agent.ConntrackCommand(), cli.Command(), collect.Command(),
		sim.Command(writeReport),
		vmtests.Command(), report.Command(), bench.Command(), pagesCommand())
	return root
}
