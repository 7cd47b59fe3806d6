package model

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
)

// Flow is everything that is reported of one direction of one connection: the sum of its
// records, with what the last of them says of state and end.
type Flow struct {
	// Connection numbers connections in the order of their first packets, from 1. It is 0 for
	// flows that found no room in the table.
	Connection uint64
	Zone       uint16
	Src, Dst   netip.Addr
	SrcPort    uint16
	DstPort    uint16
	Protocol   uint8
	Cites      uint8 // protocol of the connection that an ICMP error is about
	ICMPType   uint8
	ICMPCode   uint8
	ICMPID     uint16
	Packets    uint64
	Bytes      uint64
	Flags      flow.TCPFlags
	Start      int64 // first packet
	End        int64 // last packet
	Role       flow.Role
	State      conntrack.State // StateNone if there was no room
	// Reason is EndActive while the connection is in the table.
	Reason    flow.EndReason
	ICMPError string      // "type/code", or ""
	Seen      []flow.Hook // the first one owns the count
	// Handshake and Lookups are what the features tell of it; nil if nothing.
	Handshake *flow.Handshake
	Lookups   *flow.Lookups
	// NATBefore and NATAfter are not the model's: who knows of address translation may fill them
	// in, as records have them, without id and flow.
	NATBefore, NATAfter flow.NAT
	// Written is when the last record was written; 0 if it was not yet.
	Written int64
	// Labels are those of the last record; Cluster.Label fills them in.
	SrcLabels, DstLabels       *flow.Labels
	Service, Class, Unlabelled string
	LabelFlags                 flow.LabelFlags
}

// Flows returns all flows, of connections that ended and of those in the table: first those that
// found no room, then by connection, the initiator's direction first.
func (m *Model) Flows() []Flow {
	all := slices.Concat(m.overflow.flows, m.ended)
	for _, c := range m.table {
		all = append(all, c.flows(flow.EndActive)...)
	}
	for i := range all {
		all[i].Seen = slices.Clone(all[i].Seen)
	}
	slices.SortStableFunc(all, func(a, b Flow) int {
		return cmp.Compare(a.Connection, b.Connection)
	})
	m.addLatency(all)
	return all
}

// flows returns the flows of the legs that have packets to report, Forward first.
func (c *connection) flows(reason flow.EndReason) []Flow {
	var both []Flow
	for _, i := range []int{c.forward(), 1 - c.forward()} {
		l := &c.legs[i]
		if l.total.Packets == 0 {
			continue
		}
		f := c.key.flow(i)
		f.Connection, f.State, f.Reason = c.id, c.state, reason
		f.Packets, f.Bytes = l.total.Packets, l.total.Bytes
		f.Flags = flow.TCPFlags(l.flags)
		f.Start, f.End = l.first, l.last
		f.Role, f.ICMPError = c.role(i), c.icmpError.String()
		f.Seen = slices.Clone(l.seen)
		both = append(both, f)
	}
	return both
}

// flow returns a flow with the tuple's fields for the given leg.
func (k key) flow(leg int) Flow {
	src, dst := k.ends(leg)
	return Flow{Zone: k.zone, Src: src.addr, Dst: dst.addr, SrcPort: src.port, DstPort: dst.port,
		Protocol: k.protocol, Cites: k.cites, ICMPType: k.icmpType, ICMPCode: k.icmpCode,
		ICMPID: k.icmpID}
}

// forward is the leg that an Entry shows as Forward: the initiator's, or the lower endpoint's.
func (c *connection) forward() int {
	if c.initiator == unknown {
		return 0
	}
	return c.initiator
}

// role is the part that the sender of a leg plays.
func (c *connection) role(leg int) flow.Role {
	switch c.initiator {
	case unknown:
		return flow.RoleUnknown
	case leg:
		return flow.RoleInitiator
	}
	return flow.RoleResponder
}

// String is "type/code", or "" if there was no error.
func (t typeCode) String() string {
	if !t.set {
		return ""
	}
	return fmt.Sprintf("%d/%d", t.typ, t.code)
}

// sorted returns the connections in the table in the order of their first packets.
func (m *Model) sorted() []*connection {
	return slices.SortedFunc(maps.Values(m.table), func(a, b *connection) int {
		return cmp.Compare(a.id, b.id)
	})
}

// Connections returns the table as it is at time now, with expired entries that were not
// collected yet, in the order of their first packets.
func (m *Model) Connections(now int64) []conntrack.Entry {
	entries := make([]conntrack.Entry, 0, len(m.table))
	for _, c := range m.sorted() {
		forward := c.forward()
		f := c.key.flow(forward)
		entries = append(entries, conntrack.Entry{
			Flow: c.id, Zone: f.Zone,
			Src: f.Src, Dst: f.Dst, SrcPort: f.SrcPort, DstPort: f.DstPort,
			Protocol: f.Protocol, Cites: f.Cites,
			ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, ICMPID: f.ICMPID,
			Known: c.initiator != unknown, State: c.state, ICMPError: c.icmpError.String(),
			Expired: c.expired(m.lifetimes, now), Idle: time.Duration(now - c.last()),
			Lifetime: m.lifetimes[c.state],
			Forward:  c.legs[forward].entry(), Reverse: c.legs[1-forward].entry(),
		})
	}
	return entries
}

// entry is the leg as the table shows it.
func (l *leg) entry() conntrack.Leg {
	return conntrack.Leg{Packets: l.total.Packets, Bytes: l.total.Bytes,
		Flags: flow.TCPFlags(l.flags), First: l.first, Last: l.last, Seen: slices.Clone(l.seen)}
}

// overflow adds up the packets that found no room in the table.
type overflow struct {
	flows []Flow // in the order of their first packets
	at    map[overflowKey]int
}

type overflowKey struct {
	key key
	leg int
}

// add counts one packet. There is no state, so packets of one leg that are seen at several hooks
// cannot be told apart: each was accounted at its hook, and each is in the sum.
func (o *overflow) add(a arrived, p *packet, k key, leg int) {
	id := overflowKey{k, leg}
	i, ok := o.at[id]
	if !ok {
		f := k.flow(leg)
		f.Start, f.Role, f.Reason = a.now, flow.RoleUnknown, flow.EndResource
		i = len(o.flows)
		o.at[id] = i
		o.flows = append(o.flows, f)
	}
	f := &o.flows[i]
	f.Packets += a.size.Packets
	f.Bytes += a.size.Bytes
	f.Flags |= flow.TCPFlags(p.flags)
	f.End, f.Written = a.now, a.now
	if !slices.Contains(f.Seen, a.hook) && len(f.Seen) <= maxListed {
		f.Seen = append(f.Seen, a.hook)
	}
}
