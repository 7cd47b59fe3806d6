package traffic

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/agent/flow"
)

type tcp struct {
	opaque
	layers.TCP
	flags      flow.TCPFlags
	options    []byte
	dataOffset opt[uint8]
	sum        opt[uint16]
}

func (h *tcp) protocol() uint8 { return uint8(layers.IPProtocolTCP) }

func (h *tcp) prepend(b gopacket.SerializeBuffer, at place) error {
	options := padded(h.options, 4)
	if err := prependBytes(b, options); err != nil {
		return err
	}
	h.DataOffset, h.Checksum = h.dataOffset.or(uint8(5+len(options)/4)), 0
	if err := h.TCP.SerializeTo(b, asGiven); err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	p := b.Bytes()
	p[12], p[13] = h.DataOffset<<4, byte(h.flags)
	binary.BigEndian.PutUint16(p[16:], h.sum.or(pseudoChecksum(p, h.protocol(), at)))
	return nil
}

type udp struct {
	opaque
	layers.UDP
	length opt[uint16]
	sum    opt[uint16]
}

func (h *udp) protocol() uint8 { return uint8(layers.IPProtocolUDP) }

func (h *udp) prepend(b gopacket.SerializeBuffer, at place) error {
	h.Length, h.Checksum = h.length.or(uint16(8+len(b.Bytes()))), 0
	if err := h.UDP.SerializeTo(b, asGiven); err != nil {
		return fmt.Errorf("udp: %w", err)
	}
	p := b.Bytes()
	sum := pseudoChecksum(p, h.protocol(), at)
	if sum == 0 { // 0 says that there is no checksum (RFC 768)
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(p[6:], h.sum.or(sum))
	return nil
}

type icmp struct {
	opaque
	typ, code uint8
	rest      [4]byte // id and sequence, MTU, gateway: as the type says
	sum       opt[uint16]
}

func (h *icmp) protocol() uint8 { return uint8(layers.IPProtocolICMPv4) }

func (h *icmp) prepend(b gopacket.SerializeBuffer, _ place) error {
	l := layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(h.typ, h.code),
		Id:  binary.BigEndian.Uint16(h.rest[:2]),
		Seq: binary.BigEndian.Uint16(h.rest[2:])}
	if err := l.SerializeTo(b, asGiven); err != nil {
		return fmt.Errorf("icmp: %w", err)
	}
	p := b.Bytes()
	binary.BigEndian.PutUint16(p[2:], h.sum.or(checksum(0, p)))
	return nil
}

type icmpv6 struct{ icmp }

func (h *icmpv6) protocol() uint8 { return uint8(layers.IPProtocolICMPv6) }

func (h *icmpv6) prepend(b gopacket.SerializeBuffer, at place) error {
	if err := prependBytes(b, h.rest[:]); err != nil {
		return err
	}
	l := layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(h.typ, h.code)}
	if err := l.SerializeTo(b, asGiven); err != nil {
		return fmt.Errorf("icmpv6: %w", err)
	}
	p := b.Bytes()
	binary.BigEndian.PutUint16(p[2:], h.sum.or(pseudoChecksum(p, h.protocol(), at)))
	return nil
}

// payload is bytes behind the last header.
type payload struct {
	opaque
	data []byte
}

func (h *payload) prepend(b gopacket.SerializeBuffer, _ place) error {
	return prependBytes(b, h.data)
}

// letters is the alphabet again and again: the same in every run and easy to find in a dump.
var letters = bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz"), maxBytes/26+1)

// pattern is n bytes, at most maxBytes. Nobody writes to them.
func pattern(n int) *payload { return &payload{data: letters[:n:n]} }

// pseudoChecksum is the checksum of data with the pseudo header of the IP header around it
// (RFC 9293, RFC 768, RFC 8200 section 8.1). Without one, it covers data alone.
func pseudoChecksum(data []byte, protocol uint8, at place) uint16 {
	if !at.src.IsValid() || !at.dst.IsValid() {
		return checksum(0, data)
	}
	sum := uint32(len(data)) + uint32(protocol)
	for _, a := range [][]byte{at.src.AsSlice(), at.dst.AsSlice()} {
		for i := 0; i < len(a); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(a[i:]))
		}
	}
	return checksum(sum, data)
}

// checksum is the Internet checksum (RFC 1071) of data, with sum added beforehand.
func checksum(sum uint32, data []byte) uint16 {
	for len(data) >= 2 {
		sum += uint32(data[0])<<8 | uint32(data[1])
		data = data[2:]
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
