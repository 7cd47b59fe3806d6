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

// paceSpan is how many intervals are between two sweeps at most, unless Pace.Max says it: 25 s by default,
// which leaves a sweep of a large table time to end within 30 s.
const paceSpan = 5

// Pace is how the time between two sweeps follows what they find.
type Pace struct {
	// Policy is "yield" (from interval to max: the more often the more of what a sweep looks at has expired; interval while a table is more than half full),
	// "fixed" (always interval), or "ratio" (from interval to max, by which part of the table's size a sweep
	// has removed: more often above 25 %, more rarely below 5 %).
	Policy string `yaml:"policy"`
	// Max is the longest time between two sweeps, unless that is fixed; what has expired is gone, and what is
	// due is reported, no later than that and the time of a sweep. 0: five intervals, but no more than active.
	Max time.Duration `yaml:"max"`
}

func (c *Config) checkPace() error {
	switch c.Pace.Policy {
	case paceFixed:
		return nil
	case paceYield, paceRatio:
	default:
		return fmt.Errorf("pace.policy: %q; want yield, fixed or ratio", c.Pace.Policy)
	}
	if c.Pace.Max != 0 && (c.Pace.Max < c.Interval || c.Pace.Max > c.Active) {
		return fmt.Errorf("pace.max: %v; want interval (%v) to active (%v), or 0", c.Pace.Max, c.Interval, c.Active)
	}
	return nil
}

// longest is the longest time between two sweeps.
func (c *Config) longest() time.Duration {
	switch {
	case c.Pace.Policy == paceFixed:
		return c.Interval
	case c.Pace.Max > 0:
		return c.Pace.Max
	}
	return min(paceSpan*c.Interval, c.Active)
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
	full          float64       // the fuller table, from 0 to 1
	since         time.Duration // the sweep before; 0: there was none
}

func newPacer(c *Config) *pacer {
	p := &pacer{every: c.Interval}
	switch c.Pace.Policy {
	case paceYield:
		yield := conntrack.YieldPolicy{Min: c.Interval, Max: c.longest()}
		p.next = func(f found) time.Duration { return yield.Next(f.removed, f.held, f.full) }
	case paceRatio:
		ratio := conntrack.RatioPolicy{Max: c.longest()}
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
