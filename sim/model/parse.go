package model

import (
	"encoding/binary"
	"net/netip"
)

// IANA protocol numbers that have rules of their own.
const (
	protoICMP     = 1
	protoIPv4     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoFragment = 44 // IPv6
	protoGRE      = 47
	protoICMPv6   = 58
	protoNoNext   = 59
	protoSCTP     = 132
)

// EtherTypes, and the depth to which VLAN tags are read.
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8

	maxTags = 2
)

// The bits of the TCP header's flags byte that the rules ask for. Chunks of SCTP stand for them.
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// maxExtensions is how many IPv6 extension headers are passed over.
const maxExtensions = 8

// endpoint is one end of a tuple; port is 0 for protocols without ports.
type endpoint struct {
	addr netip.Addr
	port uint16
}

// packet is what the datapath reads from a frame. src and dst are as the packet travels, for an
// ICMP error those of the tuple it belongs to.
type packet struct {
	src, dst endpoint
	protocol uint8
	cites    uint8 // protocol cited by an ICMP error
	icmpType uint8 // part of the tuple: the request's type, or the type of other ICMP
	icmpCode uint8
	icmpID   uint16
	reply    bool // the reply of an ICMP query

	message typeCode // of ICMP and ICMPv6, as the header has them
	isError bool
	cited   *packet // the packet that an error is about

	flags   uint8  // of TCP; for SCTP what its first chunk stands for
	seq     uint32 // of TCP; for SCTP the initiate tag
	ack     uint32 // TCP alone
	payload uint32

	frag    fragment
	headers int // bytes before the payload: what GSO copies into each segment
}

// parse reads a frame from the outside in, and what is in it when it is a tunnel that is opened.
// The reason is "" if it was understood; headers is set in any case, as far as they were read.
// Of a later fragment only the IP headers are read.
func parse(a Arrival, open kinds) (packet, Reason) {
	p, gso := packet{}, a.Segments > 0
	etherType, body, reason := uint16(0), a.Frame, Reason("")
	if a.L3 {
		etherType = typeByVersion(a.Frame)
	} else {
		etherType, body, reason = p.link(a.Frame, a.Tag)
	}
	if reason == "" {
		body, reason = p.network(etherType, body, gso)
	}
	if reason != "" || p.frag.later {
		return p, reason
	}
	below := p.headers
	if reason := p.transport(body); reason != "" {
		return p, reason
	}
	if inner, ok := open.enter(&p, body, below, gso); ok {
		return inner, ""
	}
	return p, ""
}

// passOuter takes off the headers in which some kernels leave what has come out of a tunnel.
func (a *Arrival) passOuter() {
	if !a.L3 || a.Network >= len(a.Frame) {
		return
	}
	b, length := a.Frame[a.Network:], 0
	switch {
	case len(b) < 8: // less is not looked at
	case b[0]>>4 == 4:
		length = int(binary.BigEndian.Uint16(b[2:]))
	case b[0]>>4 == 6:
		length = 40 + int(binary.BigEndian.Uint16(b[4:]))
	}
	if length == len(b) {
		a.Frame = b
	}
}

// typeByVersion is the EtherType of a frame that begins with its IP header; 0 if it does not.
func typeByVersion(b []byte) uint16 {
	switch {
	case len(b) == 0:
	case b[0]>>4 == 4:
		return typeIPv4
	case b[0]>>4 == 6:
		return typeIPv6
	}
	return 0
}

// link reads the Ethernet header and its VLAN tags and returns the type of what follows, and
// that. A tag that is carried beside the frame is one of those that a packet may have.
func (p *packet) link(b []byte, beside bool) (uint16, []byte, Reason) {
	tags := 0
	if beside {
		tags = 1
	}
	if len(b) < 14 {
		return 0, nil, ReasonEthernet
	}
	etherType := binary.BigEndian.Uint16(b[12:])
	p.headers += 14
	for b = b[14:]; etherType == typeVLAN || etherType == typeQinQ; tags++ {
		if tags == maxTags {
			return 0, nil, ReasonVLANDepth
		}
		if len(b) < 4 {
			return 0, nil, ReasonEthernet
		}
		etherType = binary.BigEndian.Uint16(b[2:])
		p.headers += 4
		b = b[4:]
	}
	return etherType, b, ""
}

// network reads the IP header with all that belongs to it, and returns what follows.
func (p *packet) network(etherType uint16, b []byte, gso bool) ([]byte, Reason) {
	switch etherType {
	case typeIPv4:
		return p.ipv4(b, gso)
	case typeIPv6:
		return p.ipv6(b, gso)
	}
	return nil, ReasonNotIP
}

// ipv4 reads an IPv4 header and returns what follows it, without padding.
func (p *packet) ipv4(b []byte, gso bool) ([]byte, Reason) {
	size, ok := p.ipv4Header(b)
	if !ok {
		return nil, ReasonIPv4Header
	}
	if !gso {
		total := int(binary.BigEndian.Uint16(b[2:]))
		if total < size || total > len(b) {
			return nil, ReasonIPv4Length
		}
		b = b[:total]
	}
	p.headers += size
	return b[size:], ""
}

// ipv4Header reads addresses, protocol and fragmentation; size is the header's length with its
// options.
func (p *packet) ipv4Header(b []byte) (size int, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return 0, false
	}
	size = int(b[0]&0xf) * 4
	if size < 20 || size > len(b) {
		return 0, false
	}
	p.protocol = b[9]
	p.src.addr = netip.AddrFrom4([4]byte(b[12:16]))
	p.dst.addr = netip.AddrFrom4([4]byte(b[16:20]))
	place := binary.BigEndian.Uint16(b[6:])
	p.frag = fragment{later: place&0x1fff != 0, more: place&0x2000 != 0,
		id: uint32(binary.BigEndian.Uint16(b[4:]))}
	return size, true
}

// ipv6 reads an IPv6 header with its extension headers and returns what follows them, without
// padding.
func (p *packet) ipv6(b []byte, gso bool) ([]byte, Reason) {
	if !p.ipv6Header(b) {
		return nil, ReasonIPv6Header
	}
	if !gso {
		payload := int(binary.BigEndian.Uint16(b[4:]))
		if payload == 0 && p.protocol != protoNoNext || 40+payload > len(b) {
			return nil, ReasonIPv6Length
		}
		b = b[:40+payload]
	}
	p.headers += 40
	size, reason := p.extensions(b[40:])
	p.headers += size
	if reason != "" {
		return nil, reason
	}
	return b[40+size:], ""
}

// ipv6Header reads addresses and the first next header.
func (p *packet) ipv6Header(b []byte) bool {
	if len(b) < 40 || b[0]>>4 != 6 {
		return false
	}
	p.protocol = b[6]
	p.src.addr = netip.AddrFrom16([16]byte(b[8:24]))
	p.dst.addr = netip.AddrFrom16([16]byte(b[24:40]))
	return true
}

// extensions passes over IPv6 extension headers, p.protocol being the type of the first one, and
// returns their length as far as they could be read. p.protocol is then what follows them. In a later fragment nothing is
// read behind its fragment header.
func (p *packet) extensions(b []byte) (int, Reason) {
	at := 0
	for n := 0; extension(p.protocol) && !p.frag.later; n++ {
		if n == maxExtensions {
			return at, ReasonIPv6Extension
		}
		rest := b[at:]
		size, ok := extensionSize(p.protocol, rest)
		if !ok {
			return at, ReasonIPv6Extension
		}
		if p.protocol == protoFragment {
			place := binary.BigEndian.Uint16(rest[2:])
			p.frag = fragment{later: place&0xfff8 != 0, more: place&1 != 0,
				id: binary.BigEndian.Uint32(rest[4:])}
		}
		p.protocol = rest[0]
		at += size
	}
	return at, ""
}

// extension tells whether a next header is an extension header that is passed over.
func extension(next uint8) bool {
	switch next {
	case 0, 43, protoFragment, 51, 60, 135, 139, 140:
		return true
	}
	return false
}

// extensionSize is the length of the extension header at the start of b; ok is false if it is
// cut off.
func extensionSize(kind uint8, b []byte) (size int, ok bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch kind {
	case protoFragment:
		size = 8
	case 51:
		size = (int(b[1]) + 2) * 4
	default:
		size = (int(b[1]) + 1) * 8
	}
	return size, size <= len(b)
}

// transport reads the header of the transport protocol.
func (p *packet) transport(b []byte) Reason {
	switch p.protocol {
	case protoTCP:
		return p.tcp(b)
	case protoUDP:
		return p.udp(b)
	case protoSCTP:
		return p.sctp(b)
	}
	if p.isICMP() {
		return p.icmp(b)
	}
	return ""
}

// isICMP tells whether the protocol is the ICMP of the packet's own IP version: the other one's
// number is a protocol like any other there.
func (p *packet) isICMP() bool {
	if p.src.addr.Is4() {
		return p.protocol == protoICMP
	}
	return p.protocol == protoICMPv6
}

func (p *packet) tcp(b []byte) Reason {
	if len(b) < 20 {
		return ReasonTCPHeader
	}
	size := int(b[12]>>4) * 4
	if size < 20 || size > len(b) {
		return ReasonTCPHeader
	}
	p.ports(b)
	p.seq = binary.BigEndian.Uint32(b[4:])
	p.ack = binary.BigEndian.Uint32(b[8:])
	p.flags = b[13]
	p.payload = uint32(len(b) - size)
	p.headers += size
	return ""
}

func (p *packet) udp(b []byte) Reason {
	if len(b) < 8 || binary.BigEndian.Uint16(b[4:]) < 8 {
		return ReasonUDPHeader
	}
	p.ports(b)
	p.headers += 8
	return ""
}

func (p *packet) ports(b []byte) {
	p.src.port = binary.BigEndian.Uint16(b)
	p.dst.port = binary.BigEndian.Uint16(b[2:])
}

// hasPorts tells whether the protocol's header begins with two ports.
func (p *packet) hasPorts() bool {
	return p.protocol == protoTCP || p.protocol == protoUDP || p.protocol == protoSCTP
}
