package agent

import (
	"errors"
	"path"
	"slices"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/bpf"
)

func (a *Agent) view() conntrack.View {
	return conntrack.View{Hooks: a.hook, Lifetimes: a.dp.Options().Lifetimes, Now: a.time()}
}

// Connections lists the connection table.
func (a *Agent) Connections() ([]conntrack.Entry, error) { return a.Select(conntrack.Filter{}) }

// Select lists the connections that a filter chooses.
func (a *Agent) Select(f conntrack.Filter) ([]conntrack.Entry, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	view := a.view()
	all := []conntrack.Entry{}
	err := a.each(f.Tuple, func(e *bpf.Entry) error {
		entry := view.Of(e)
		if f.Match(&entry) {
			a.describe(&entry, e)
			all = append(all, entry)
		}
		return nil
	})
	return all, err
}

// each shows the connection of a tuple, or all when it is nil.
func (a *Agent) each(t *conntrack.Tuple, fn func(*bpf.Entry) error) error {
	if t == nil {
		return a.dp.Walk(fn)
	}
	key := t.Key()
	e, found, err := a.dp.Get(&key)
	if err != nil || !found {
		return err
	}
	return fn(&e)
}

// TableStats tells how the connection tables are. Ages cost a walk through them; the rest costs the same
// however many connections they hold.
func (a *Agent) TableStats(ages bool) (conntrack.Stats, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var s conntrack.Stats
	held, exact, err := a.held()
	if err != nil {
		return s, err
	}
	if exact {
		a.census.inTables = uint64(held.IPv4 + held.IPv6)
	}
	s = conntrack.Stats{Size: a.dp.Options().Table, IPv4: held.IPv4, IPv6: held.IPv6, Exact: exact,
		Opened: a.census.opened(a.sweeper.rec.ends), Ended: a.sweeper.rec.ends.byReason(), Rates: a.census.rates()}
	if s.InsertErrors, err = a.dp.Refusals(); err != nil {
		return s, err
	}
	if s.DeleteErrors, err = a.dp.Undeleted(); err != nil {
		return s, err
	}
	if s.Full, err = a.refused(); err != nil || !ages {
		return s, err
	}
	s.Ages, err = a.ages()
	return s, err
}

// refused is what was lost because a table was full.
func (a *Agent) refused() (sum bpf.Count, err error) {
	for _, p := range slices.Concat(a.placed, a.left) {
		c, err := a.dp.Counters(p.at.Number)
		if err != nil {
			return sum, err
		}
		sum.Add(c.Lost[bpf.ReasonTableFull])
	}
	return sum, nil
}

func (a *Agent) ages() ([]conntrack.AgeBucket, error) {
	ages, now := conntrack.NewAges(), a.time()
	return ages, a.dp.Walk(func(e *bpf.Entry) error {
		conntrack.AddAge(ages, time.Duration(now-e.First()))
		return nil
	})
}

// Zones lists the zones of interfaces that are watched, and those that connections are in.
func (a *Agent) Zones() ([]control.Zone, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byNumber := map[uint16]*control.Zone{}
	zone := func(number uint16) *control.Zone {
		if byNumber[number] == nil {
			byNumber[number] = &control.Zone{Number: number, Interfaces: []string{}}
		}
		return byNumber[number]
	}
	for _, p := range a.placed {
		h, z := a.hook(p.at.Number), zone(p.at.Zone)
		if name := path.Join(h.Namespace, h.Interface); !slices.Contains(z.Interfaces, name) {
			z.Interfaces = append(z.Interfaces, name) // once for both directions
		}
	}
	err := a.dp.Walk(func(e *bpf.Entry) error {
		zone(e.Zone).Connections++
		return nil
	})
	all := make([]control.Zone, 0, len(byNumber))
	for _, z := range byNumber {
		all = append(all, *z)
	}
	slices.SortFunc(all, func(x, y control.Zone) int { return int(x.Number) - int(y.Number) })
	return all, err
}

// Collect removes connections from the tables. What they have counted is reported: with the reason
// "forced", unless they have expired.
func (a *Agent) Collect(c conntrack.Collection) (out conntrack.Collected, err error) {
	if err := c.Check(); err != nil {
		return out, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return out, errors.New("the agent has stopped")
	}
	begun, now, view := time.Now(), a.time(), a.view()
	removes := c.Remover()
	choose := func(e *bpf.Entry) (remove, force bool) {
		entry := view.Of(e)
		if removes(&entry) {
			return true, !entry.Expired
		}
		if c.Survivor != nil {
			a.describe(&entry, e)
			c.Survivor(&entry)
		}
		return false, false
	}
	err = a.pass(now, false, func() error {
		out, err = a.sweeper.remove(now, c.Only(), choose)
		return err
	})
	out.Took = time.Since(begun)
	return out, err
}
