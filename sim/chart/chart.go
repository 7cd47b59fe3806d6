// Package chart draws what a scenario does as a sequence chart: hosts are lifelines, each frame an
// arrow. A chart is made from the checked scenario and the frames that its steps give, so a new
// kind of step needs nothing here; its heading is its own text in the file.
package chart

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/sim/reach"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
)

// maxMessages is how many frames of one step are drawn; the rest is told as a number.
const maxMessages = 40

// Chart is a scenario as a sequence.
type Chart struct {
	Name, Summary string
	Hosts         []Host // lifelines, in the order of the file
	Items         []Item
}

// Host is a lifeline.
type Host struct {
	Name    string
	Watched []string // interfaces that the agent watches
	Stack   bool     // the kernel answers there by itself
	Tracked bool     // the kernel tracks connections there, and what it has must agree with the agent
}

// Kind is what an Item is.
type Kind int

// The kinds of items.
const (
	Step    Kind = iota // the beginning of a step, in the file's words
	Message             // a frame
	Note                // something that is not a frame
	Event               // something that happens to the agent, the clock or the network
)

// What To can be besides a host's number.
const (
	Nobody = -1 // no host has the address
	All    = -2 // every host on the segment
)

// Item is one row of a chart.
type Item struct {
	Kind Kind
	Line int // in the file
	Text string
	// From and To are numbers of hosts, or Nobody or All; of messages, and of notes about two
	// hosts.
	From, To int
	// Count is how many equal frames stand behind one another.
	Count int
	// More is how many frames a note stands for that are not drawn.
	More int
	// Marks tell what is special: "retransmission", "tunnel".
	Marks []string
	// Seen are the hosts where a hook of the agent sees the frame.
	Seen []int
}

// New draws a scenario. source is its file, for the words of its steps.
func New(sc *spec.Scenario, source []byte) (*Chart, error) {
	d := &drawer{
		Chart: Chart{Name: sc.Name, Summary: sc.Summary}, sc: sc,
		lines: strings.Split(string(source), "\n"),
		reach: reach.New(&sc.Topology), builder: traffic.NewBuilder(&sc.Topology),
	}
	for _, h := range sc.Topology.Hosts {
		host := Host{Name: h.Name, Stack: h.Stack, Tracked: h.Tracked}
		for _, p := range sc.Agent.On {
			if p.Host == h.Name {
				host.Watched = append(host.Watched, p.Interface)
			}
		}
		d.Hosts = append(d.Hosts, host)
	}
	for i := range sc.Steps {
		if err := d.step(&sc.Steps[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", sc.Name, err)
		}
	}
	return &d.Chart, nil
}

// drawer makes a chart.
type drawer struct {
	Chart
	sc      *spec.Scenario
	lines   []string
	reach   *reach.Map
	builder *traffic.Builder
}

// heading is the step's first line in the file, without the list's dash and the comment.
func (d *drawer) heading(line int) string {
	if line < 1 || line > len(d.lines) {
		return ""
	}
	text := strings.TrimSpace(d.lines[line-1])
	text, _, _ = strings.Cut(text, " #")
	return strings.TrimSpace(strings.TrimPrefix(text, "-"))
}

func (d *drawer) step(s *spec.Step) error {
	head := Item{Kind: Step, Line: s.Line, Text: d.heading(s.Line)}
	if s.Text != "" { // drawn: the file has only what stands for it
		first, _, _ := strings.Cut(s.Text, "\n")
		head.Text = "mix: " + strings.TrimPrefix(first, "- ")
	}
	if s.Socket != nil {
		d.Items = append(d.Items, head)
		d.sockets(s)
		return nil
	}
	t := talk{drawer: d, line: s.Line}
	for f, err := range d.builder.Frames(s) {
		if err != nil {
			return err
		}
		t.frame(&f)
	}
	if len(t.items) == 0 { // it sends nothing
		head.Kind = Event
	}
	d.Items = append(append(d.Items, head), t.items...)
	if t.more > 0 {
		d.Items = append(d.Items, Item{Kind: Note, Line: s.Line, From: Nobody, To: Nobody, More: t.more,
			Text: fmt.Sprintf("and %d more frames", t.more)})
	}
	return nil
}

// sockets says what real sockets will do; which frames the kernels make of it is theirs.
func (d *drawer) sockets(s *spec.Step) {
	k := s.Socket
	from, to := d.host(k.From.Host), d.host(k.To.Host)
	add := func(from, to int, text string) {
		d.Items = append(d.Items, Item{Kind: Note, Line: s.Line, From: from, To: to, Text: text})
	}
	add(from, to, fmt.Sprintf("%s socket to port %d, %d bytes", k.Network, k.To.Port, k.Bytes))
	if k.Reply > 0 {
		add(to, from, fmt.Sprintf("reply of %d bytes", k.Reply))
	}
}

func (d *drawer) host(name string) int {
	return slices.IndexFunc(d.Hosts, func(h Host) bool { return h.Name == name })
}

// talk is the frames of one step.
type talk struct {
	*drawer
	line  int
	items []Item
	more  int
	view  view
}

// frame adds a frame, to the one before if it is the same.
func (t *talk) frame(f *traffic.Frame) {
	if len(t.items) >= maxMessages {
		t.more++
		return
	}
	text, marks := t.view.describe(f.Data, t.first(f))
	w := t.reach.Frame(spec.Port{Host: f.Host, Interface: f.Interface}, f.Data)
	item := Item{Kind: Message, Line: t.line, Text: text, Marks: marks, Count: 1,
		From: t.host(f.Host), To: t.receiver(&w, f)}
	for i, h := range t.Hosts {
		if t.sees(&w, h) {
			item.Seen = append(item.Seen, i)
		}
	}
	if n := len(t.items); n > 0 && same(&t.items[n-1], &item) {
		t.items[n-1].Count++
		return
	}
	t.items = append(t.items, item)
}

func same(a, b *Item) bool {
	return a.Text == b.Text && a.From == b.From && a.To == b.To && slices.Equal(a.Marks, b.Marks)
}

// sees tells whether a watched interface of the host is on the way.
func (t *talk) sees(w *reach.Way, h Host) bool {
	for _, hook := range w.Hooks {
		if hook.Namespace == h.Name && slices.Contains(h.Watched, hook.Interface) {
			return true
		}
	}
	return false
}

// receiver is who takes the frame in.
func (t *talk) receiver(w *reach.Way, f *traffic.Frame) int {
	switch {
	case len(w.Ends) > 1 || w.ToAll:
		return All
	case len(w.Ends) == 1:
		return t.host(w.Ends[0])
	}
	return Nobody
}

// first is what the frame begins with.
func (t *talk) first(f *traffic.Frame) gopacket.LayerType {
	switch i := t.sc.Topology.Host(f.Host).Interface(f.Interface); {
	case !i.Kind.L3():
		return layers.LayerTypeEthernet
	case len(f.Data) > 0 && f.Data[0]>>4 == 6:
		return layers.LayerTypeIPv6
	}
	return layers.LayerTypeIPv4
}
