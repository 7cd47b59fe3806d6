package model

import (
	"container/list"
	"net/netip"
	"time"
)

const (
	fragmentTime = 30 * time.Second // how long a first fragment is of use
	maxDatagrams = 4096             // that are remembered
)

// fragment is a packet's place in its datagram. It is zero for whole packets.
type fragment struct {
	later bool // its offset is not 0
	more  bool // more fragments follow
	id    uint32
}

// datagram is what all fragments of one datagram have in common.
type datagram struct {
	zone     uint16
	src, dst netip.Addr // they tell the family
	id       uint32
	protocol uint8 // IPv4 alone: in IPv6 fragments it may be that of an extension header
}

// beginning is what a datagram's first fragment tells of the later ones.
type beginning struct {
	of               datagram
	at               int64
	protocol         uint8
	srcPort, dstPort uint16
	icmpType         uint8
	icmpCode         uint8
	icmpID           uint16
	reply            bool
}

// fragments remembers the beginnings of datagrams, the last one used in front. The order is exact,
// while the kernel knows it only roughly.
type fragments struct {
	order *list.List // of *beginning
	at    map[datagram]*list.Element
}

func newFragments() fragments {
	return fragments{order: list.New(), at: map[datagram]*list.Element{}}
}

// datagram is the one that a fragment is part of.
func (p *packet) datagram(zone uint16) datagram {
	d := datagram{zone: zone, src: p.src.addr, dst: p.dst.addr, id: p.frag.id}
	if p.src.addr.Is4() {
		d.protocol = p.protocol
	}
	return d
}

// see remembers a first fragment, and gives a later one what its first one told. The reason is
// ReasonFragment if that is not known.
func (f *fragments) see(a arrived, p *packet) Reason {
	switch {
	case p.frag.later:
		return f.recall(a, p)
	case p.frag.more && !p.isError:
		f.keep(a, p)
	}
	return ""
}

func (f *fragments) keep(a arrived, p *packet) {
	d := p.datagram(a.zone)
	b := &beginning{of: d, at: a.now, protocol: p.protocol, srcPort: p.src.port,
		dstPort: p.dst.port, icmpType: p.icmpType, icmpCode: p.icmpCode, icmpID: p.icmpID,
		reply: p.reply}
	if e := f.at[d]; e != nil {
		e.Value = b
		f.order.MoveToFront(e)
		return
	}
	if len(f.at) == maxDatagrams {
		last := f.order.Remove(f.order.Back()).(*beginning)
		delete(f.at, last.of)
	}
	f.at[d] = f.order.PushFront(b)
}

func (f *fragments) recall(a arrived, p *packet) Reason {
	e := f.at[p.datagram(a.zone)]
	if e == nil {
		return ReasonFragment
	}
	f.order.MoveToFront(e)
	b := e.Value.(*beginning)
	if a.now-b.at > int64(fragmentTime) {
		return ReasonFragment
	}
	p.protocol, p.reply = b.protocol, b.reply
	p.src.port, p.dst.port = b.srcPort, b.dstPort
	p.icmpType, p.icmpCode, p.icmpID = b.icmpType, b.icmpCode, b.icmpID
	return ""
}
