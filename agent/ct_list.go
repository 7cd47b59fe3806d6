package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
)

// listing is `weir ct list`.
type listing struct {
	choice
	socket *string
	output outputFlag
	sort   string
	top    int
	every  time.Duration
	count  int
}

func listCommand(socket *string) *cobra.Command {
	l := &listing{socket: socket}
	c := &cobra.Command{
		Use:   "list",
		Short: "list the connections that the agent tracks",
		Long: `Lists the connections that fit all of the flags. With --watch the list is written again and
again; as JSON, each list is one line then.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	l.choice.on(c)
	l.output.on(c)
	f := c.Flags()
	f.StringVar(&l.sort, "sort", "", "order by "+strings.Join(sortKeys(), ", ")+"; default: the table's order")
	f.IntVar(&l.top, "top", 0, "list so many at most; 0: all")
	f.DurationVar(&l.every, "watch", 0, "list them again after so long, until it is interrupted")
	f.IntVar(&l.count, "count", 0, "with --watch, end after so many lists; 0: go on")
	return c
}

// sortOrders are the orders of --sort; numbers come largest first.
var sortOrders = map[string]func(x, y *conntrack.Entry) int{
	"bytes": func(x, y *conntrack.Entry) int {
		return cmp.Compare(y.Forward.Bytes+y.Reverse.Bytes, x.Forward.Bytes+x.Reverse.Bytes)
	},
	"packets": func(x, y *conntrack.Entry) int {
		return cmp.Compare(y.Forward.Packets+y.Reverse.Packets, x.Forward.Packets+x.Reverse.Packets)
	},
	"idle": func(x, y *conntrack.Entry) int { return cmp.Compare(y.Idle, x.Idle) },
	"left": func(x, y *conntrack.Entry) int { return cmp.Compare(y.Lifetime-y.Idle, x.Lifetime-x.Idle) },
	"age":  func(x, y *conntrack.Entry) int { return cmp.Compare(x.First(), y.First()) },
	"src": func(x, y *conntrack.Entry) int {
		return cmp.Or(x.Src.Compare(y.Src), cmp.Compare(x.SrcPort, y.SrcPort))
	},
	"dst": func(x, y *conntrack.Entry) int {
		return cmp.Or(x.Dst.Compare(y.Dst), cmp.Compare(x.DstPort, y.DstPort))
	},
	"state": func(x, y *conntrack.Entry) int { return cmp.Compare(x.State, y.State) },
}

func sortKeys() []string { return slices.Sorted(maps.Keys(sortOrders)) }

func (l *listing) check() error {
	if err := l.output.check(); err != nil {
		return err
	}
	if l.sort != "" && sortOrders[l.sort] == nil {
		return fmt.Errorf("--sort %s: want %s", l.sort, strings.Join(sortKeys(), ", "))
	}
	if l.every != 0 && l.every < minEvery || l.count < 0 || l.top < 0 {
		return fmt.Errorf("--watch %v, --count %d, --top %d: want at least %v, and 0 or more",
			l.every, l.count, l.top, minEvery)
	}
	return nil
}

func (l *listing) run(ctx context.Context, w io.Writer) error {
	if err := l.check(); err != nil {
		return err
	}
	f, err := l.filter()
	if err != nil {
		return err
	}
	if l.every == 0 {
		return l.once(ctx, w, f)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for n := 0; l.count == 0 || n < l.count; n++ {
		if n > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if l.output == "table" {
				fmt.Fprintln(w)
			}
		}
		if err := l.once(ctx, w, f); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return nil
}

func (l *listing) once(ctx context.Context, w io.Writer, f conntrack.Filter) error {
	all := []conntrack.Entry{}
	err := control.Dial(*l.socket).Select(ctx, f, func(e *conntrack.Entry) error {
		all = append(all, *e)
		return nil
	})
	if err != nil {
		return err
	}
	if order := sortOrders[l.sort]; order != nil {
		slices.SortStableFunc(all, func(x, y conntrack.Entry) int { return order(&x, &y) })
	}
	if l.top > 0 {
		all = all[:min(l.top, len(all))]
	}
	switch {
	case l.output == "table":
		return connectionTable(w, all)
	case l.every > 0:
		return json.NewEncoder(w).Encode(all)
	}
	return writeJSON(w, all)
}

// getCommand is `weir ct get`.
func getCommand(socket *string) *cobra.Command {
	var n naming
	var output outputFlag
	c := &cobra.Command{
		Use:   "get " + namingUsage,
		Short: "show one connection",
		Long: `Looks one connection up, which costs the same however many there are.

` + namingHelp,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := output.check(); err != nil {
				return err
			}
			t, err := n.tuple(args)
			if err != nil {
				return err
			}
			found := false
			err = control.Dial(*socket).Select(cmd.Context(), conntrack.Filter{Tuple: &t}, func(e *conntrack.Entry) error {
				found = true
				if output == "json" {
					return writeJSON(cmd.OutOrStdout(), e)
				}
				return connectionTable(cmd.OutOrStdout(), []conntrack.Entry{*e})
			})
			if err == nil && !found {
				return errNoConnection
			}
			return err
		},
	}
	n.on(c)
	output.on(c)
	return c
}

var errNoConnection = errors.New("there is no such connection in the table")

// exportCommand is `weir ct export`.
func exportCommand(socket *string) *cobra.Command {
	var of choice
	c := &cobra.Command{
		Use:   "export",
		Short: "write connections as JSON lines",
		Long: `Writes the connections that fit all of the flags, one line of JSON for each, as list -o json has
them. The table is as it was at one moment of the walk through it: what comes or goes meanwhile
may be missing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := of.filter()
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			return control.Dial(*socket).Select(cmd.Context(), f, func(e *conntrack.Entry) error { return enc.Encode(e) })
		},
	}
	of.on(c)
	return c
}

// watchCommand is `weir ct watch`.
func watchCommand(socket *string) *cobra.Command {
	var output outputFlag
	var count int
	c := &cobra.Command{
		Use:   "watch",
		Short: "show connections as they end",
		Long: `Writes a line for each connection that ends from now on, once its last record is safe: why it has
ended, and all that it has counted. A reader that is too slow is told how many it has missed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			w, seen := cmd.OutOrStdout(), 0
			err := control.Dial(*socket).Ends(ctx, func() { fmt.Fprintln(cmd.ErrOrStderr(), "watching") }, func(e control.End) error {
				if err := writeEnd(w, &e, output); err != nil {
					return err
				}
				if e.Event != nil {
					seen++
				}
				if count > 0 && seen >= count {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		},
	}
	output.on(c)
	c.Flags().IntVar(&count, "count", 0, "end after so many connections; 0: go on")
	return c
}

var errEnough = errors.New("enough")

func writeEnd(w io.Writer, e *control.End, output outputFlag) error {
	if output == "json" {
		return json.NewEncoder(w).Encode(e)
	}
	if e.Event == nil {
		_, err := fmt.Fprintf(w, "%d missed\n", e.Missed)
		return err
	}
	c := &e.Entry
	_, err := fmt.Fprintf(w, "%s %s %s %s > %s packets %d/%d bytes %d/%d\n", e.Reason, protocol(c.Protocol, c.Cites), c.State,
		endpoint(c.Src, c.SrcPort), endpoint(c.Dst, c.DstPort), c.Forward.Packets, c.Reverse.Packets,
		c.Forward.Bytes, c.Reverse.Bytes)
	return err
}

// statsCommand is `weir ct stats`.
func statsCommand(socket *string) *cobra.Command {
	var output outputFlag
	var ages bool
	c := &cobra.Command{
		Use:   "stats",
		Short: "tell how full the connection tables are, and what comes and goes",
		Long: `Tells how full the connection tables are, how many connections begin and end in a second, why
they end, what was refused, and how old connections are. With --ages=false it costs the same
however many connections there are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			s, err := control.Dial(*socket).TableStats(cmd.Context(), ages)
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), s)
			}
			return statsTable(cmd.OutOrStdout(), &s)
		},
	}
	output.on(c)
	c.Flags().BoolVar(&ages, "ages", true, "tell how old connections are, which looks at each")
	return c
}

func statsTable(w io.Writer, s *conntrack.Stats) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	held := ""
	if !s.Exact {
		held = " at the last sweep"
	}
	fmt.Fprintf(t, "IPv4\t%d of %d, %s full%s\n", s.IPv4, s.Size, share(uint64(s.IPv4), uint64(s.Size)), held)
	fmt.Fprintf(t, "IPv6\t%d of %d, %s full%s\n", s.IPv6, s.Size, share(uint64(s.IPv6), uint64(s.Size)), held)
	var now conntrack.Rates
	if s.Rates != nil {
		now = *s.Rates
	}
	fmt.Fprintf(t, "opened\t%d\t%.1f/s\n", s.Opened, now.Opened)
	for _, why := range slices.Sorted(maps.Keys(s.Ended)) {
		fmt.Fprintf(t, "ended: %s\t%d\t%.1f/s\n", why, s.Ended[why], now.Ended[why])
	}
	fmt.Fprintf(t, "insert errors\t%d\n", s.InsertErrors)
	fmt.Fprintf(t, "delete errors\t%d\n", s.DeleteErrors)
	fmt.Fprintf(t, "lost for a full table\t%d packets\n", s.Full.Packets)
	for i, b := range s.Ages {
		switch {
		case b.UpTo != 0:
			fmt.Fprintf(t, "age up to %v\t%d\n", b.UpTo, b.Count)
		default:
			fmt.Fprintf(t, "older than %v\t%d\n", s.Ages[i-1].UpTo, b.Count)
		}
	}
	return t.Flush()
}

// zonesCommand is `weir ct zones`.
func zonesCommand(socket *string) *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "zones",
		Short: "list the zones, which keep overlapping networks apart",
		Long: `Lists the zones that watched interfaces are in ("zone" of an interface in the configuration), and
those that connections are in, with how many. flush --zone empties one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			all, err := control.Dial(*socket).Zones(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ZONE\tCONNECTIONS\tINTERFACES")
			for _, z := range all {
				fmt.Fprintf(t, "%d\t%d\t%s\n", z.Number, z.Connections, strings.Join(z.Interfaces, ", "))
			}
			return t.Flush()
		},
	}
	output.on(c)
	return c
}
