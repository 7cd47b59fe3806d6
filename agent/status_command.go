package agent

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// StatusCommand is `weir status`.
func StatusCommand() *cobra.Command {
	var socket string
	var output outputFlag
	c := &cobra.Command{
		Use:   "status",
		Short: "tell in plain words how the agent is",
		Long: `Tells whether the agent is healthy, which interfaces it watches and how, what is being lost
and why, how full its tables are, which features are off and why, and how its sinks are.
It fails when the agent is not healthy.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %s: want text or json", output)
			}
			s, err := control.Dial(socket).Status(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(cmd.OutOrStdout(), s)
			} else {
				err = statusText(cmd.OutOrStdout(), &s, time.Now())
			}
			if err == nil && s.Trouble != "" {
				err = fmt.Errorf("the agent is not healthy: %s", s.Trouble)
			}
			return err
		},
	}
	c.Flags().StringVar(&socket, "socket", control.DefaultSocket, "the agent's control socket")
	c.Flags().StringVarP((*string)(&output), "output", "o", "text", "text or json")
	return c
}

// statusText writes the status in words.
func statusText(w io.Writer, s *control.Status, now time.Time) error {
	var b strings.Builder
	health := "healthy"
	if s.Trouble != "" {
		health = "NOT HEALTHY: " + s.Trouble
	}
	fmt.Fprintf(&b, "Agent %s, process %d, up for %v: %s\n", s.Boot, s.PID, now.Sub(s.Since).Round(time.Second), health)
	describeHooks(&b, s)
	describePackets(&b, &s.Counters)
	describeTable(&b, s)
	describeFeatures(&b, s)
	for i := range s.Sinks {
		describeSink(&b, &s.Sinks[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func describeHooks(b *strings.Builder, s *control.Status) {
	b.WriteString("\nWatched interfaces\n")
	// Both directions of an interface come one after the other.
	type place struct{ where, mode string }
	var order []place
	directions := map[place][]string{}
	gone := 0
	for i := range s.Hooks {
		h := &s.Hooks[i]
		if h.Gone {
			gone++
			continue
		}
		p := place{strings.TrimSuffix(h.Hook.String(), " "+string(h.Hook.Direction)), h.Mode}
		if directions[p] == nil {
			order = append(order, p)
		}
		directions[p] = append(directions[p], string(h.Hook.Direction))
	}
	for _, p := range order {
		fmt.Fprintf(b, "  %s: %s, attached by %s\n", p.where, strings.Join(directions[p], " and "), p.mode)
	}
	if len(order) == 0 {
		b.WriteString("  none\n")
	}
	for _, u := range s.Unwatched {
		hook := flow.Hook{Namespace: u.Namespace, Interface: u.Interface}
		fmt.Fprintf(b, "  %s: NOT WATCHED: %s\n", strings.TrimSpace(hook.String()), u.Reason)
	}
	if gone > 0 {
		fmt.Fprintf(b, "  %d hooks were taken off; what they have counted is below, too\n", gone)
	}
}

func describePackets(b *strings.Builder, c *control.Counters) {
	var seen, accounted, observed bpf.Count
	lost, leftOut := map[string]bpf.Count{}, map[string]bpf.Count{}
	merge := func(to, from map[string]bpf.Count) {
		for reason, n := range from {
			n.Add(to[reason])
			to[reason] = n
		}
	}
	for i := range c.Hooks {
		h := &c.Hooks[i]
		seen.Add(h.Seen)
		accounted.Add(h.Accounted)
		observed.Add(h.Observed)
		merge(lost, h.Lost)
		merge(leftOut, h.LeftOut)
	}
	if c.NoHook.Packets > 0 {
		seen.Add(c.NoHook)
		merge(lost, map[string]bpf.Count{bpf.ReasonNoHook: c.NoHook})
	}
	fmt.Fprintf(b, "\nPackets\n  %d seen: %d counted, %d that another hook has counted\n", seen.Packets,
		accounted.Packets, observed.Packets)
	describeReasons(b, "left out", "nothing is left out", leftOut, seen)
	describeReasons(b, "lost", "nothing was lost", lost, seen)
}

// describeReasons lists counts, the largest first.
func describeReasons(b *strings.Builder, what, none string, counts map[string]bpf.Count, seen bpf.Count) {
	if len(counts) == 0 {
		fmt.Fprintf(b, "  %s\n", none)
		return
	}
	reasons := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if d := int64(counts[y].Packets) - int64(counts[x].Packets); d != 0 {
			return int(d)
		}
		return strings.Compare(x, y)
	})
	for _, reason := range reasons {
		n := counts[reason]
		fmt.Fprintf(b, "  %d %s, %s: %s\n", n.Packets, what, share(n.Packets, seen.Packets), reason)
	}
}

func share(n, of uint64) string {
	if of == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.2g %%", 100*float64(n)/float64(of))
}

func describeTable(b *strings.Builder, s *control.Status) {
	fmt.Fprintf(b, "\nConnection tables, with room for %d each\n", s.Table.Size)
	size := uint64(s.Table.Size)
	fmt.Fprintf(b, "  IPv4: %d connections, %s full\n", s.Table.IPv4, share(uint64(s.Table.IPv4), size))
	fmt.Fprintf(b, "  IPv6: %d connections, %s full\n", s.Table.IPv6, share(uint64(s.Table.IPv6), size))
	fmt.Fprintf(b, "  %d sweeps, of which %d failed; the last took %v\n", s.Sweeps.Done, s.Sweeps.Failed,
		s.Sweeps.Last.Round(10*time.Microsecond))
	if s.Sweeps.Error != "" {
		fmt.Fprintf(b, "  the last sweep failed: %s\n", s.Sweeps.Error)
	}
	for _, p := range s.Probes {
		if !p.OK {
			fmt.Fprintf(b, "  the kernel has no %s: %s\n", p.Name, p.Consequence)
		}
	}
}

func describeFeatures(b *strings.Builder, s *control.Status) {
	b.WriteString("\nFeatures\n")
	for _, f := range s.Features {
		text := map[string]string{control.FeatureOn: "on", control.FeatureOff: "off: not configured",
			control.FeatureCannot: "OFF: cannot run here: " + f.Reason}[f.State]
		if f.Note != "" {
			text += ", " + f.Note
		}
		if f.Lost > 0 {
			text += fmt.Sprintf("; %d lost for want of room", f.Lost)
		}
		fmt.Fprintf(b, "  %s: %s\n", f.Name, text)
	}
	labels := "off: not configured"
	if s.Labels != nil {
		var unknown uint64
		for _, n := range s.Labels.Unknown {
			unknown += n.Packets
		}
		labels = fmt.Sprintf("on; %d packets labelled, %d with an unknown class", s.Labels.Labelled.Packets, unknown)
	}
	fmt.Fprintf(b, "  %s: %s\n", "labels", labels)
	b.WriteString("\nSinks\n")
}

func describeSink(b *strings.Builder, s *export.Stats) {
	state := "in order"
	if s.Failing {
		state = "FAILING: " + s.Error
	}
	where := "in memory"
	if s.Spooled {
		where = "on disk"
	}
	fmt.Fprintf(b, "  %s: %s\n    %d records sent, %d wait %s, %d sent again\n", s.Name, state, s.Sent.Records,
		s.Held.Records, where, s.Retried.Records)
	for _, reason := range slices.Sorted(maps.Keys(s.Dropped)) {
		fmt.Fprintf(b, "    %d records DROPPED: %s\n", s.Dropped[reason].Records, reason)
	}
}
