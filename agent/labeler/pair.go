package labeler

import (
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
)

// query asks for the two ends of a connection: src is its initiator.
type query struct {
	src, dst       netip.AddrPort
	via            netip.AddrPort // the destination as the initiator knows it; dst without translation
	protocol       uint8
	zone           uint16
	start, end     int64
	srcUID, dstUID string
	keys           struct{ src, dst, via key }
	shared         [2]Sharing // of the source's and the destination's address
}

// end is who is at one end. What is asked of the labels stands beside them: it is in memory that
// many owners share, so that nobody waits for it.
type end struct {
	labels *flow.Labels
	kind   flow.Kind
	*place
	rng *ranged // of ranges
}

// pair is the answer.
type pair struct {
	src, dst end
	service  string
	class    ConnectionClass
	flags    flow.LabelFlags
	reason   Reason
	// pending tells that the answer may be another one once the clusters are told more.
	pending bool
	byUID   [2]bool    // the source, the destination was found by its UID
	shared  [2]Sharing // of the source's and the destination's address
}

// pair finds both ends, and what lies between them. p is empty before.
func (l *Labeler) pair(q *query, p *pair) {
	if q.end == 0 {
		q.start, q.end = never-1, never-1
	}
	q.keys.src, q.keys.dst, q.keys.via = keyOf(q.src.Addr()), keyOf(q.dst.Addr()), keyOf(q.via.Addr())
	var past [2]bool
	asked, synced := false, true
	for _, c := range l.clusters {
		if c.zone != q.zone {
			continue
		}
		asked = true
		synced = synced && c.Synced()
		c.answer(q, p, &past)
	}
	p.share(q)
	for i, e := range []*end{&p.src, &p.dst} {
		if e.labels != nil {
			continue
		}
		at, k := q.src, q.keys.src
		if i == 1 {
			at, k = q.dst, q.keys.dst
		}
		*e = l.remote.outside(at.Addr(), k)
		l.doubt(e, p, asked, synced, past[i])
	}
	if p.reason == Labelled {
		p.class, p.reason = l.classify(&p.src, &p.dst)
	} else {
		p.class = Unknown
	}
}

// mirror sets the flag when the one who asks is on the receiver's node, and the sender is on another
// one, which sees the packets too.
func (p *pair) mirror(by asker) {
	if p.src.node != "" && p.dst.on(by) && !p.src.on(by) {
		p.flags |= flow.FlagMirror
	}
}

// doubt tells what an end that no cluster knows may be: one of which a cluster has not told yet.
func (l *Labeler) doubt(e *end, p *pair, asked, synced, past bool) {
	switch {
	case past:
		p.pending = true
		p.reason = max(p.reason, PastOwner)
		*e = unknownEnd
	case e.kind == flow.KindPrivate && asked:
		p.pending = true
		if !synced {
			p.reason = max(p.reason, NotSynced)
			*e = unknownEnd
		}
	}
}

// answer fills in what a cluster knows and none before it did.
func (c *Cluster) answer(q *query, p *pair, past *[2]bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	src, dst := c.addrs.get(q.keys.src), c.addrs.get(q.keys.dst)
	via := dst
	if q.keys.via != q.keys.dst {
		via = c.addrs.get(q.keys.via)
	}
	front := c.front(via, q)
	if p.src.labels == nil {
		if p.byUID[0] = c.podEnd(&p.src, q.srcUID); !p.byUID[0] {
			c.end(&p.src, src, q, p, &past[0])
		}
	}
	if p.dst.labels == nil {
		if p.byUID[1] = c.podEnd(&p.dst, q.dstUID); !p.byUID[1] {
			c.end(&p.dst, dst, q, p, &past[1])
		}
		if p.dst.labels == nil && front != 0 {
			s := &c.services.numbered.all[front]
			p.dst = end{labels: s.labels, kind: flow.KindService, place: &s.place}
		}
	}
	if p.service == "" {
		c.nameService(front, dst, q, p)
	}
}

// nameService tells the service through which the initiator went, or which its destination serves.
func (c *Cluster) nameService(front uint32, dst *address, q *query, p *pair) {
	if front == 0 && dst != nil {
		back, ambiguous := c.serves(dst, portKey{q.protocol, q.dst.Port()})
		if back != 0 {
			p.flags |= flow.FlagServiceInferred
		}
		if ambiguous {
			p.flags |= flow.FlagServiceAmbiguous
		}
		front = back
	}
	if front != 0 {
		p.service = c.services.numbered.all[front].full
	}
}

// podEnd finds the pod of a UID; "" is nobody's.
func (c *Cluster) podEnd(e *end, uid string) bool {
	if uid == "" {
		return false
	}
	o := c.pods[uid]
	if o == nil {
		o = c.hosted[uid]
	}
	if o != nil {
		*e = o.end(o.labels(c))
	}
	return o != nil
}

// end finds the owner of an address.
func (c *Cluster) end(e *end, a *address, q *query, p *pair, past *bool) {
	if a == nil {
		return
	}
	found := a.at(q.start, q.end)
	if found.ambiguous {
		p.flags |= flow.FlagAmbiguous
	}
	switch found.owner {
	case nil:
	case a.owner:
		*e = c.soleEnd(a)
	default:
		*e = found.owner.end(found.owner.labels(c))
	}
	*past = *past || found.past
}

// front finds the service through which the initiator reached its destination: by an address of
// its own, or by a port of any node.
func (c *Cluster) front(via *address, q *query) (number uint32) {
	if via == nil {
		return 0
	}
	k := portKey{q.protocol, q.via.Port()}
	if found := c.frontOf(via, k); found != 0 {
		return found
	}
	if len(c.services.nodePorts) == 0 || !c.ofNode(via, q.start, q.end) {
		return 0
	}
	if s := c.services.nodePorts[k]; s != nil {
		return s.number
	}
	return 0
}

// classify tells the class of two ends that are known.
func (l *Labeler) classify(a, b *end) (ConnectionClass, Reason) {
	for _, e := range []*end{a, b} {
		if e.rng != nil && e.rng.Class != "" {
			return e.rng.Class, Labelled
		}
	}
	if a.far() && !b.far() {
		a, b = b, a
	}
	here := l.place(a)
	switch b.kind {
	case flow.KindInternet:
		return PublicInternet, Labelled
	case flow.KindCloud:
		return toCloud(here, l.place(b))
	case flow.KindRange:
		return toRange(here, l.place(b), b.rng)
	case flow.KindPrivate:
		return PrivateOther, Labelled
	}
	if a.kind == flow.KindPrivate {
		return PrivateOther, Labelled
	}
	if class := between(here, l.place(b)); class != Unknown {
		return class, Labelled
	}
	return Unknown, NoPlace
}

// far tells whether an end is told by an address range, or by nothing.
func (e *end) far() bool {
	return !e.inCluster() && e.kind != flow.KindPrivate
}

// place is where an end is. Owners in a cluster and private addresses are where the labeler is,
// unless they tell more; where a service's backend is, nobody knows.
func (l *Labeler) place(e *end) place {
	p := *e.place
	if e.kind == flow.KindPod || e.kind == flow.KindNode || e.kind == flow.KindPrivate {
		if p.cloud == "" {
			p.cloud = l.remote.cloud
		}
		if p.region == "" && p.cloud == l.remote.cloud {
			p.region = l.remote.region
		}
	}
	return p
}

// toCloud is the class of a way into a cloud's address ranges. What is global is taken for near,
// as its traffic is the cheapest.
func toCloud(here, there place) (ConnectionClass, Reason) {
	switch {
	case here.cloud == "" || here.cloud != there.cloud:
		return PublicInternet, Labelled
	case there.region == globalRegion:
		return IntraRegion, Labelled
	case there.region == "" || here.region == "":
		return Unknown, NoRegion
	case there.region == here.region:
		return IntraRegion, Labelled
	}
	return InterRegion, Labelled
}

// toRange is the class of a way into a range of the user's that has none of its own.
func toRange(here, there place, r *ranged) (ConnectionClass, Reason) {
	if class := between(here, there); class != Unknown {
		return class, Labelled
	}
	if r.private {
		return PrivateOther, Labelled
	}
	return PublicInternet, Labelled
}
