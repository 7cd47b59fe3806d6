package differ

import (
	"github.com/weirnet/weir/agent"
	"slices"
	"time"
)

// Shrinking ends when it has played so often, or for so long.
const (
	shrinkPlays = 6000
	shrinkTime  = 15 * time.Second
)

// shrinker makes a case smaller for as long as it is still of interest.
type shrinker struct {
	c     *Case
	still func(*Case) bool
	plays int
	begin time.Time
}

// Shrink returns a case in which both sides still differ, with as few steps, as short frames and
// as plain settings as it finds.
func (d *Differ) Shrink(c *Case) *Case {
	return shrink(c, func(c *Case) bool {
		got, want, err := d.Play(c)
		return err == nil && !Same(want, got)
	})
}

func shrink(c *Case, still func(*Case) bool) *Case {
	s := &shrinker{c: c.clone(), still: still, begin: time.Now()}
	s.steps()
	s.settings()
	for i := range s.c.Steps {
		s.step(i)
	}
	s.steps()
	return s.c
}

func (c *Case) clone() *Case {
	n := *c
	n.Steps = slices.Clone(c.Steps)
	for i := range n.Steps {
		n.Steps[i].Frame = slices.Clone(n.Steps[i].Frame)
	}
	return &n
}

// try makes a change to the case, if it is of interest with it.
func (s *shrinker) try(change func(*Case)) bool {
	if s.plays >= shrinkPlays || time.Since(s.begin) > shrinkTime {
		return false
	}
	s.plays++
	n := s.c.clone()
	change(n)
	if !s.still(n) {
		return false
	}
	s.c = n
	return true
}

// steps leaves out as many steps as it can: halves first, single ones last, until nothing more
// can go. The time that a step would have taken passes before the next.
func (s *shrinker) steps() {
	for again := true; again; {
		again = false
		for size := max(1, len(s.c.Steps)/2); size > 0; size /= 2 {
			for at := 0; at < len(s.c.Steps); {
				n := min(size, len(s.c.Steps)-at)
				if s.try(func(c *Case) { c.leaveOut(at, n) }) {
					again = true
				} else {
					at += n
				}
			}
		}
	}
}

func (c *Case) leaveOut(at, n int) {
	var waited time.Duration
	for i := range n {
		waited += c.Steps[at+i].Wait
	}
	c.Steps = slices.Delete(c.Steps, at, at+n)
	if at < len(c.Steps) {
		c.Steps[at].Wait += waited
	}
}

func (s *shrinker) settings() {
	s.try(func(c *Case) { c.Lifetimes = nil })
	s.try(func(c *Case) { c.Takeover = 0 })
	s.try(func(c *Case) { c.Overflow = false })
	s.try(func(c *Case) { c.RingFull = false })
	s.try(func(c *Case) { c.NoMidStream = false })
	s.try(func(c *Case) { c.Tunnels = nil })
	s.try(func(c *Case) { c.Sample = 0 })
	s.try(func(c *Case) { c.Filters = agent.Filters{} })
	for i := len(s.c.Filters.Rules) - 1; i >= 0; i-- {
		s.try(func(c *Case) { c.Filters.Rules = slices.Delete(slices.Clone(c.Filters.Rules), i, i+1) })
	}
	s.try(func(c *Case) { c.Table = 0 })
	s.try(func(c *Case) { c.Zones = Case{}.Zones })
}

// step makes one step plainer.
func (s *shrinker) step(i int) {
	at := func(c *Case) *Step { return &c.Steps[i] }
	s.try(func(c *Case) { at(c).Wait = 0 })
	s.try(func(c *Case) { at(c).Segments = 0 })
	s.try(func(c *Case) { at(c).Tag = false })
	s.try(func(c *Case) { at(c).Hook = 1 })
	for cut := len(s.c.Steps[i].Frame) / 2; cut > 0; cut /= 2 {
		for len(at(s.c).Frame)-cut >= minFrame {
			if !s.try(func(c *Case) { at(c).Frame = at(c).Frame[:len(at(c).Frame)-cut] }) {
				break
			}
		}
	}
	for n := range at(s.c).Frame {
		if at(s.c).Frame[n] != 0 {
			s.try(func(c *Case) { at(c).Frame[n] = 0 })
		}
	}
}
