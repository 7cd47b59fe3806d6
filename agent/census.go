package agent

import (
	"errors"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// census counts connections without looking at them. Those that were opened follow from those that have
// ended and those that are held: the packet path counts nothing for it.
type census struct {
	base     uint64    // held and ended when it began
	samples  [2]sample // of the last two sweeps
	inTables uint64    // after the last sweep
}

// sample is how the books stood after a sweep.
type sample struct {
	at     int64 // ns of the datapath's clock; 0: none
	opened uint64
	ended  map[flow.EndReason]uint64
}

// beginCensus counts what is there before the agent reports anything of it.
func (a *Agent) beginCensus() error {
	held, err := a.dp.Count()
	if errors.Is(err, bpf.ErrNoCounter) {
		held, err = a.dp.Held()
	}
	if err != nil {
		return err
	}
	a.sweeper.held = held
	a.census.inTables = uint64(held.IPv4 + held.IPv6)
	a.census.base = a.census.inTables + a.sweeper.rec.ends.total()
	return nil
}

// swept keeps the books on a sweep, before which Deletions was as given.
func (a *Agent) swept(now int64, before uint64) error {
	deleted, err := a.dp.Deletions()
	if err != nil {
		return err
	}
	deleted -= min(before, deleted) // a change of size begins anew
	scanned := a.sweeper.held.IPv4 + a.sweeper.held.IPv6
	table := a.dp.Options().Table
	a.pacer.swept(now, found{removed: int(deleted), held: scanned, size: 2 * table,
		full: float64(max(a.sweeper.held.IPv4, a.sweeper.held.IPv6)) / float64(table)})
	return a.takeCensus(now, deleted)
}

// takeCensus takes a sample after a sweep that has deleted so many connections.
func (a *Agent) takeCensus(now int64, deleted uint64) error {
	held, exact, err := a.held()
	if err != nil {
		return err
	}
	c := &a.census
	c.inTables = uint64(held.IPv4 + held.IPv6)
	if !exact {
		c.inTables -= min(deleted, c.inTables) // the pass has come across them before
	}
	ends := a.sweeper.rec.ends
	c.samples[0] = c.samples[1]
	c.samples[1] = sample{now, c.opened(ends), ends.byReason()}
	return nil
}

func (c *census) opened(e *ends) uint64 {
	n := e.total() + c.inTables
	return n - min(c.base, n)
}

// rates are over the time between the last two samples.
func (c *census) rates() *conntrack.Rates {
	from, to := &c.samples[0], &c.samples[1]
	over := to.at - from.at
	if from.at == 0 || over <= 0 {
		return nil
	}
	perSecond := func(n uint64) float64 { return float64(n) / time.Duration(over).Seconds() }
	r := &conntrack.Rates{Over: time.Duration(over), Ended: map[flow.EndReason]float64{},
		Opened: perSecond(to.opened - min(from.opened, to.opened))}
	for why, n := range to.ended {
		r.Ended[why] = perSecond(n - from.ended[why])
	}
	return r
}

// held is how many connections the tables hold; where the kernel does not count them, what the last
// sweep came across.
func (a *Agent) held() (held bpf.Held, exact bool, err error) {
	held, err = a.dp.Count()
	if errors.Is(err, bpf.ErrNoCounter) {
		return a.sweeper.held, false, nil
	}
	return held, err == nil, err
}
