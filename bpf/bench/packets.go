package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/bpf"
)

// packetCase is one kind of packet at one state of the table.
type packetCase struct {
	name, what string
	packet     packet
	// flows is how many flows the packets belong to. One means the same packet again and again,
	// without a driver.
	flows int
	fresh bool // each packet opens its flow
	// cpus is how many CPUs send at the same time; distinct gives each a flow of its own.
	cpus     int
	distinct bool
	// alter changes how our datapath is loaded, to something that has no counterpart in other
	// agents. nil: nothing.
	alter func(*bpf.Options)
	// none tells that no packet reaches the table.
	none bool
	// room is how many flows the table has room for, where it is not the usual one.
	room int
	// load loads another program of ours than the datapath, without counterpart. nil: the datapath.
	load func() (*subject, error)
}

// lane is a subject in a case.
type lane struct {
	*packetCase
	subject *subject
	driver  *driver   // nil without one
	ns      []float64 // per packet, one for each round
}

func (l *lane) close() error {
	var err error
	if l.driver != nil {
		err = l.driver.close()
	}
	return errors.Join(err, l.subject.close())
}

func (b *bench) packets(ctx context.Context, c *packetCase) (f Figure, err error) {
	f = Figure{Name: c.name, What: c.what, Unit: PerPacket}
	if c.cpus > len(b.workers) {
		f.Missing = fmt.Sprintf("needs %d CPUs", c.cpus)
	}
	if f.Missing != "" {
		return f, nil
	}
	note, err := b.closeCPUs(c)
	if err != nil {
		return f, err
	}
	lanes, err := b.lanes(c)
	defer func() {
		for _, l := range lanes {
			err = errors.Join(err, l.close())
		}
	}()
	if err != nil {
		return f, err
	}
	for round := range b.rounds(c) {
		// Who comes first changes, so that nobody always inherits the same cache.
		for i := range lanes {
			if ctx.Err() != nil {
				return f, ctx.Err()
			}
			err := b.round(lanes[(round+i)%len(lanes)])
			if errors.Is(err, errDisturbed) {
				f.Missing = err.Error()
				return f, nil
			}
			if err != nil {
				return f, err
			}
		}
	}
	f, err = b.figure(f, c, lanes)
	f.Note = note
	return f, err
}

// closeCPUs says so when the CPUs do not contend as those of two cores would.
func (b *bench) closeCPUs(c *packetCase) (note string, err error) {
	if c.cpus < 2 {
		return "", nil
	}
	ns, err := handover(b.workers)
	if ns < oneCore {
		note = fmt.Sprintf("the CPUs share a core at this time, %.0f ns apart: little contends", ns)
	}
	return note, err
}

// rounds is how often a case is measured; many flows take long, and vary little.
func (b *bench) rounds(c *packetCase) int {
	return min(b.opts.Rounds, max(5, 1000000/c.flows))
}

// lanes loads the empty program, ours, and the peer's.
func (b *bench) lanes(c *packetCase) (lanes []*lane, err error) {
	ours := c.load
	if ours == nil {
		ours = func() (*subject, error) { return loadOurs(b.opts.Table, c.alter) }
	}
	loads := []func() (*subject, error){loadEmpty, ours}
	if b.opts.Peer != nil && c.alter == nil && c.load == nil {
		loads = append(loads, func() (*subject, error) { return loadPeer(b.opts.Peer, b.opts.Table) })
	}
	for _, load := range loads {
		s, err := load()
		if err != nil {
			return lanes, err
		}
		l := &lane{packetCase: c, subject: s}
		lanes = append(lanes, l)
		if err := b.prepare(l); err != nil {
			return lanes, err
		}
	}
	return lanes, nil
}

// prepare opens the flows of a lane, in another order than its packets will come in: memory
// is given out in the order of opening.
func (b *bench) prepare(l *lane) (err error) {
	if l.flows == 1 {
		return nil
	}
	if l.driver, err = newDriver(l.packet, l.subject.program, l.subject.kind); err != nil {
		return err
	}
	if l.fresh {
		return nil
	}
	if err := l.driver.set(l.flows, true); err != nil {
		return err
	}
	if _, err := b.run(l, oldAge*l.flows); err != nil {
		return err
	}
	return l.driver.set(l.flows, false)
}

// oldAge is how many packets a flow has had when it counts as an existing one: enough for what a
// datapath does only for those.
const oldAge = 20

// round measures a lane once, after a run that leaves the caches as they are in the middle of
// such traffic.
func (b *bench) round(l *lane) error {
	repeat := max(b.opts.Repeat, l.flows)
	if l.fresh {
		repeat = l.flows
		if err := l.reset(); err != nil {
			return err
		}
	} else if l.cpus > 1 {
		repeat /= 4 // a short run has its CPUs to itself more often, and needs no warming
	} else if _, err := b.run(l, min(repeat, max(l.flows, 1000))); err != nil {
		return err
	}
	if l.subject.drain != nil {
		if err := l.subject.drain(); err != nil {
			return err
		}
	}
	ns, err := b.run(l, repeat)
	if err != nil {
		return err
	}
	l.ns = append(l.ns, ns)
	return nil
}

func (l *lane) reset() error {
	return errors.Join(l.subject.empty(), l.driver.set(l.flows, false))
}

// tries is how often a disturbed run is made anew.
const tries = 200

// errDisturbed is why a run does not count. The kernel stops a run at a signal, and the library
// begins anew: the driver's count shows it. CPUs that have other work do not run together.
var errDisturbed = errors.New("the machine is too busy")

// run sends packets, and returns what one took in ns: of all CPUs, the mean.
func (b *bench) run(l *lane, repeat int) (ns float64, err error) {
	for range tries {
		if l.driver == nil {
			ns, err = b.send(l, l.subject.program, repeat)
		} else {
			ns, err = b.drive(l, repeat)
		}
		if !errors.Is(err, errDisturbed) {
			return ns, err
		}
		if l.fresh {
			if err := l.reset(); err != nil {
				return 0, err
			}
		}
	}
	return 0, err
}

// drive sends packets of many flows.
func (b *bench) drive(l *lane, repeat int) (float64, error) {
	before, err := l.driver.turns()
	if err != nil {
		return 0, err
	}
	ns, err := b.send(l, l.driver.program, repeat)
	if err != nil {
		return 0, err
	}
	after, err := l.driver.turns()
	if err == nil && after-before != repeat {
		err = errDisturbed
	}
	return ns, err
}

func (b *bench) send(l *lane, program *ebpf.Program, repeat int) (float64, error) {
	cpus := max(1, l.cpus)
	spans, sum := make([]span, cpus), 0.0
	err := atOnce(b.workers[:cpus], func(i int) error {
		p := l.packet
		if l.distinct {
			p = p.from(uint16(1000 + i))
		}
		spans[i].begin = time.Now()
		_, took, err := program.Benchmark(p.frame, repeat, nil)
		spans[i].end = time.Now()
		spans[i].ran = took * time.Duration(repeat)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("send packets: %w", err)
	}
	for _, s := range spans {
		sum += float64(s.ran.Nanoseconds()) / float64(repeat)
	}
	if cpus > 1 && !simultaneous(spans) {
		err = errDisturbed
	}
	return sum / float64(cpus), err
}

// expected is how many flows the table holds after the case.
func (b *bench) expected(c *packetCase) int {
	flows := c.flows
	if c.distinct {
		flows = c.cpus
	}
	if c.none {
		flows = 0
	}
	return min(flows, max(b.opts.Table, c.room))
}

// figure subtracts the empty program, and checks that our table holds what the case is about.
func (b *bench) figure(f Figure, c *packetCase, lanes []*lane) (Figure, error) {
	held, err := lanes[1].subject.held()
	if err != nil {
		return f, err
	}
	if want := b.expected(c); held != want {
		return f, fmt.Errorf("%s: the table holds %d flows, not %d", c.name, held, want)
	}
	f.Empty = median(lanes[0].ns)
	f.Ours = netOf(lanes[1].ns, lanes[0].ns)
	f.Ours.Held = held
	if len(lanes) > 2 {
		f.Peer = netOf(lanes[2].ns, lanes[0].ns)
		if f.Peer.Held, err = lanes[2].subject.held(); err != nil {
			return f, err
		}
	}
	return f.compare(), nil
}
