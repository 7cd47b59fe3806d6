package model

import (
	"encoding/binary"
	"math"
)

// multiplier is that of mix: 2^64 divided by the golden ratio.
const multiplier = 0x9e3779b97f4a7c15

// mix stirs a word into a hash.
func mix(h, w uint64) uint64 {
	h = (h ^ w) * multiplier
	return h ^ h>>32
}

// sampled tells whether the packet's connection is among 1 in n. All are where n is 0 or 1.
func (p *packet) sampled(n uint32) bool {
	if n <= 1 {
		return true
	}
	return uint32(p.hash()>>32) <= math.MaxUint32/n
}

// hash is that of the packet's connection, for an ICMP error that of the connection it cites. It
// is the same in both directions.
func (p *packet) hash() uint64 {
	protocol := p.protocol
	if p.isError {
		protocol = p.cites
	}
	// All but the protocol is 0 where it is no ICMP.
	last := uint64(protocol) | uint64(p.icmpID)<<16 | uint64(p.icmpType)<<32 | uint64(p.icmpCode)<<40
	return mix(p.src.hash()+p.dst.hash(), last)
}

func (e endpoint) hash() uint64 {
	if e.addr.Is4() {
		a := e.addr.As4()
		return mix(uint64(e.port)<<32|uint64(binary.BigEndian.Uint32(a[:])), 0)
	}
	a := e.addr.As16()
	return mix(mix(uint64(e.port), binary.BigEndian.Uint64(a[:8])), binary.BigEndian.Uint64(a[8:]))
}
