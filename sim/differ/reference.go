package differ

import (
	"encoding/binary"

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
		r.m.Receive(model.Arrival{Hook: Hook(s.Hook), Now: r.now, Frame: s.Frame, L3: r.c.L3,
			Network: linkBytes, Tag: s.Tag, Segments: s.Segments})
	}
	return nil
}

// linkBytes is the length of an Ethernet header, behind which BPF_PROG_TEST_RUN puts the network
// header of every frame.
const linkBytes = 14

// linkHeader is an Ethernet header for a frame that begins with its IP header.
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
	s := &State{Counters: r.m.Counters(), Connections: r.m.Connections(r.now)}
	for _, f := range r.m.Flows() {
		if f.Reason != flow.EndActive {
			s.Ended = append(s.Ended, f)
		}
	}
	return s, nil
}
