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
	// Sockets tell the node's pods apart that share its addresses; nil: they are labelled as the node.
	Sockets Sockets
}

// LabelRecord fills in who is at both ends of a record, and counts it.
func (l *Labeler) LabelRecord(r *flow.Record, by Asker) {
	p := l.describe(r, by)
	l.count(p.reason, r.Packets, r.Bytes)
	for _, s := range p.shared {
		if s != notShared {
			l.ledger.shared[s].add(r.Packets, r.Bytes)
		}
	}
}

// CountDropped counts a record that has labels and is not passed on.
func (l *Labeler) CountDropped(r *flow.Record) { l.ledger.dropped.add(r.Packets, r.Bytes) }

// Describe fills in who is at both ends of a record. It gives the reason why the class is Unknown.
func (l *Labeler) Describe(r *flow.Record, by Asker) Reason {
	p := l.describe(r, by)
	return p.reason
}

func (l *Labeler) describe(r *flow.Record, by Asker) pair {
	p := l.ofRecord(r, by)
	p.mirror(l.asker(by.Node))
	r.SrcLabels, r.DstLabels = p.src.labels, p.dst.labels
	r.Service, r.Class = p.service, string(p.class)
	r.Unlabelled, r.LabelFlags = p.reason.String(), p.flags
	return p
}

// Pending tells whether a record's labels may be others soon: a private address that nobody
// claims, or whose owner's time is over.
func (l *Labeler) Pending(r *flow.Record, by Asker) bool {
	p := l.ofRecord(r, by)
	return p.pending
}

// ofRecord asks for the ends of the record's connection: the initiator as it is called before any
// address is translated, and the responder as it is called after. The initiator is who uses a service;
// where that is not known, it is the end from which a service is found.
func (l *Labeler) ofRecord(r *flow.Record, by Asker) (p pair) {
	q := query{protocol: r.Protocol, zone: r.Zone, start: by.Epoch + r.Start, end: by.Epoch + r.End}
	if r.Cites != 0 {
		q.protocol = r.Cites
	}
	switch r.Role {
	case flow.RoleResponder:
		return l.reversed(q, r, by)
	case flow.RoleUnknown:
		if back := l.reversed(q, r, by); back.service != "" {
			return back
		}
	}
	before, after := names(r)
	q.src, q.via, q.dst = before[0], before[1], after[1]
	l.askSockets(&q, r, by, false)
	l.pair(&q, &p)
	return p
}

// reversed asks with the record's sender as the responder.
func (l *Labeler) reversed(q query, r *flow.Record, by Asker) (p pair) {
	before, after := names(r)
	q.src, q.via, q.dst = before[1], before[0], after[0]
	l.askSockets(&q, r, by, true)
	l.pair(&q, &p)
	p.src, p.dst = p.dst, p.src
	return p
}

// names are the sender and the receiver as they are called on the initiator's side and on the
// responder's side of address translations.
func names(r *flow.Record) (before, after [2]netip.AddrPort) {
	own := [2]netip.AddrPort{socket(r.Src, r.SrcPort), socket(r.Dst, r.DstPort)}
	before, after = own, own
	if n := &r.NATBefore; n.ID != "" {
		before = [2]netip.AddrPort{socket(n.Src, n.SrcPort), socket(n.Dst, n.DstPort)}
	}
	if n := &r.NATAfter; n.ID != "" {
		after = [2]netip.AddrPort{socket(n.Src, n.SrcPort), socket(n.Dst, n.DstPort)}
	}
	return before, after
}

func socket(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Unmap(), port) }
