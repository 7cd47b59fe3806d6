package differ

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

// traced is a side whose counters can be read at any time.
type traced interface {
	side
	hookCounters() (map[flow.Hook]model.Counters, error)
}

func (r *reference) hookCounters() (map[flow.Hook]model.Counters, error) { return r.m.Counters(), nil }

func (k *kernel) hookCounters() (map[flow.Hook]model.Counters, error) { return k.counters() }

// Trace plays a case on both sides and returns what each says, as vectors write it.
func (d *Differ) Trace(c *Case) (datapath, reference []string, err error) {
	defer onOneCPU()()
	k, err := d.kernel(c)
	if err != nil {
		return nil, nil, err
	}
	if datapath, err = trace(k, c); err != nil {
		return nil, nil, fmt.Errorf("the datapath: %w", err)
	}
	reference, err = trace(newReference(c), c)
	return datapath, reference, err
}

func trace(s traced, c *Case) ([]string, error) {
	var lines []string
	before, err := s.hookCounters()
	if err != nil {
		return nil, err
	}
	for i := range c.Steps {
		if err := s.step(&c.Steps[i]); err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		if c.Steps[i].Kind != Packet {
			continue
		}
		after, err := s.hookCounters()
		if err != nil {
			return nil, err
		}
		lines = append(lines, outcomeMark+outcome(before, after))
		before = after
	}
	state, err := s.state()
	if err != nil {
		return nil, err
	}
	for _, l := range append(state.connectionLines(), state.endedLines()...) {
		lines = append(lines, stateMark+l)
	}
	return lines, nil
}

// outcome is what has been counted between two moments, without what was seen: that is the sum
// of the rest.
func outcome(before, after map[flow.Hook]model.Counters) string {
	var parts []string
	for _, hook := range slices.SortedFunc(maps.Keys(after), byName) {
		a, b := after[hook], before[hook]
		add := func(name string, from, to model.Count) {
			if n := (model.Count{Packets: to.Packets - from.Packets, Bytes: to.Bytes - from.Bytes}); n != (model.Count{}) {
				parts = append(parts, name+" "+size(n))
			}
		}
		add("accounted", b.Accounted, a.Accounted)
		add("observed", b.Observed, a.Observed)
		for _, reason := range slices.Sorted(maps.Keys(a.LeftOut)) {
			add("left-out "+string(reason), b.LeftOut[reason], a.LeftOut[reason])
		}
		for _, reason := range slices.Sorted(maps.Keys(a.Lost)) {
			add("lost "+string(reason), b.Lost[reason], a.Lost[reason])
		}
		if a.Seen != a.Outcomes() {
			parts = append(parts, fmt.Sprintf("seen %s, not the sum", size(a.Seen)))
		}
	}
	return strings.Join(parts, ", ")
}
