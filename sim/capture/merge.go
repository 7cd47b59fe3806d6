package capture

import (
	"bytes"
	"errors"
	"slices"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// event is one frame at one hook, as one namespace saw it.
type event struct {
	port   spec.Port
	egress bool
	frame  []byte
}

// side is one direction of an interface.
type side struct {
	port   spec.Port
	egress bool
}

// order tells where a frame was, in another namespace, just before it came to a side.
type order map[side][]side

// orderOf knows the ways between the namespaces of a topology: links, and interfaces that stand on
// one of another host.
func orderOf(t *spec.Topology) order {
	o := order{}
	for _, l := range t.Links {
		o.add(side{l.A, true}, side{l.B, false})
		o.add(side{l.B, true}, side{l.A, false})
	}
	upon := map[spec.Port][]spec.Port{}
	for _, h := range t.Hosts {
		for _, i := range h.Interfaces {
			if i.On.Host == "" {
				continue
			}
			p := spec.Port{Host: h.Name, Interface: i.Name}
			o.add(side{p, true}, side{i.On, true})
			o.add(side{i.On, false}, side{p, false})
			for _, other := range upon[i.On] {
				o.add(side{p, true}, side{other, false})
				o.add(side{other, true}, side{p, false})
			}
			upon[i.On] = append(upon[i.On], p)
		}
	}
	return o
}

func (o order) add(before, after side) { o[after] = append(o[after], before) }

func (e event) hook() flow.Hook {
	h := flow.Hook{Namespace: e.port.Host, Interface: e.port.Interface, Direction: flow.Ingress}
	if e.egress {
		h.Direction = flow.Egress
	}
	return h
}

// errOrder means that events contradict each other: A before B and B before A.
var errOrder = errors.New("the captured packets contradict each other in their order")

// merger puts the events of several namespaces in one order. It numbers them all, namespace by
// namespace: base[i]+j is the j-th event of the i-th.
type merger struct {
	lists [][]event
	heads []int   // of each namespace: its next event
	last  []int   // of each namespace: the place of its latest event in the merged order, or -1
	base  []int   // of each namespace: the number of its first event
	cause []int32 // of an event: the number of the same frame's in the namespace before, or none
	when  []int32 // of each event: its place in the merged order, or none
	out   []event
}

const none = -1

// merge puts the events in one order that respects each list's own and lets nothing arrive
// before it was sent. Of what may come next, it prefers an arrival, the one that was sent
// first, and else the namespace where something happened last: so a frame travels on.
func merge(lists [][]event, o order) ([]event, error) {
	if len(lists) == 1 {
		return lists[0], nil
	}
	m := &merger{lists: lists, heads: make([]int, len(lists))}
	total := 0
	for _, l := range lists {
		m.base, m.last = append(m.base, total), append(m.last, none)
		total += len(l)
	}
	m.out = make([]event, 0, total)
	m.cause, m.when = make([]int32, total), make([]int32, total)
	for i := range total {
		m.cause[i], m.when[i] = none, none
	}
	m.match(o)
	for len(m.out) < total {
		next := m.next()
		if next < 0 {
			return m.out, errOrder
		}
		m.take(next)
	}
	return m.out, nil
}

// match finds where the frame of each event was before. A link keeps the order of its frames but
// may lose some (the other end is down, or refuses a malformed one), so frames are compared. An
// event for which nothing is found has no cause.
func (m *merger) match(o order) {
	passed := map[side][]int{}
	frames := make([][]byte, len(m.cause))
	for i, list := range m.lists {
		for j, e := range list {
			frames[m.base[i]+j] = e.frame
			at := side{e.port, e.egress}
			passed[at] = append(passed[at], m.base[i]+j)
		}
	}
	used := map[[2]side]int{} // of each way, how many frames at its begin have been matched
	for i, list := range m.lists {
		for j, e := range list {
			after := side{e.port, e.egress}
			same := func(n int) bool { return bytes.Equal(frames[n], e.frame) }
			for _, before := range o[after] {
				way := [2]side{before, after}
				left := passed[before][used[way]:]
				if k := slices.IndexFunc(left, same); k >= 0 {
					m.cause[m.base[i]+j] = int32(left[k])
					used[way] += k + 1
					break
				}
			}
		}
	}
}

// next picks the namespace whose next event comes next, or -1.
func (m *merger) next() int {
	arrival, other, sentAt := -1, -1, int32(len(m.out))
	for i, list := range m.lists {
		if m.heads[i] == len(list) {
			continue
		}
		cause := m.cause[m.base[i]+m.heads[i]]
		switch {
		case cause == none:
			if other < 0 || m.last[i] > m.last[other] {
				other = i
			}
		case m.when[cause] != none && m.when[cause] < sentAt:
			arrival, sentAt = i, m.when[cause]
		}
	}
	if arrival >= 0 {
		return arrival
	}
	return other
}

func (m *merger) take(i int) {
	j := m.heads[i]
	m.when[m.base[i]+j] = int32(len(m.out))
	m.last[i] = len(m.out)
	m.out = append(m.out, m.lists[i][j])
	m.heads[i]++
}
