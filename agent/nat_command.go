package agent

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/nat"
)

// natCommand is `weir ct nat`.
func natCommand(socket *string) *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "nat",
		Short: "list the address translations that the agent has learnt",
		Long: `Lists the connections whose addresses are translated, as their initiators name them
before and after the translation, and what the agent has lost or purged of them. The
agent learns them when its configuration's "features" have nat.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			client := control.Dial(*socket)
			all, err := client.Translations(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), all)
			}
			counters, err := client.Counters(cmd.Context())
			if err != nil {
				return err
			}
			return translationTable(cmd.OutOrStdout(), all, counters.NAT)
		},
	}
	output.on(c)
	return c
}

func translationTable(w io.Writer, all []control.Translation, stats *nat.Stats) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROTO\tSOURCE\tDESTINATION\tBECOMES SOURCE\tDESTINATION\tFLOWS\tNAMESPACE")
	for i := range all {
		x := &all[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s/%s\t%s\n", protocol(x.Protocol, 0),
			endpoint(x.Before.Src, x.Before.SrcPort), endpoint(x.Before.Dst, x.Before.DstPort),
			endpoint(x.After.Src, x.After.SrcPort), endpoint(x.After.Dst, x.After.DstPort),
			flowID(&x.Before), flowID(&x.After), x.Namespace)
	}
	if err := t.Flush(); err != nil || stats == nil {
		return err
	}
	p := &stats.Purges
	_, err := fmt.Fprintf(w, "%d translations; lost %d, overruns %d, malformed %d; purges: "+
		"egress %d alive, %d deleted, ingress %d alive, %d deleted\n", stats.Translations, stats.Lost,
		stats.Overruns, stats.Malformed, p.EgressAlive, p.EgressDeleted, p.IngressAlive, p.IngressDeleted)
	return err
}

// flowID is a flow id, or "-" when no record told it yet.
func flowID(n *flow.NAT) string {
	if n.Flow == 0 {
		return "-"
	}
	return fmt.Sprint(n.Flow)
}
