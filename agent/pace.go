package agent

import (
	"fmt"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
)

// Values of Pace.Policy: how the time between two sweeps follows what they find.
const (
	paceFixed = "fixed"
	paceYield = "yield"
	paceRatio = "ratio"
)

// Pace is how the time between two sweeps follows what they find.
type Pace struct {
	// Policy is "fixed" (always interval), "yield" (from interval to max: the more often the more of what a
	// sweep looks at has expired), or "ratio" (from interval to max, by which part of the table's size a sweep
	// has removed: more often above 25 %, more rarely below 5 %).
	Policy string `yaml:"policy"`
	// Max is the longest time between two sweeps, for the other two; what has expired is gone, and what is
	// due is reported, no later than that.
	Max time.Duration `yaml:"max"`
}

func (c *Config) checkPace() error {
	switch c.Pace.Policy {
	case paceFixed:
		return nil
	case paceYield, paceRatio:
	default:
		return fmt.Errorf("pace.policy: %q; want fixed, yield or ratio", c.Pace.Policy)
	}
	if c.Pace.Max < c.Interval || c.Pace.Max > c.Active {
		return fmt.Errorf("pace.max: %v; want interval (%v) to active (%v)", c.Pace.Max, c.Interval, c.Active)
	}
	return nil
}

// longest is the longest time between two sweeps.
func (c *Config) longest() time.Duration {
	if c.Pace.Policy == paceFixed {
		return c.Interval
	}
	return c.Pace.Max
}

// pacer says how long it is from one sweep to the next.
type pacer struct {
	every time.Duration
	last  int64 // when the last sweep was, in ns of the datapath's clock; 0: there was none
	next  func(found) time.Duration
}

// found is what a sweep has found, and done.
type found struct {
	removed, held int           // connections
	size          int           // of both tables
	since         time.Duration // the sweep before; 0: there was none
}

func newPacer(c *Config) *pacer {
	p := &pacer{every: c.Interval}
	switch c.Pace.Policy {
	case paceYield:
		yield := conntrack.YieldPolicy{Min: c.Interval, Max: c.Pace.Max}
		p.next = func(f found) time.Duration { return yield.Next(f.removed, f.held) }
	case paceRatio:
		ratio := conntrack.RatioPolicy{Max: c.Pace.Max}
		p.next = func(f found) time.Duration {
			return max(c.Interval, ratio.Next(f.since, float64(f.removed)/float64(f.size)))
		}
	default:
		p.next = func(found) time.Duration { return p.every }
	}
	return p
}

// swept tells of a sweep.
func (p *pacer) swept(now int64, f found) {
	if p.last > 0 {
		f.since = time.Duration(now - p.last)
	}
	p.last = now
	p.every = p.next(f)
}

// every is how long it is until the next sweep.
func (a *Agent) every() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pacer.every
}
