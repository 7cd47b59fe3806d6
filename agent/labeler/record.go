package labeler

import (
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
)

// Asker is who wants labels: the node it is on, if any, and how its clock is set.
type Asker struct {
	Node string
	// Epoch is the time at which the clock of records was 0.
	Epoch int64
}

// LabelRecord fills in who is at both ends of a record, and counts it.
func (l *Labeler) LabelRecord(r *flow.Record, by Asker) {
	p := l.ofRecord(r, by.Epoch)
	p.mirror(by.Node)
	r.SrcLabels, r.DstLabels = p.src.labels, p.dst.labels
	r.Service, r.Class = p.service, string(p.class)
	r.Unlabelled, r.LabelFlags = p.reason.String(), p.flags
	l.count(p.reason, r.Packets, r.Bytes)
}

// Pending tells whether a record's labels may be others soon: a private address that nobody
// claims, or whose owner's time is over.
func (l *Labeler) Pending(r *flow.Record, by Asker) bool {
	p := l.ofRecord(r, by.Epoch)
	return p.pending
}

// ofRecord asks for the ends of the record's connection. Its initiator is who uses a service;
// where that is not known, it is the end from which a service is found.
func (l *Labeler) ofRecord(r *flow.Record, epoch int64) pair {
	q := query{src: socket(r.Src, r.SrcPort), dst: socket(r.Dst, r.DstPort), protocol: r.Protocol,
		zone: r.Zone, start: epoch + r.Start, end: epoch + r.End}
	if r.Cites != 0 {
		q.protocol = r.Cites
	}
	switch r.Role {
	case flow.RoleResponder:
		return l.reversed(&q)
	case flow.RoleUnknown:
		if back := l.reversed(&q); back.service != "" {
			return back
		}
	}
	q.via = q.dst
	return l.pair(&q)
}

// reversed asks with src as the responder.
func (l *Labeler) reversed(q *query) pair {
	back := *q
	back.src, back.dst, back.via = q.dst, q.src, q.src
	p := l.pair(&back)
	p.src, p.dst = p.dst, p.src
	return p
}

func socket(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Unmap(), port) }
