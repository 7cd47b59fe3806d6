package labeler

import (
	"math"
	"slices"
)

// never is a time that does not come.
const never = math.MaxInt64

// maxSpans bounds how many past owners of one address are remembered.
const maxSpans = 16

// span is the time in which an owner has an address: from is in it, to is not.
type span struct {
	owner    *owner
	from, to int64
}

// address is what a cluster knows of an address. It fits into a cache line: lookups are mostly
// waiting for memory.
type address struct {
	spans  []span // who has it, and who had it, in the order in which they were told of
	single [1]span
	hosts  *[]*owner // pods in their node's network namespace, if it is a node's; not owners
	ports  *ports    // services
}

func newAddress() *address {
	a := &address{}
	a.spans = a.single[:0]
	return a
}

// open begins a span, or gives the owner's a new beginning.
func (a *address) open(o *owner, from int64) {
	for i := range a.spans {
		if a.spans[i].owner == o && a.spans[i].to == never {
			a.spans[i].from = from
			return
		}
	}
	if len(a.spans) >= maxSpans {
		a.spans = slices.Delete(a.spans, a.oldest(), a.oldest()+1)
	}
	if len(a.spans) > 0 {
		a.spans = slices.Grow(a.spans, 1)
	}
	a.spans = append(a.spans, span{o, from, never})
}

// oldest is the span that ended first.
func (a *address) oldest() int {
	at := 0
	for i := range a.spans {
		if a.spans[i].to < a.spans[at].to {
			at = i
		}
	}
	return at
}

// close ends an owner's span.
func (a *address) close(o *owner, to int64) {
	for i := range a.spans {
		if s := &a.spans[i]; s.owner == o && s.to > to {
			s.to = max(to, s.from)
		}
	}
}

// prune forgets spans that ended before a time, of owners that are gone.
func (a *address) prune(before int64) {
	a.spans = slices.DeleteFunc(a.spans, func(s span) bool { return s.to <= before && s.owner.gone })
}

func (a *address) empty() bool { return len(a.spans) == 0 && a.hosts == nil && a.ports == nil }

// host adds a pod that shares the address.
func (a *address) host(o *owner) {
	if a.hosts == nil {
		a.hosts = &[]*owner{}
	}
	if !slices.Contains(*a.hosts, o) {
		*a.hosts = append(*a.hosts, o)
	}
}

// unhost takes it away.
func (a *address) unhost(o *owner) {
	if a.hosts == nil {
		return
	}
	*a.hosts = slices.DeleteFunc(*a.hosts, func(h *owner) bool { return h == o })
	if len(*a.hosts) == 0 {
		a.hosts = nil
	}
}

// claim is what the spans say of a time.
type claim struct {
	owner     *owner
	ambiguous bool // several owners claim the address, and none has ended
	past      bool // it had an owner, at another time
}

// at finds the owner of packets of which the last one came at the time end, and the first one of
// whose flow at the time start. Of several owners at a time, the latest is taken: addresses are
// given away faster than their former owners are reported as gone. When nobody has the address
// any more, the flow belongs to whom it began with: last packets of a connection come after its
// end.
func (a *address) at(start, end int64) (c claim) {
	best := -1
	living := 0
	for i := range a.spans {
		s := &a.spans[i]
		if s.from > end || s.to <= end {
			continue
		}
		if s.to == never {
			living++
		}
		if best < 0 || s.after(&a.spans[best]) {
			best = i
		}
	}
	if best < 0 {
		best = a.latest(start, end)
	}
	if best < 0 {
		return claim{past: len(a.spans) > 0}
	}
	return claim{owner: a.spans[best].owner, ambiguous: living > 1}
}

// after orders spans by their beginnings; of equal ones the higher UID is later, so that the
// answer does not depend on the order of reports.
func (s *span) after(o *span) bool {
	return s.from > o.from || s.from == o.from && s.owner.uid > o.owner.uid
}

// latest is the span that ended last of those within a time, or -1.
func (a *address) latest(start, end int64) int {
	best := -1
	for i := range a.spans {
		s := &a.spans[i]
		if s.from <= end && s.to > start && (best < 0 || s.to > a.spans[best].to) {
			best = i
		}
	}
	return best
}
