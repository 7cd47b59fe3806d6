package agent

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/labeler"
)

// labelsCommand is `weir ct labels`.
func labelsCommand(socket *string) *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "labels",
		Short: "show how much traffic the agent could label",
		Long: `Shows how many packets and bytes of all records got labels, and how many did not, by
reason. The agent labels records when its configuration has "labels".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			counters, err := control.Dial(*socket).Counters(cmd.Context())
			switch {
			case err != nil:
				return err
			case counters.Labels == nil:
				return errors.New("the agent has no labels")
			case output == "json":
				return writeJSON(cmd.OutOrStdout(), counters.Labels)
			}
			return labelTable(cmd.OutOrStdout(), counters.Labels)
		},
	}
	output.on(c)
	return c
}

func labelTable(w io.Writer, s *labeler.Stats) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RECORDS\tPACKETS\tBYTES")
	row := func(name string, c labeler.Count) { fmt.Fprintf(t, "%s\t%d\t%d\n", name, c.Packets, c.Bytes) }
	row("all", s.In)
	row("labelled", s.Labelled)
	for _, reason := range slices.Sorted(maps.Keys(s.Unknown)) {
		row("unknown: "+reason, s.Unknown[reason])
	}
	for _, how := range labeler.Sharings() {
		if c := s.Shared[how.String()]; c != (labeler.Count{}) {
			row("ends at the node's addresses: "+how.String(), c)
		}
	}
	if s.Dropped != (labeler.Count{}) {
		row("of all, dropped as mirrors", s.Dropped)
	}
	return t.Flush()
}
