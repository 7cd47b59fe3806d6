package agent

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/bpf/latency"
	"github.com/weirnet/weir/bpf/trace"
)

// featuresCommand is `weir agent features`.
func featuresCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "features",
		Short: "tell which optional features can run on this kernel",
		Long: `Loads each optional feature for a moment, and tells whether it can run on this kernel
and why not. The configuration's key "features" switches them on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			all := trace.Probe()
			for _, name := range latency.Features() {
				all = append(all, trace.Status{Feature: name, Err: latency.Probe(name)})
			}
			all = append(all, trace.Status{Feature: featureNAT, Err: probeTranslations()})
			for _, s := range all {
				text := "available"
				if s.Note != "" {
					text += ", " + s.Note
				}
				if s.Err != nil {
					text = "not available: " + s.Err.Error()
				}
				fmt.Fprintf(t, "%s\t%s\n", s.Feature, text)
			}
			return t.Flush()
		},
	}
}
