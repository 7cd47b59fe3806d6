package differ

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

// State is what one side says after a case: nothing else can be seen from outside.
type State struct {
	Counters    map[flow.Hook]model.Counters
	Connections []conntrack.Entry // in the order of their first packets
	Ended       []model.Flow      // flows that are over, and those that found no room
}

// Lines is the state as text, one fact a line: connections in their order, then what ended,
// sorted, then the counters.
func (s *State) Lines() []string {
	lines := s.connectionLines()
	lines = append(lines, s.endedLines()...)
	for _, hook := range slices.SortedFunc(maps.Keys(s.Counters), byName) {
		lines = append(lines, counterLines(hook, s.Counters[hook])...)
	}
	return lines
}

func byName(a, b flow.Hook) int { return strings.Compare(a.String(), b.String()) }

func (s *State) connectionLines() []string {
	var lines []string
	for i := range s.Connections {
		lines = append(lines, connectionLine(&s.Connections[i]))
	}
	return lines
}

func (s *State) endedLines() []string {
	var lines []string
	for i := range s.Ended {
		lines = append(lines, endedLine(&s.Ended[i]))
	}
	slices.Sort(lines)
	return lines
}

// connectionLine is a connection as vectors write it.
func connectionLine(e *conntrack.Entry) string {
	arrow := ">"
	if !e.Known {
		arrow = "-" // who opened it is not known
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s", tuple{e.Zone, e.Protocol, e.Cites, e.ICMPType, e.ICMPCode,
		e.ICMPID, e.Src.String(), e.Dst.String(), e.SrcPort, e.DstPort}.text(arrow), e.State)
	if e.Expired {
		b.WriteString(" expired")
	}
	if e.ICMPError != "" {
		fmt.Fprintf(&b, " error %s", e.ICMPError)
	}
	legText(&b, " out", &e.Forward)
	legText(&b, " back", &e.Reverse)
	return b.String()
}

func legText(b *strings.Builder, name string, l *conntrack.Leg) {
	if l.Packets == 0 && l.Bytes == 0 && len(l.Seen) == 0 {
		return
	}
	fmt.Fprintf(b, "%s %d/%d", name, l.Packets, l.Bytes)
	trafficText(b, l.Flags, l.First, l.Last, l.Seen)
}

func trafficText(b *strings.Builder, flags flow.TCPFlags, first, last int64, seen []flow.Hook) {
	if flags != 0 {
		fmt.Fprintf(b, " %s", flags)
	}
	fmt.Fprintf(b, " %s", span(first, last))
	if len(seen) == 0 {
		return
	}
	// The order in which others than the owner were listed says nothing.
	others := slices.Clone(seen[1:])
	slices.SortFunc(others, byName)
	fmt.Fprintf(b, " %s", seen[0].Interface)
	for _, h := range others {
		fmt.Fprintf(b, "+%s", h.Interface)
	}
}

// span writes the times of the first and the last packet, relative to the begin of a case.
func span(first, last int64) string {
	if first == last {
		return "at " + since(first)
	}
	return "at " + since(first) + ".." + since(last)
}

// endedLine is a flow that is over.
func endedLine(f *model.Flow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ended %s %s %s %s", tuple{f.Zone, f.Protocol, f.Cites, f.ICMPType, f.ICMPCode,
		f.ICMPID, f.Src.String(), f.Dst.String(), f.SrcPort, f.DstPort}.text(">"), f.State,
		f.Role, f.Reason)
	if f.ICMPError != "" {
		fmt.Fprintf(&b, " error %s", f.ICMPError)
	}
	fmt.Fprintf(&b, " %d/%d", f.Packets, f.Bytes)
	trafficText(&b, f.Flags, f.Start, f.End, f.Seen)
	return b.String()
}

// counterLines are a hook's counters that are not zero.
func counterLines(hook flow.Hook, c model.Counters) []string {
	var lines []string
	add := func(name string, n model.Count) {
		if n != (model.Count{}) {
			lines = append(lines, fmt.Sprintf("count %s %s %s", hook.Interface, name, size(n)))
		}
	}
	add("seen", c.Seen)
	add("accounted", c.Accounted)
	add("observed", c.Observed)
	for _, reason := range slices.Sorted(maps.Keys(c.LeftOut)) {
		add("left-out "+string(reason), c.LeftOut[reason])
	}
	for _, reason := range slices.Sorted(maps.Keys(c.Lost)) {
		add("lost "+string(reason), c.Lost[reason])
	}
	return lines
}

// size is a number of packets and their bytes.
func size(n model.Count) string { return fmt.Sprintf("%d/%d", n.Packets, n.Bytes) }
