package traffic

import (
	"encoding/binary"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// tunnelPorts are the UDP ports of the tunnels that have one.
var tunnelPorts = map[string]uint16{"vxlan": 4789, "geneve": 6081}

// The first word of GRE: which further words there are (RFC 2890).
const (
	greChecksum = 1 << 15
	greKey      = 1 << 13
	greSequence = 1 << 12
)

type gre struct {
	opaque
	checksum bool
	key, seq opt[uint32]
	flags    opt[uint16]
	next     opt[uint16]
}

func newGRE(v values) *gre {
	return &gre{checksum: get(v, "checksum", false), key: given[uint32](v, "key"),
		seq: given[uint32](v, "seq"), flags: given[uint16](v, "flags"),
		next: given[uint16](v, "protocol")}
}

func (h *gre) protocol() uint8 { return uint8(layers.IPProtocolGRE) }

func (h *gre) prepend(b gopacket.SerializeBuffer, at place) error {
	var flags uint16
	head := make([]byte, 4)
	if h.checksum {
		flags |= greChecksum
		head = append(head, 0, 0, 0, 0)
	}
	if h.key.set {
		flags |= greKey
		head = binary.BigEndian.AppendUint32(head, h.key.value)
	}
	if h.seq.set {
		flags |= greSequence
		head = binary.BigEndian.AppendUint32(head, h.seq.value)
	}
	binary.BigEndian.PutUint16(head, h.flags.or(flags))
	binary.BigEndian.PutUint16(head[2:], h.next.or(etherTypeOf(at.next)))
	if err := prependBytes(b, head); err != nil {
		return err
	}
	if p := b.Bytes(); h.checksum {
		binary.BigEndian.PutUint16(p[4:], checksum(0, p))
	}
	return nil
}

// vxlan carries Ethernet alone, so it has no type.
type vxlan struct {
	opaque
	flags uint8
	vni   uint32
}

func newVXLAN(v values) *vxlan {
	const validVNI = 8
	return &vxlan{flags: number(v, "flags", uint8(validVNI)), vni: number(v, "vni", uint32(1))}
}

func (h *vxlan) prepend(b gopacket.SerializeBuffer, _ place) error {
	head := []byte{h.flags, 0, 0, 0}
	return prependBytes(b, binary.BigEndian.AppendUint32(head, h.vni<<8))
}

type geneve struct {
	opaque
	version uint8
	vni     uint32
	options []byte
	length  opt[uint8]
	next    opt[uint16]
}

func newGeneve(v values) *geneve {
	return &geneve{version: number(v, "version", uint8(0)), vni: number(v, "vni", uint32(1)),
		options: get(v, "options", []byte(nil)), length: given[uint8](v, "length"),
		next: given[uint16](v, "protocol")}
}

func (h *geneve) prepend(b gopacket.SerializeBuffer, at place) error {
	options := padded(h.options, 4)
	head := []byte{h.version<<6 | h.length.or(uint8(len(options)/4))&0x3f, 0}
	head = binary.BigEndian.AppendUint16(head, h.next.or(etherTypeOf(at.next)))
	head = binary.BigEndian.AppendUint32(head, h.vni<<8)
	return prependBytes(b, append(head, options...))
}
