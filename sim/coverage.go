package sim

import (
	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/coverage"
)

func coverageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "coverage [file or folder...]", Short: "print which protocols, events and topologies scenarios show",
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := find(args, "")
			if err != nil {
				return err
			}
			t, err := coverage.New(jobs)
			if err != nil {
				return err
			}
			return t.Markdown(cmd.OutOrStdout())
		},
	}
}
