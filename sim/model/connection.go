package model

import (
	"slices"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
)

// key is a tuple in canonical form: lo is not above hi. How endpoints compare is this table's
// own matter; it shows nowhere.
type key struct {
	zone               uint16
	protocol, cites    uint8
	icmpType, icmpCode uint8
	icmpID             uint16
	lo, hi             endpoint
}

// canonical returns the key of a packet's tuple and the leg that the packet travels.
func canonical(zone uint16, p *packet) (key, int) {
	k := key{zone: zone, protocol: p.protocol, cites: p.cites, icmpType: p.icmpType,
		icmpCode: p.icmpCode, icmpID: p.icmpID, lo: p.src, hi: p.dst}
	switch order := p.src.compare(p.dst); {
	case order > 0:
		k.lo, k.hi = p.dst, p.src
		return k, 1
	case order == 0 && p.reply:
		return k, 1
	}
	return k, 0
}

func (e endpoint) compare(o endpoint) int {
	if c := e.addr.Compare(o.addr); c != 0 {
		return c
	}
	return int(e.port) - int(o.port)
}

// family is the index of the key's table: 0 for IPv4, 1 for IPv6.
func (k key) family() int {
	if k.lo.addr.Is4() {
		return 0
	}
	return 1
}

// ends returns source and destination of a leg.
func (k key) ends(leg int) (src, dst endpoint) {
	if leg == 0 {
		return k.lo, k.hi
	}
	return k.hi, k.lo
}

// typeCode is the type and code of an ICMP message, if there is one.
type typeCode struct {
	typ, code uint8
	set       bool
}

// connection is an entry of the connection table.
type connection struct {
	id        uint64
	key       key
	legs      [2]leg
	state     conntrack.State
	initiator int // leg of the initiator's packets, or unknown
	// beganSynAck tells that the first packet was a SYN with ACK.
	beganSynAck bool
	icmpError   typeCode
}

const unknown = -1

// leg is one direction of a connection.
type leg struct {
	total       Count
	flags       uint8
	first, last int64
	seen        []flow.Hook // the first one owns the leg

	syn  bool // TCP and SCTP from here
	isn  uint32
	fin  bool
	acks bool   // a packet with ACK was seen
	next serial // TCP alone: the highest sequence number after one of the leg's packets
	ack  serial // TCP alone: the highest acknowledgement number that it has sent
	// finAcked tells that the other side has acknowledged this leg's FIN.
	finAcked bool
}

// elsewhere tells whether another hook counts this leg's packets: it owns the leg, and has not
// been silent for too long.
func (l *leg) elsewhere(a arrived, takeover time.Duration) bool {
	return len(l.seen) > 0 && l.seen[0] != a.hook && a.now-l.last <= int64(takeover)
}

// claim makes hook the owner; a former one goes to the list, if that has room.
func (l *leg) claim(hook flow.Hook) {
	if len(l.seen) == 0 {
		l.seen = []flow.Hook{hook}
		return
	}
	former := l.seen[0]
	rest := slices.DeleteFunc(l.seen[1:], func(h flow.Hook) bool { return h == hook })
	l.seen = append([]flow.Hook{hook}, rest...)
	l.list(former)
}

// list adds a hook to those that have seen the leg beside its owner.
func (l *leg) list(hook flow.Hook) {
	if !slices.Contains(l.seen, hook) && len(l.seen) <= maxListed {
		l.seen = append(l.seen, hook)
	}
}

// count adds a packet to the leg.
func (l *leg) count(a arrived, p *packet) {
	if l.total.Packets == 0 {
		l.first = a.now
	}
	l.last = a.now
	l.total.add(a.size)
	l.flags |= p.flags
}

// unanswered tells that one side has been silent, or that the last packet of a handshake is missing.
func (c *connection) unanswered() bool {
	return c.legs[0].total.Packets == 0 || c.legs[1].total.Packets == 0 ||
		c.state == conntrack.StateSynReceived
}

// last is the time of the connection's last packet.
func (c *connection) last() int64 {
	switch {
	case c.legs[0].total.Packets == 0:
		return c.legs[1].last
	case c.legs[1].total.Packets == 0:
		return c.legs[0].last
	}
	return max(c.legs[0].last, c.legs[1].last)
}

// expired tells whether the connection has outlived its state.
func (c *connection) expired(lifetimes map[conntrack.State]time.Duration, now int64) bool {
	return now-c.last() > int64(lifetimes[c.state])
}

// expiry is the reason with which the connection ends once it has expired.
func (c *connection) expiry() flow.EndReason {
	if c.state == conntrack.StateClosed || c.state == conntrack.StateReset {
		return flow.EndDetected
	}
	return flow.EndIdle
}
