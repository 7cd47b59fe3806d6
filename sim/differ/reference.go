package differ

import (
	"encoding/binary"
	"slices"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

// reference is the model's side of a case.
type reference struct {
	m   *model.Model
	c   *Case
	now int64
}

func newReference(c *Case) *reference {
	cfg := model.Config{Lifetimes: c.lifetimes(), Takeover: c.takeover(), Table: c.table(),
		TableFull: model.Reject, Zones: map[flow.Hook]uint16{}, RingFull: c.RingFull,
		MidStream: !c.NoMidStream, Tunnels: c.Tunnels, Sample: c.Sample}
	cfg.Filter, _ = c.Filters.Compile() // whoever sets them has seen that they do
	if c.Overflow {
		cfg.TableFull = model.Overflow
	}
	for n := 1; n <= Hooks; n++ {
		cfg.Hooks = append(cfg.Hooks, Hook(n))
		cfg.Zones[Hook(n)] = c.Zones[n]
	}
	return &reference{m: model.New(cfg), c: c, now: begin}
}

// step carries out one step.
func (r *reference) step(s *Step) error {
	r.now += int64(s.Wait)
	switch s.Kind {
	case Sweep:
		r.m.Sweep(r.now)
	case Report:
		// The model gives flows in total, however often they were reported.
	default:
		frame := s.Frame
		if r.c.L3 {
			frame = slices.Concat(linkHeader(frame), frame)
		}
		r.m.Receive(model.Arrival{Hook: Hook(s.Hook), Now: r.now, Frame: frame,
			Tag: s.Tag, Segments: s.Segments})
	}
	return nil
}

// linkBytes is the length of the header that linkHeader makes.
const linkBytes = 14

// linkHeader is an Ethernet header for a frame that begins with its IP header: the model knows
// no other frames. Its bytes are taken off again where the model counts.
func linkHeader(frame []byte) []byte {
	header := make([]byte, linkBytes)
	if len(frame) == 0 {
		return header
	}
	switch frame[0] >> 4 {
	case 4:
		binary.BigEndian.PutUint16(header[12:], 0x0800)
	case 6:
		binary.BigEndian.PutUint16(header[12:], 0x86dd)
	}
	return header
}

// state tells what the model says.
func (r *reference) state() (*State, error) {
	s := &State{Counters: r.counters(), Connections: r.m.Connections(r.now)}
	for _, f := range r.m.Flows() {
		if f.Reason != flow.EndActive {
			f.Bytes -= r.link(f.Packets)
			s.Ended = append(s.Ended, f)
		}
	}
	for i := range s.Connections {
		for _, l := range []*conntrack.Leg{&s.Connections[i].Forward, &s.Connections[i].Reverse} {
			l.Bytes -= r.link(l.Packets)
		}
	}
	return s, nil
}

func (r *reference) counters() map[flow.Hook]model.Counters {
	all := r.m.Counters()
	for hook, c := range all {
		c.Seen.Bytes -= r.link(c.Seen.Packets)
		c.Accounted.Bytes -= r.link(c.Accounted.Packets)
		c.Observed.Bytes -= r.link(c.Observed.Packets)
		for _, by := range []map[model.Reason]model.Count{c.LeftOut, c.Lost} {
			for reason, n := range by {
				n.Bytes -= r.link(n.Packets)
				by[reason] = n
			}
		}
		all[hook] = c
	}
	return all
}

// link is what so many packets have of the link headers that were put before them.
func (r *reference) link(packets uint64) uint64 {
	if !r.c.L3 {
		return 0
	}
	return linkBytes * packets
}
