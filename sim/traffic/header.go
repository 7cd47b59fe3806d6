package traffic

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// header is one layer of a frame. Fields that are not set are derived when it is prepended.
type header interface {
	// etherType and protocol are the numbers by which a header before this one announces it.
	etherType() uint16
	protocol() uint8
	// prepend puts the header before what b holds already.
	prepend(b gopacket.SerializeBuffer, at place) error
}

// place is what a header must know of its neighbours.
type place struct {
	next     header     // nil behind the last one
	src, dst netip.Addr // of the nearest IP header before this one; they may be invalid
}

// Numbers for what has none of its own: "local experimental 2" of IEEE 802 (the first one is
// the engine's marker), and the first of RFC 3692's.
const (
	etherTypeOther   = 0x88b6
	etherTypeBridged = 0x6558 // Ethernet in a tunnel
	protocolOther    = 253
	protocolNone     = 59 // IPv6: no next header
)

// opaque is embedded by headers that no number announces.
type opaque struct{}

func (opaque) etherType() uint16 { return etherTypeOther }
func (opaque) protocol() uint8   { return protocolOther }

func etherTypeOf(next header) uint16 {
	if next == nil {
		return etherTypeOther
	}
	return next.etherType()
}

// The serializers below never let gopacket derive: it knows only consistent packets.
var asGiven = gopacket.SerializeOptions{}

type ethernet struct {
	opaque
	dst, src [6]byte
	typ      opt[uint16]
}

func (h *ethernet) etherType() uint16 { return etherTypeBridged }

// prepend does not use gopacket's Ethernet: that pads to 60 bytes, which veth does not.
func (h *ethernet) prepend(b gopacket.SerializeBuffer, at place) error {
	p, err := b.PrependBytes(14)
	if err != nil {
		return err
	}
	copy(p, h.dst[:])
	copy(p[6:], h.src[:])
	binary.BigEndian.PutUint16(p[12:], h.typ.or(etherTypeOf(at.next)))
	return nil
}

// vlan is an 802.1Q or 802.1ad tag. Its own type stands in the header before it.
type vlan struct {
	opaque
	tpid uint16
	tag  layers.Dot1Q
	typ  opt[uint16]
}

func (h *vlan) etherType() uint16 { return h.tpid }

func (h *vlan) prepend(b gopacket.SerializeBuffer, at place) error {
	h.tag.Type = layers.EthernetType(h.typ.or(etherTypeOf(at.next)))
	return h.tag.SerializeTo(b, asGiven)
}

type arp struct {
	opaque
	layers.ARP
}

func (h *arp) etherType() uint16 { return uint16(layers.EthernetTypeARP) }

func (h *arp) prepend(b gopacket.SerializeBuffer, _ place) error {
	return h.ARP.SerializeTo(b, asGiven)
}

type ipv4 struct {
	layers.IPv4
	src, dst  netip.Addr
	options   []byte
	ihl       opt[uint8]
	length    opt[uint16]
	next      opt[uint8]
	headerSum opt[uint16]
}

func (h *ipv4) etherType() uint16 { return uint16(layers.EthernetTypeIPv4) }
func (h *ipv4) protocol() uint8   { return uint8(layers.IPProtocolIPv4) }

func (h *ipv4) prepend(b gopacket.SerializeBuffer, at place) error {
	options := padded(h.options, 4)
	if err := prependBytes(b, options); err != nil {
		return err
	}
	total := 20 + len(b.Bytes())
	if total > maxBytes && !h.length.set {
		return fmt.Errorf("ipv4: %d bytes do not fit into a packet", total)
	}
	h.IHL = h.ihl.or(uint8(5 + len(options)/4))
	h.Length = h.length.or(uint16(total))
	h.Protocol = layers.IPProtocol(h.next.or(protocolOther))
	if at.next != nil {
		h.Protocol = layers.IPProtocol(h.next.or(at.next.protocol()))
	}
	h.SrcIP, h.DstIP, h.Checksum = h.src.AsSlice(), h.dst.AsSlice(), 0
	if err := h.IPv4.SerializeTo(b, asGiven); err != nil {
		return fmt.Errorf("ipv4: %w", err)
	}
	p := b.Bytes()[:20+len(options)]
	binary.BigEndian.PutUint16(p[10:], h.headerSum.or(checksum(0, p)))
	return nil
}

type ipv6 struct {
	layers.IPv6
	src, dst netip.Addr
	length   opt[uint16]
	next     opt[uint8]
}

func (h *ipv6) etherType() uint16 { return uint16(layers.EthernetTypeIPv6) }
func (h *ipv6) protocol() uint8   { return uint8(layers.IPProtocolIPv6) }

func (h *ipv6) prepend(b gopacket.SerializeBuffer, at place) error {
	h.Length = h.length.or(uint16(len(b.Bytes())))
	h.NextHeader = layers.IPProtocol(h.next.or(nextHeader(at.next)))
	h.SrcIP, h.DstIP = h.src.AsSlice(), h.dst.AsSlice()
	if err := h.IPv6.SerializeTo(b, asGiven); err != nil {
		return fmt.Errorf("ipv6: %w", err)
	}
	return nil
}

func nextHeader(next header) uint8 {
	if next == nil {
		return protocolNone
	}
	return next.protocol()
}

// extension is an IPv6 extension header: next header, length, and the bytes behind them.
type extension struct {
	kind   uint8
	body   []byte // everything behind the first two bytes
	length opt[uint8]
	next   opt[uint8]
}

func (h *extension) etherType() uint16 { return etherTypeOther }
func (h *extension) protocol() uint8   { return h.kind }

func (h *extension) prepend(b gopacket.SerializeBuffer, at place) error {
	unit, less := 8, 1
	switch layers.IPProtocol(h.kind) {
	case layers.IPProtocolAH: // RFC 4302 counts in words of 4 bytes, less 2
		unit, less = 4, 2
	case layers.IPProtocolIPv6Fragment: // always 8 bytes; the second is reserved
		less = max(1, (len(h.body)+9)/8)
	}
	raw := padded(append([]byte{0, 0}, h.body...), unit)
	size := len(raw)/unit - less
	if size > 255 && !h.length.set {
		return fmt.Errorf("ipv6ext: %d bytes do not fit into an extension header", len(raw))
	}
	raw[0], raw[1] = h.next.or(nextHeader(at.next)), h.length.or(uint8(size))
	return prependBytes(b, raw)
}

func prependBytes(b gopacket.SerializeBuffer, data []byte) error {
	p, err := b.PrependBytes(len(data))
	if err == nil {
		copy(p, data)
	}
	return err
}

// padded returns data with zeros up to a multiple of unit.
func padded(data []byte, unit int) []byte {
	if rest := len(data) % unit; rest != 0 {
		return append(append([]byte(nil), data...), make([]byte, unit-rest)...)
	}
	return data
}
