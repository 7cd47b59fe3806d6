package labeler

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/weirnet/weir/agent/flow"
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

// address is what a cluster knows of an address. All that is mostly needed fits into a cache line.
// Labels are not looked into.
type address struct {
	key
	// The one owner of now, since from; nil when nobody has the address, or several claim it. Others
	// had it before.
	owner *owner
	from  int64
	// The owner's labels as they were at a version of the cluster.
	labels  atomic.Pointer[flow.Labels]
	version atomic.Uint32
	node    uint32 // the number of the owner's
	// The first service that is reached here, or else that it serves: its number, or 0.
	service uint32
	port    struct {
		protocol uint8
		front    bool
		number   uint16
	}
	more *details // nil: no more is known
}

// details are what is known only of some addresses.
type details struct {
	others []span   // beside the one owner, in the order in which they were told of
	hosts  []*owner // pods in their node's network namespace, if it is a node's; not owners
	// Services that are reached here, and those that it serves, by name, but for the first.
	fronts, backs []servicePort
}

// move takes over what is known of another address, which is none then.
func (a *address) move(from *address) {
	a.key, a.owner, a.from, a.node = from.key, from.owner, from.from, from.node
	a.labels.Store(from.labels.Load())
	a.version.Store(from.version.Load())
	a.service, a.port, a.more = from.service, from.port, from.more
}

// spans lists who has the address, and who had it.
func (a *address) spans() []span {
	var all []span
	if a.more != nil {
		all = slices.Clone(a.more.others)
	}
	if a.owner != nil {
		all = append(all, span{a.owner, a.from, never})
	}
	return all
}

// setSpans replaces them.
func (a *address) setSpans(all []span) {
	a.owner, a.from, a.node = nil, 0, 0
	a.version.Store(0)
	if i := sole(all); i >= 0 {
		a.owner, a.from, a.node = all[i].owner, all[i].from, all[i].owner.node.number
		all = slices.Delete(all, i, i+1)
	}
	if len(all) > 0 {
		a.details().others = slices.Clip(all)
	} else if a.more != nil {
		a.more.others = nil
		a.trim()
	}
}

// sole is the only span that has not ended, if it began after all others; else -1.
func sole(all []span) int {
	at := -1
	for i := range all {
		if all[i].to == never {
			if at >= 0 {
				return -1
			}
			at = i
		}
	}
	for i := range all {
		if at >= 0 && i != at && !all[at].after(&all[i]) {
			return -1
		}
	}
	return at
}

// details finds or makes the details.
func (a *address) details() *details {
	if a.more == nil {
		a.more = &details{}
	}
	return a.more
}

// trim lets go of details that say nothing.
func (a *address) trim() {
	if m := a.more; m != nil && len(m.others)+len(m.hosts)+len(m.fronts)+len(m.backs) == 0 {
		a.more = nil
	}
}

func (a *address) empty() bool {
	return a.owner == nil && a.service == 0 && a.more == nil
}

// open begins a span, or gives the owner's a new beginning.
func (a *address) open(o *owner, from int64) {
	all := a.spans()
	if i := slices.IndexFunc(all, func(s span) bool { return s.owner == o && s.to == never }); i >= 0 {
		all[i].from = from
	} else {
		if len(all) >= maxSpans {
			i := oldest(all)
			all = slices.Delete(all, i, i+1)
		}
		all = append(all, span{o, from, never})
	}
	a.setSpans(all)
}

// oldest is the span that ended first.
func oldest(all []span) int {
	at := 0
	for i := range all {
		if all[i].to < all[at].to {
			at = i
		}
	}
	return at
}

// close ends an owner's span.
func (a *address) close(o *owner, to int64) {
	all := a.spans()
	for i := range all {
		if s := &all[i]; s.owner == o && s.to > to {
			s.to = max(to, s.from)
		}
	}
	a.setSpans(all)
}

// prune forgets spans that ended before a time, of owners that are gone.
func (a *address) prune(before int64) {
	a.setSpans(slices.DeleteFunc(a.spans(), func(s span) bool { return s.to <= before && s.owner.gone }))
}

// host adds a pod that shares the address.
func (a *address) host(o *owner) {
	if d := a.details(); !slices.Contains(d.hosts, o) {
		d.hosts = append(d.hosts, o)
	}
}

// unhost takes it away.
func (a *address) unhost(o *owner) {
	if d := a.more; d != nil {
		d.hosts = slices.DeleteFunc(d.hosts, func(h *owner) bool { return h == o })
		a.trim()
	}
}

// known gives the labels of the one owner.
func (a *address) known(c *Cluster) *flow.Labels {
	// Versions change under the lock alone: whoever fills in labels meanwhile fills in the same.
	version := c.version
	if a.version.Load() != version {
		a.labels.Store(a.owner.labels(c))
		a.version.Store(version)
	}
	return a.labels.Load()
}

// end is the one owner of an address, with labels.
func (c *Cluster) soleEnd(a *address) end {
	e := end{labels: a.known(c), kind: flow.KindPod}
	n := c.numbered.all[a.node]
	if n.self == a.owner {
		e.kind = flow.KindNode
	}
	e.place = &n.place
	return e
}

// ofNode tells whether an address was a node's at a time.
func (c *Cluster) ofNode(a *address, start, end int64) bool {
	found := a.at(start, end).owner
	if found == a.owner {
		return found != nil && c.numbered.all[a.node].self == found // without a look at the owner
	}
	return found != nil && !found.isPod
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
	if a.owner != nil && end >= a.from {
		return claim{owner: a.owner}
	}
	if a.more == nil {
		return claim{past: a.owner != nil}
	}
	others := a.more.others
	best := -1
	living := 0
	for i := range others {
		s := &others[i]
		if s.from > end || s.to <= end {
			continue
		}
		if s.to == never {
			living++
		}
		if best < 0 || s.after(&others[best]) {
			best = i
		}
	}
	if best < 0 {
		best = latest(others, start, end)
	}
	if best < 0 {
		return claim{past: len(others) > 0 || a.owner != nil}
	}
	return claim{owner: others[best].owner, ambiguous: living > 1}
}

// after orders spans by their beginnings; of equal ones the higher UID is later, so that the
// answer does not depend on the order of reports.
func (s *span) after(o *span) bool {
	return s.from > o.from || s.from == o.from && s.owner.uid > o.owner.uid
}

// latest is the span that ended last of those within a time, or -1.
func latest(spans []span, start, end int64) int {
	best := -1
	for i := range spans {
		s := &spans[i]
		if s.from <= end && s.to > start && (best < 0 || s.to > spans[best].to) {
			best = i
		}
	}
	return best
}
