package model

import (
	"encoding/binary"
	"net/netip"
)

// IANA protocol numbers that have rules of their own.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoNoNext = 59
)

// EtherTypes, and the depth to which VLAN tags are read.
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8

	maxTags = 2
)

// The bits of the TCP header's flags byte that the rules ask for.
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

	isError          bool
	errType, errCode uint8   // of the ICMP error itself
	cited            *packet // the packet that the error is about

	flags    uint8 // TCP from here
	seq, ack uint32
	payload  uint32

	headers int // bytes before the payload: what GSO copies into each segment
}

// parse reads a frame from the outside in. The reason is "" if it was understood; headers is set
// in any case, as far as they were read.
func parse(a Arrival) (packet, Reason) {
	p, gso := packet{}, a.Segments > 0
	etherType, reason := p.link(a.Frame, a.Tag)
	if reason != "" {
		return p, reason
	}
	body := a.Frame[p.headers:]
	switch etherType {
	case typeIPv4:
		body, reason = p.ipv4(body, gso)
	case typeIPv6:
		body, reason = p.ipv6(body, gso)
	default:
		reason = ReasonNotIP
	}
	if reason != "" {
		return p, reason
	}
	return p, p.transport(body)
}

// link reads the Ethernet header and its VLAN tags and returns the type of what follows. A tag
// that is carried beside the frame is one of those that a packet may have.
func (p *packet) link(frame []byte, beside bool) (uint16, Reason) {
	tags := 0
	if beside {
		tags = 1
	}
	if len(frame) < 14 {
		return 0, ReasonEthernet
	}
	p.headers = 14
	etherType := binary.BigEndian.Uint16(frame[12:])
	for ; etherType == typeVLAN || etherType == typeQinQ; tags++ {
		if tags == maxTags {
			return 0, ReasonVLANDepth
		}
		if len(frame) < p.headers+4 {
			return 0, ReasonEthernet
		}
		etherType = binary.BigEndian.Uint16(frame[p.headers+2:])
		p.headers += 4
	}
	return etherType, ""
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
	if laterFragmentIPv4(b) {
		return nil, ReasonFragment
	}
	return b[size:], ""
}

// ipv4Header reads addresses and protocol; size is the header's length with its options.
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
	return size, true
}

func laterFragmentIPv4(b []byte) bool { return binary.BigEndian.Uint16(b[6:])&0x1fff != 0 }

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
	if reason != "" {
		return nil, reason
	}
	p.headers += size
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
// returns their length. p.protocol is then what follows them.
func (p *packet) extensions(b []byte) (int, Reason) {
	at := 0
	for n := 0; extension(p.protocol); n++ {
		if n == maxExtensions {
			return 0, ReasonIPv6Extension
		}
		rest := b[at:]
		size, ok := extensionSize(p.protocol, rest)
		if !ok {
			return 0, ReasonIPv6Extension
		}
		if p.protocol == 44 && binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
			return 0, ReasonFragment
		}
		p.protocol = rest[0]
		at += size
	}
	return at, ""
}

// extension tells whether a next header is an extension header that is passed over.
func extension(next uint8) bool {
	switch next {
	case 0, 43, 44, 51, 60, 135, 139, 140:
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
	case 44:
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
