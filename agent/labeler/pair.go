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
}

// end is who is at one end.
type end struct {
	labels *flow.Labels
	rng    *ranged // of ranges
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
}

// pair finds both ends, and what lies between them.
func (l *Labeler) pair(q *query) (p pair) {
	if q.end == 0 {
		q.start, q.end = never-1, never-1
	}
	var past [2]bool
	asked, synced := false, true
	for _, c := range l.clusters {
		if c.zone != q.zone {
			continue
		}
		asked = true
		synced = synced && c.Synced()
		c.answer(q, &p, &past)
	}
	for i, e := range []*end{&p.src, &p.dst} {
		if e.labels != nil {
			continue
		}
		at := q.src
		if i == 1 {
			at = q.dst
		}
		*e = l.remote.outside(at.Addr())
		l.doubt(e, &p, asked, synced, past[i])
	}
	if p.reason == Labelled {
		p.class, p.reason = l.classify(&p.src, &p.dst)
	} else {
		p.class = Unknown
	}
	return p
}

// mirror sets the flag when the one who asks is on the receiver's node, and the sender is on another
// one, which sees the packets too.
func (p *pair) mirror(node string) {
	from := p.src.labels.Node
	if from != "" && node != "" && from != node && p.dst.labels.Node == node {
		p.flags |= flow.FlagMirror
	}
}

// doubt tells what an end that no cluster knows may be: one of which a cluster has not told yet.
func (l *Labeler) doubt(e *end, p *pair, asked, synced, past bool) {
	switch {
	case past:
		p.pending = true
		p.reason = max(p.reason, PastOwner)
		e.labels = unknownLabels
	case e.labels.Kind == flow.KindPrivate && asked:
		p.pending = true
		if !synced {
			p.reason = max(p.reason, NotSynced)
			e.labels = unknownLabels
		}
	}
}

// answer fills in what a cluster knows and none before it did.
func (c *Cluster) answer(q *query, p *pair, past *[2]bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	src, dst := c.addrs[q.src.Addr()], c.addrs[q.dst.Addr()]
	via := dst
	if q.via != q.dst {
		via = c.addrs[q.via.Addr()]
	}
	front := c.front(via, q)
	if p.src.labels == nil {
		c.end(&p.src, src, q, q.srcUID, p, &past[0])
	}
	if p.dst.labels == nil {
		c.end(&p.dst, dst, q, q.dstUID, p, &past[1])
		if p.dst.labels == nil && front != nil {
			p.dst.labels = front.labels
		}
	}
	if p.service != "" {
		return
	}
	if front != nil {
		p.service = front.full
	} else if dst != nil {
		p.infer(dst.ports.back(portKey{q.protocol, q.dst.Port()}))
	}
}

func (p *pair) infer(backend *service, ambiguous bool) {
	if backend == nil {
		return
	}
	p.service = backend.full
	p.flags |= flow.FlagServiceInferred
	if ambiguous {
		p.flags |= flow.FlagServiceAmbiguous
	}
}

// end finds the owner of an address, or the pod of a UID.
func (c *Cluster) end(e *end, a *address, q *query, uid string, p *pair, past *bool) {
	if uid != "" {
		if o := c.pods[uid]; o != nil {
			e.labels = o.labels(c)
			return
		}
	}
	if a == nil {
		return
	}
	found := a.at(q.start, q.end)
	if found.ambiguous {
		p.flags |= flow.FlagAmbiguous
	}
	if found.owner != nil {
		e.labels = found.owner.labels(c)
	}
	*past = *past || found.past
}

// front finds the service through which the initiator reached its destination: by an address of
// its own, or by a port of any node.
func (c *Cluster) front(via *address, q *query) *service {
	if via == nil {
		return nil
	}
	k := portKey{q.protocol, q.via.Port()}
	if found := via.ports.front(k); found != nil {
		return found
	}
	if len(c.services.nodePorts) == 0 {
		return nil
	}
	if o := via.at(q.start, q.end).owner; o == nil || o.isPod {
		return nil
	}
	return c.services.nodePorts[k]
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
	switch b.labels.Kind {
	case flow.KindInternet:
		return PublicInternet, Labelled
	case flow.KindCloud:
		return toCloud(here, l.place(b))
	case flow.KindRange:
		return toRange(here, l.place(b), b.rng)
	case flow.KindPrivate:
		return PrivateOther, Labelled
	}
	if a.labels.Kind == flow.KindPrivate {
		return PrivateOther, Labelled
	}
	if class := between(here, l.place(b)); class != Unknown {
		return class, Labelled
	}
	return Unknown, NoPlace
}

// far tells whether an end is told by an address range, or by nothing.
func (e *end) far() bool {
	return !inCluster(e.labels.Kind) && e.labels.Kind != flow.KindPrivate
}

// place is where an end is. Owners in a cluster and private addresses are where the labeler is,
// unless they tell more; where a service's backend is, nobody knows.
func (l *Labeler) place(e *end) place {
	k := e.labels
	p := place{cluster: k.Cluster, node: k.Node, zone: k.Zone, region: k.Region, cloud: Cloud(k.Cloud)}
	if k.Kind == flow.KindPod || k.Kind == flow.KindNode || k.Kind == flow.KindPrivate {
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
