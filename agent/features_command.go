package agent

import (
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/bpf/latency"
	"github.com/weirnet/weir/bpf/sockets"
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
			for _, name := range Features() {
				note, err := ProbeFeature(name)
				text := "available"
				if note != "" {
					text += ", " + note
				}
				if err != nil {
					text = "not available: " + err.Error()
				}
				fmt.Fprintf(t, "%s\t%s\n", name, text)
			}
			return t.Flush()
		},
	}
}

// ProbeFeature finds out whether a feature can run on this kernel, by loading it for a moment. The
// note is what it cannot tell here.
func ProbeFeature(name string) (note string, err error) {
	switch {
	case name == FeatureNAT:
		return "", probeTranslations()
	case name == sockets.Feature:
		return probeHolders()
	case slices.Contains(latency.Features(), name):
		return "", latency.Probe(name)
	}
	return trace.Probe(name)
}
