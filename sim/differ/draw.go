package differ

import (
	"math/rand/v2"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/sim/model"
)

// The shape of drawn cases.
const (
	drawnSteps = 400 // steps of a case, about
	smallTable = 8   // of some cases, so that the table is full
)

// drawer draws a case. All that it does follows from its source of random numbers.
type drawer struct {
	*rand.Rand
	c      *Case
	corpus [][]byte // real frames to mutate
	recent [][]byte // frames of this case
	hosts  int      // addresses of each family
	ports  int
	waits  []time.Duration // worth waiting for: lifetimes and the like
	hurry  int             // one step in so many waits
	inside bool            // of a tunnel
}

// Draw draws case number n of a seed. The corpus are frames, each with its Ethernet header, that
// are taken and mutated; it may be empty.
func Draw(seed, n uint64, corpus [][]byte) *Case {
	r := rand.New(rand.NewPCG(seed, n))
	d := &drawer{Rand: r, c: &Case{}, corpus: corpus, hosts: 2 + r.IntN(2), ports: 1 + r.IntN(6)}
	d.hurry = pick(d, 10, 50, 250)
	d.settings()
	talks := d.talks()
	for len(d.c.Steps) < drawnSteps {
		switch {
		case d.oneIn(150):
			d.add(Step{Kind: Report})
		case d.oneIn(2000):
			d.add(Step{Kind: Sweep})
		case len(talks) > 0 && !d.oneIn(3):
			talks = d.talkOn(talks)
		default:
			d.packet(d.anyFrame())
		}
	}
	return d.c
}

func (d *drawer) oneIn(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d *drawer, of ...T) T { return of[d.IntN(len(of))] }

// settings draws the configuration.
func (d *drawer) settings() {
	c := d.c
	c.L3 = d.oneIn(8)
	c.Overflow = d.oneIn(3)
	c.RingFull = d.oneIn(24)
	c.NoMidStream = d.oneIn(6)
	if d.oneIn(3) {
		for _, kind := range []string{model.VXLAN, model.Geneve, model.GRE, model.IPIP} {
			if !d.oneIn(3) {
				c.Tunnels = append(c.Tunnels, kind)
			}
		}
	}
	if d.oneIn(5) {
		c.Sample = 2 + d.Uint32N(4)
	}
	if d.oneIn(4) {
		c.Filters = d.filters()
	}
	if d.oneIn(8) {
		c.Table = smallTable
	}
	if d.oneIn(4) {
		c.Takeover = pick(d, 1, time.Millisecond, 10*time.Second, time.Hour)
	}
	if d.oneIn(3) {
		zone := uint16(d.Uint32())
		for n := 1; n <= Hooks; n++ {
			c.Zones[n] = pick(d, 0, zone)
		}
	}
	if d.oneIn(3) {
		c.Lifetimes = map[conntrack.State]time.Duration{}
		for _, s := range states() {
			c.Lifetimes[s] = time.Duration(1 + d.IntN(20_000_000_000))
		}
	}
	d.waits = []time.Duration{c.takeover()}
	lifetimes := c.lifetimes()
	for _, s := range states() {
		d.waits = append(d.waits, lifetimes[s])
	}
}

// wait draws a time to pass before a step. Half of those that are not zero end just where
// something changes.
func (d *drawer) wait() time.Duration {
	if !d.oneIn(d.hurry) {
		return 0
	}
	switch d.IntN(8) {
	case 0, 1, 2:
		return pick(d, d.waits...) + time.Duration(d.IntN(2))
	case 3:
		return pick(d, d.waits...) - 1
	case 4:
		return time.Duration(d.Int64N(int64(200 * time.Second)))
	}
	return time.Duration(d.IntN(1_000_000))
}

func (d *drawer) add(s Step) {
	s.Wait = d.wait()
	d.c.Steps = append(d.c.Steps, s)
}

// packet adds a frame at some hook, sometimes at others, too: the way through a router.
func (d *drawer) packet(frame []byte) {
	if len(frame) < minFrame || len(frame) > maxFrame {
		return
	}
	d.recent = append(d.recent, frame)
	s := Step{Hook: pick(d, 1, 1, 1, 2, 2, 1+d.IntN(Hooks)), Frame: frame}
	s.Tag = !d.c.L3 && d.oneIn(12)
	if d.oneIn(12) && len(frame) >= wholeFrame {
		s.Segments = 2 + d.IntN(pick(d, 3, 60))
	}
	if d.oneIn(100) {
		s.Hook, s.Segments, s.Tag = 9, 0, false
	}
	d.add(s)
	for d.oneIn(6) {
		s.Hook = 1 + d.IntN(Hooks)
		d.add(s)
	}
}

// anyFrame draws a frame of its own, or mutates one.
func (d *drawer) anyFrame() []byte {
	switch {
	case len(d.corpus) > 0 && d.oneIn(4):
		frame := pick(d, d.corpus...)
		if d.c.L3 {
			frame = frame[min(linkBytes, len(frame)):]
		}
		return d.mutate(frame)
	case len(d.recent) > 0 && d.oneIn(4):
		return d.mutate(pick(d, d.recent...))
	}
	frame := d.frame()
	if d.oneIn(12) {
		return d.mutate(frame)
	}
	return frame
}
