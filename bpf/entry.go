package bpf

import (
	"math/bits"
	"net/netip"
	"unsafe"
)

// Protocols whose tuples are read in a way of their own (IANA protocol numbers).
const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

// Tuple is the key of a connection: its two endpoints, in an order that means nothing.
type Tuple struct {
	Addr     [2]netip.Addr
	Port     [2]uint16 // 0 when the protocol has none
	Zone     uint16
	Protocol uint8
	Cites    uint8 // protocol of the connection that an ICMP error is about, else 0
	// ICMP: identifier of a query, type (of the request) and code. For an ICMP error, of the
	// ICMP packet that it cites.
	ICMPID             uint16
	ICMPType, ICMPCode uint8
}

// Leg is one direction of a connection: leg 0 goes from endpoint 0 to endpoint 1.
type Leg struct {
	Count
	First, Last int64  // ns of the datapath's clock; First is 0 while nothing was seen
	Flags       uint8  // TCP flags in the header's bit order
	Owner       uint16 // hook that counts the leg; 0: nothing was seen
	Hooks       [3]uint16
}

// Entry is one connection as it stands in the table.
type Entry struct {
	Tuple
	Family     uint8 // 4 or 6
	Flow       uint64
	Legs       [2]Leg
	Reported   [2]Count // what Acknowledge has marked
	reportedAt uint32   // when, in ticks
	State      uint8    // enum conn_state
	Initiator  uint8    // endpoint 0 or 1, or UnknownInitiator
	ErrorType  uint8    // of the last ICMP error that cited the connection; 0: there was none
	ErrorCode  uint8

	key weirKey6
}

// Last returns when the last packet of either direction was seen, in ns.
func (e *Entry) Last() int64 { return max(e.Legs[0].Last, e.Legs[1].Last) }

// First returns when the connection's first packet was seen, in ns.
func (e *Entry) First() int64 {
	if e.Legs[0].Owner != 0 && e.Legs[1].Owner != 0 {
		return min(e.Legs[0].First, e.Legs[1].First)
	}
	return max(e.Legs[0].First, e.Legs[1].First)
}

// tickShift is TICK_SHIFT in conn.h.
const tickShift = 24

// Due tells whether the connection was reported, or began, at least `every` before now. Both are
// in ns; the answer is right to 2^24 ns (16.8 ms).
func (e *Entry) Due(now, every int64) bool {
	return ticksSince(e.reportedAt, now) >= every>>tickShift
}

func ticksSince(tick uint32, now int64) int64 { return int64(uint32(now>>tickShift) - tick) }

// stateSynReceived is STATE_SYN_RECEIVED in conn.h.
const stateSynReceived = 2

// Unanswered tells whether nobody has answered: one of the directions has no packet yet, or an
// answer to a SYN was the last that came of the handshake.
func (e *Entry) Unanswered() bool {
	return e.Legs[0].Owner == 0 || e.Legs[1].Owner == 0 || e.State == stateSynReceived
}

// Key names the connection for Acknowledge, Retire, Read and Delete.
func (e *Entry) Key() Key { return Key{Family: e.Family, Flow: e.Flow, key: e.key} }

// Unreported returns what the leg has counted beyond what was acknowledged.
func (e *Entry) Unreported(leg int) Count {
	return Count{
		Packets: e.Legs[leg].Packets - e.Reported[leg].Packets,
		Bytes:   e.Legs[leg].Bytes - e.Reported[leg].Bytes,
	}
}

// keyOf names a connection by the key of a table.
func keyOf(family uint8, key unsafe.Pointer, flow uint64) Key {
	k := Key{Family: family, Flow: flow}
	if family == 4 {
		*(*weirKey4)(unsafe.Pointer(&k.key)) = *(*weirKey4)(key)
	} else {
		k.key = *(*weirKey6)(key)
	}
	return k
}

func (e *Entry) set(family uint8, key unsafe.Pointer, c *weirConn) {
	if family == 4 {
		e.set4((*weirKey4)(key), c)
	} else {
		e.set6((*weirKey6)(key), c)
	}
}

func (e *Entry) set4(k *weirKey4, c *weirConn) {
	*e = Entry{Family: 4}
	*(*weirKey4)(unsafe.Pointer(&e.key)) = *k
	for i := range 2 {
		e.Addr[i] = netip.AddrFrom4(*(*[4]byte)(unsafe.Pointer(&k.Addr[i])))
	}
	e.setTuple(k.Port, k.Zone, k.Proto, k.Cites)
	e.setConn(c)
}

func (e *Entry) set6(k *weirKey6, c *weirConn) {
	*e = Entry{Family: 6, key: *k}
	for i := range 2 {
		e.Addr[i] = netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(&k.Addr[i])))
	}
	e.setTuple(k.Port, k.Zone, k.Proto, k.Cites)
	e.setConn(c)
}

func (e *Entry) setTuple(port [2]uint16, zone uint16, proto, cites uint8) {
	e.Zone, e.Protocol, e.Cites = zone, proto, cites
	if e.IsICMP() {
		e.ICMPID, e.ICMPType, e.ICMPCode = port[0], uint8(port[1]>>8), uint8(port[1])
		return
	}
	e.Port = [2]uint16{bits.ReverseBytes16(port[0]), bits.ReverseBytes16(port[1])}
}

// UnknownInitiator is what Entry.Initiator says when the beginning of the connection was not seen.
const UnknownInitiator = 2

const seenInitiator = 16 // SEEN_INITIATOR in conn.h

func (e *Entry) setConn(c *weirConn) {
	e.Flow, e.State, e.Initiator = c.Id, c.State, UnknownInitiator
	e.reportedAt = c.ReportedAt
	e.ErrorType, e.ErrorCode = c.IcmpType, c.IcmpCode
	for i := range c.Leg {
		l := &c.Leg[i]
		e.Legs[i] = Leg{Count: Count{l.Packets, l.Bytes}, First: int64(l.First), Last: int64(l.Last),
			Flags: l.Flags, Owner: l.Owner, Hooks: c.Hooks[i]}
		e.Reported[i] = count(c.Reported[i])
		if l.Seen&seenInitiator != 0 {
			e.Initiator = uint8(i)
		}
	}
}
