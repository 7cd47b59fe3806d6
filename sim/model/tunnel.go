package model

import "encoding/binary"

// The kinds of tunnels that can be opened (bpf/README.md, section 3).
const (
	VXLAN  = "vxlan"
	Geneve = "geneve"
	GRE    = "gre"
	IPIP   = "ipip"
)

// typeBridged is the EtherType by which Geneve and GRE announce an Ethernet frame.
const typeBridged = 0x6558

const (
	portVXLAN  = 4789
	portGeneve = 6081
)

// The bits of GRE's first word: a word of 4 bytes follows for each of the first three, and the
// others, the version among them, must be 0.
const (
	greChecksum = 1 << 15
	greKey      = 1 << 13
	greSequence = 1 << 12
)

// kinds is a set of kinds of tunnels.
type kinds map[string]bool

func kindsOf(names []string) kinds {
	set := kinds{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// enter reads the packet inside p, if p is a tunnel that is to be opened and what it holds can be
// counted. b is what follows p's IP headers, below the length of all that stands before b.
func (k kinds) enter(p *packet, b []byte, below int, gso bool) (packet, bool) {
	if p.frag.more {
		return packet{}, false
	}
	etherType, size, ok := k.header(p, b)
	if !ok || size > len(b) {
		return packet{}, false
	}
	inner := packet{headers: below + size}
	b = b[size:]
	reason := Reason("")
	if etherType == typeBridged {
		etherType, b, reason = inner.link(b, false)
	}
	if reason == "" {
		b, reason = inner.network(etherType, b, gso)
	}
	if reason != "" || inner.frag.later || inner.transport(b) != "" {
		return packet{}, false
	}
	inner.frag = fragment{} // not remembered
	return inner, true
}

// header reads the tunnel's header: size is its length with the UDP header before it, and
// etherType the type of what follows. ok is false if p is no tunnel that is to be opened. The
// header may end beyond b.
func (k kinds) header(p *packet, b []byte) (etherType uint16, size int, ok bool) {
	switch p.protocol {
	case protoUDP:
		return k.overUDP(p.dst.port, b[8:])
	case protoGRE:
		return k.gre(b)
	case protoIPv4:
		return typeIPv4, 0, k[IPIP]
	case protoIPv6:
		return typeIPv6, 0, k[IPIP]
	}
	return 0, 0, false
}

// overUDP reads the header of VXLAN or Geneve.
func (k kinds) overUDP(port uint16, b []byte) (etherType uint16, size int, ok bool) {
	switch {
	case len(b) < 8:
		return 0, 0, false
	case port == portVXLAN && k[VXLAN]:
		return typeBridged, 8 + 8, true
	case port == portGeneve && k[Geneve] && b[0]>>6 == 0:
		options := 4 * int(b[0]&0x3f)
		return carried(b[2:], 8+8+options)
	}
	return 0, 0, false
}

// gre reads the header of GRE (RFC 2784, RFC 2890).
func (k kinds) gre(b []byte) (etherType uint16, size int, ok bool) {
	if !k[GRE] || len(b) < 4 {
		return 0, 0, false
	}
	word := binary.BigEndian.Uint16(b)
	size = 4
	for _, bit := range []uint16{greChecksum, greKey, greSequence} {
		if word&bit != 0 {
			size += 4
		}
	}
	if word&^(greChecksum|greKey|greSequence) != 0 {
		return 0, 0, false
	}
	return carried(b[2:], size)
}

// carried reads the type of what Geneve or GRE carries and passes size on.
func carried(b []byte, size int) (uint16, int, bool) {
	etherType := binary.BigEndian.Uint16(b)
	known := etherType == typeBridged || etherType == typeIPv4 || etherType == typeIPv6
	return etherType, size, known
}
