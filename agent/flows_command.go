package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/talkers"
)

// flowsView is what `weir flows` shows, and how.
type flowsView struct {
	client *control.Client
	every  time.Duration
	count  int // of readings that are shown; 0: no end
	top    int // connections of a reading; 0: all
	filter string
	output outputFlag
	meter  talkers.Meter
}

// FlowsCommand is `weir flows`.
func FlowsCommand() *cobra.Command {
	v := flowsView{}
	var socket string
	c := &cobra.Command{
		Use:   "flows [WORD...]",
		Short: "show the connections that carry the most just now",
		Long: `Reads the agent's connection table again and again, and shows what each connection has carried
meanwhile, the most bytes first. In a terminal, what you type filters the list: every word
must be in the line. Escape empties the filter, Ctrl-C ends. Into a pipe or a file, one table
follows another; with -o json, one line for each connection that has carried something.
Each reading goes through the whole table: on a host with many connections, read rarely.`,
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := v.output.check(); err != nil {
				return err
			}
			if v.every < minEvery || v.count < 0 || v.top < 0 {
				return fmt.Errorf("--every %v, --count %d, --top %d: want at least %v, and 0 or more",
					v.every, v.count, v.top, minEvery)
			}
			v.client, v.filter = control.Dial(socket), strings.Join(words, " ")
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			out, in := cmd.OutOrStdout(), cmd.InOrStdin()
			if v.output == "table" && isTerminal(out) && isTerminal(in) {
				return v.interact(ctx, in.(*os.File), out.(*os.File))
			}
			return v.list(ctx, out)
		},
	}
	f := c.Flags()
	f.StringVar(&socket, "socket", control.DefaultSocket, "the agent's control socket")
	f.DurationVar(&v.every, "every", 2*time.Second, "time between two readings")
	f.IntVar(&v.count, "count", 0, "end after so many readings; 0: go on")
	f.IntVar(&v.top, "top", 0, "show so many connections at most; 0: all")
	v.output.on(c)
	return c
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// read takes a reading, and leaves in it what the filter wants.
func (v *flowsView) read(ctx context.Context) ([]talkers.Talker, error) {
	all, err := v.client.Connections(ctx)
	if err != nil {
		return nil, err
	}
	return v.meter.Read(all, time.Now()), nil
}

// list writes one reading after the other.
func (v *flowsView) list(ctx context.Context, w io.Writer) error {
	tick := time.NewTicker(v.every)
	defer tick.Stop()
	if _, err := v.read(ctx); err != nil {
		return err
	}
	for n := 0; v.count == 0 || n < v.count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		found, err := v.read(ctx)
		if err != nil {
			return err
		}
		if err := v.write(w, found, n); err != nil {
			return err
		}
	}
	return nil
}

func (v *flowsView) write(w io.Writer, found []talkers.Talker, n int) error {
	lines := v.lines(found)
	if v.output == "json" {
		enc := json.NewEncoder(w)
		for _, l := range lines.of {
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}
	if n > 0 {
		fmt.Fprintln(w)
	}
	for _, text := range append([]string{lines.header}, lines.text...) {
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// interact shows readings on a terminal, and takes what is typed for the filter.
func (v *flowsView) interact(ctx context.Context, in, out *os.File) (err error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("prepare the terminal: %w", err)
	}
	defer func() {
		err = errors.Join(err, talkers.Leave(out), term.Restore(int(in.Fd()), before))
	}()
	if err := talkers.Enter(out); err != nil {
		return err
	}
	// The reader ends with the process: a read from a terminal cannot be taken back.
	typed := make(chan []byte)
	go func() {
		for {
			b := make([]byte, 64)
			n, err := in.Read(b)
			if err != nil {
				close(typed)
				return
			}
			typed <- b[:n]
		}
	}()
	return v.loop(ctx, out, typed)
}

func (v *flowsView) loop(ctx context.Context, out *os.File, typed <-chan []byte) error {
	tick := time.NewTicker(v.every)
	defer tick.Stop()
	found, err := v.read(ctx)
	for n := 0; err == nil; {
		if err := v.draw(out, found); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case b, ok := <-typed:
			key := talkers.Quit
			if ok {
				v.filter, key = talkers.Type(v.filter, b)
			}
			if key == talkers.Quit {
				return nil
			}
		case <-tick.C:
			if n++; v.count > 0 && n > v.count {
				return nil
			}
			found, err = v.read(ctx)
		}
	}
	return err
}

func (v *flowsView) draw(out *os.File, found []talkers.Talker) error {
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil {
		return fmt.Errorf("find the terminal's size: %w", err)
	}
	lines := v.lines(found)
	bottom := fmt.Sprintf("%d connections have carried something in %v. Filter: %s_", len(found), v.every, v.filter)
	return talkers.Draw(out, width, height, append([]string{lines.header}, lines.text...), bottom)
}

// flowLines are connections and their texts.
type flowLines struct {
	header string
	text   []string
	of     []*talkers.Talker
}

// lines leaves out what the filter does not want.
func (v *flowsView) lines(found []talkers.Talker) flowLines {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BIT/S\tPACKETS/S\tPROTO\tSTATE\tSOURCE\tDESTINATION\tFROM\tTO")
	for i := range found {
		f := &found[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", metric(f.BitRate()), metric(f.PacketRate()),
			protocol(f.Protocol, f.Cites), f.State, endpoint(f.Src, f.SrcPort), endpoint(f.Dst, f.DstPort),
			oneLine(f.SrcLabels.String()), oneLine(f.DstLabels.String()))
	}
	_ = t.Flush() // to memory
	all := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	out := flowLines{header: all[0]}
	for i, line := range all[1:] {
		if talkers.Matches(line, v.filter) && (v.top == 0 || len(out.of) < v.top) {
			out.text, out.of = append(out.text, strings.TrimRight(line, " ")), append(out.of, &found[i])
		}
	}
	return out
}

// oneLine keeps a name from elsewhere in its cell.
func oneLine(name string) string { return talkers.Clean(name, len(name)) }

// metric writes a number with a decimal prefix.
func metric(v float64) string {
	for _, prefix := range []string{"", "k", "M", "G"} {
		if v < 999.95 {
			return fmt.Sprintf("%.1f%s", v, prefix)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1fT", v)
}
