package differ

import (
	"encoding/binary"
	"slices"
)

// IANA numbers, of protocols and of IPv6 extension headers.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

var (
	otherProtocols = []uint8{0, 2, 4, 41, 47, 50, 59, 89, 103, 112, protoSCTP, 136, 253, 1, 58}
	extensions     = []uint8{0, 43, 44, 51, 60, 135, 139, 140}
)

// ends are the two ends of a packet.
type ends struct {
	v6               bool
	src, dst         byte // the last byte of the address
	srcPort, dstPort uint16
}

func (e ends) back() ends {
	e.src, e.dst, e.srcPort, e.dstPort = e.dst, e.src, e.dstPort, e.srcPort
	return e
}

// ends draws ends from so few that connections meet.
func (d *drawer) ends() ends {
	e := ends{v6: d.oneIn(2), src: byte(1 + d.IntN(d.hosts)), dst: byte(1 + d.IntN(d.hosts)),
		srcPort: d.port(), dstPort: d.port()}
	return e
}

// port draws a port. Some are such that their order depends on the order of their bytes.
func (d *drawer) port() uint16 {
	n := uint16(1 + d.IntN(d.ports))
	if d.oneIn(2) {
		return n << 8
	}
	return n
}

// frame draws a packet with its link header.
func (d *drawer) frame() []byte {
	e := d.ends()
	protocol, body := d.transport(e)
	return d.link(e.v6, d.ip(e, protocol, body))
}

// link puts a link header before an IP packet, if the case's frames have one.
func (d *drawer) link(v6 bool, packet []byte) []byte {
	if d.c.L3 {
		return packet
	}
	return d.ethernet(v6, packet)
}

// ethernet puts an Ethernet header before an IP packet.
func (d *drawer) ethernet(v6 bool, packet []byte) []byte {
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for range pick(d, 0, 0, 0, 0, 0, 1, 1, 2, d.IntN(4)) {
		frame = binary.BigEndian.AppendUint16(frame, pick[uint16](d, 0x8100, 0x8100, 0x88a8))
		frame = binary.BigEndian.AppendUint16(frame, uint16(d.Uint32()))
	}
	etherType := uint16(0x0800)
	if v6 {
		etherType = 0x86dd
	}
	if d.oneIn(60) {
		etherType = pick[uint16](d, 0x0806, 0x88cc, 0x0800, 0x86dd, 0x8864, 0x9100, 100)
	}
	return slices.Concat(binary.BigEndian.AppendUint16(frame, etherType), packet, d.padding())
}

func (d *drawer) padding() []byte {
	if !d.oneIn(8) {
		return nil
	}
	return make([]byte, d.IntN(20))
}

func (d *drawer) ip(e ends, protocol uint8, body []byte) []byte {
	if e.v6 {
		return d.ipv6(e, protocol, body)
	}
	return d.ipv4(e, protocol, body)
}

func (d *drawer) ipv4(e ends, protocol uint8, body []byte) []byte {
	words := 5
	if d.oneIn(6) {
		words += d.IntN(11)
	}
	h := make([]byte, words*4)
	h[0] = 4<<4 | byte(words)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
	binary.BigEndian.PutUint16(h[4:], uint16(d.IntN(4))) // identification: datagrams meet
	binary.BigEndian.PutUint16(h[6:], d.fragment())
	h[8], h[9] = 64, protocol
	copy(h[12:], []byte{10, 0, 0, e.src})
	copy(h[16:], []byte{10, 0, 0, e.dst})
	for i := 20; i < len(h); i++ {
		h[i] = byte(d.Uint32())
	}
	return append(h, body...)
}

// fragment draws the flags and the offset of an IPv4 header.
func (d *drawer) fragment() uint16 {
	if !d.oneIn(12) {
		return pick[uint16](d, 0, 0x4000)
	}
	return pick[uint16](d, 0x2000, 0x2000, 0x2001, 1, 0x00b9, 0x8000, 0x1fff, uint16(d.Uint32()))
}

func (d *drawer) ipv6(e ends, protocol uint8, body []byte) []byte {
	h := make([]byte, 40)
	next := protocol
	if d.oneIn(4) {
		next, body = d.extensions(protocol, body)
	}
	binary.BigEndian.PutUint32(h, 6<<28|d.Uint32N(1<<28))
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h[6], h[7] = next, 64
	copy(h[8:], []byte{0xfd, 15: e.src})
	copy(h[24:], []byte{0xfd, 15: e.dst})
	return append(h, body...)
}

// extensions puts extension headers before a body and returns the type of the first.
func (d *drawer) extensions(next uint8, body []byte) (uint8, []byte) {
	for range 1 + d.IntN(pick(d, 2, 3, 10)) {
		kind := pick(d, extensions...)
		size := 8
		if kind != 44 && d.oneIn(3) {
			size += 8 * d.IntN(4)
		}
		h := make([]byte, size)
		h[0], h[1] = next, byte(size/8-1)
		switch kind {
		case 51:
			h[1] = byte(size/4 - 2)
		case 44:
			h[1] = byte(d.Uint32())
			h[7] = byte(d.IntN(4))
			if d.oneIn(3) {
				binary.BigEndian.PutUint16(h[2:], pick[uint16](d, 1, 6, 8, 9, uint16(d.Uint32())))
			}
		}
		next, body = kind, append(h, body...)
	}
	return next, body
}

// transport draws what follows the IP header.
func (d *drawer) transport(e ends) (uint8, []byte) {
	icmp := uint8(protoICMP)
	if e.v6 {
		icmp = protoICMPv6
	}
	switch n := d.IntN(24); {
	case n >= 22 && !d.inside:
		return d.tunnel(e)
	case n >= 20:
		return protoSCTP, d.sctp(e)
	case n < 9:
		return protoTCP, d.tcp(e, d.tcpFlags(), d.number(), d.number())
	case n < 12:
		return protoUDP, d.udp(e)
	case n < 15:
		return icmp, d.query(icmp)
	case n < 18:
		return icmp, d.icmpError(e, icmp)
	case n < 19:
		return icmp, d.payload(16)
	}
	return pick(d, otherProtocols...), d.payload(40)
}

// sctp draws a packet of SCTP with one chunk.
func (d *drawer) sctp(e ends) []byte {
	h := make([]byte, 12)
	binary.BigEndian.PutUint16(h, e.srcPort)
	binary.BigEndian.PutUint16(h[2:], e.dstPort)
	chunk := make([]byte, pick(d, 4, 20, 20, d.IntN(24)))
	if len(chunk) > 0 {
		chunk[0] = pick[uint8](d, 1, 2, 10, 11, 0, 3, 6, 7, 8, 14, uint8(d.Uint32()))
	}
	if len(chunk) >= 8 {
		binary.BigEndian.PutUint16(chunk[2:], uint16(len(chunk)))
		binary.BigEndian.PutUint32(chunk[4:], d.number())
	}
	return append(append(h, chunk...), d.payload(4)...)
}

// tunnel draws a tunnel with a packet in it.
func (d *drawer) tunnel(e ends) (uint8, []byte) {
	d.inside = true
	defer func() { d.inside = false }()
	in := d.ends()
	protocol, body := d.transport(in)
	inner, etherType := d.ip(in, protocol, body), uint16(0x0800)
	if in.v6 {
		etherType = 0x86dd
	}
	if d.oneIn(3) {
		inner, etherType = d.ethernet(in.v6, inner), 0x6558
	}
	switch d.IntN(4) {
	case 0:
		if in.v6 {
			return 41, inner
		}
		return 4, inner
	case 1:
		return 47, d.gre(etherType, inner)
	case 2:
		e.dstPort = 6081
		h := []byte{byte(d.IntN(3)), 0, byte(etherType >> 8), byte(etherType), 0, 0, 1, 0}
		return protoUDP, udpWith(e, slices.Concat(h, make([]byte, 4*int(h[0])), inner))
	}
	e.dstPort = 4789
	if etherType != 0x6558 {
		inner = d.ethernet(in.v6, inner)
	}
	return protoUDP, udpWith(e, slices.Concat([]byte{8, 0, 0, 0, 0, 0, 1, 0}, inner))
}

// gre draws a GRE header with some of its optional fields.
func (d *drawer) gre(etherType uint16, inner []byte) []byte {
	flags := uint16(0)
	size := 4
	for _, bit := range []uint16{0x8000, 0x2000, 0x1000} {
		if d.oneIn(3) {
			flags |= bit
			size += 4
		}
	}
	if d.oneIn(8) {
		flags ^= 1 << d.IntN(16)
	}
	h := make([]byte, size)
	binary.BigEndian.PutUint16(h, flags)
	binary.BigEndian.PutUint16(h[2:], etherType)
	return append(h, inner...)
}

// udpWith is a UDP datagram with the given content.
func udpWith(e ends, body []byte) []byte {
	h := make([]byte, 8)
	binary.BigEndian.PutUint16(h, e.srcPort)
	binary.BigEndian.PutUint16(h[2:], e.dstPort)
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(body)))
	return append(h, body...)
}

func (d *drawer) tcpFlags() uint8 {
	return pick[uint8](d, 0x02, 0x12, 0x10, 0x10, 0x10, 0x18, 0x11, 0x01, 0x04, 0x14, 0xc2,
		uint8(d.Uint32()))
}

// number draws a sequence number from few, near the place where they wrap.
func (d *drawer) number() uint32 { return uint32(d.IntN(6)) - 3 }

func (d *drawer) tcp(e ends, flags uint8, seq, ack uint32) []byte {
	h := make([]byte, 20)
	if d.oneIn(5) {
		h = append(h, make([]byte, 4*d.IntN(11))...)
	}
	binary.BigEndian.PutUint16(h, e.srcPort)
	binary.BigEndian.PutUint16(h[2:], e.dstPort)
	binary.BigEndian.PutUint32(h[4:], seq)
	binary.BigEndian.PutUint32(h[8:], ack)
	h[12], h[13] = byte(len(h)/4<<4), flags
	return append(h, d.payload(4)...)
}

func (d *drawer) udp(e ends) []byte {
	datagram := udpWith(e, d.payload(60))
	if d.oneIn(20) {
		binary.BigEndian.PutUint16(datagram[4:], uint16(d.IntN(20)))
	}
	return datagram
}

// query draws an ICMP query or reply with one of few identifiers.
func (d *drawer) query(protocol uint8) []byte {
	h := make([]byte, 8)
	h[0] = pick[uint8](d, 8, 0, 13, 14, 15, 16, 17, 18, 9, 10)
	if protocol == protoICMPv6 {
		h[0] = pick[uint8](d, 128, 129, 128, 129, 135, 136, 143)
	}
	if d.oneIn(8) {
		h[1] = byte(d.IntN(3))
	}
	binary.BigEndian.PutUint16(h[4:], uint16(d.IntN(2)))
	return append(h, d.payload(20)...)
}

// icmpError draws an error about a packet like those that travel here.
func (d *drawer) icmpError(e ends, protocol uint8) []byte {
	h := make([]byte, 8)
	h[0] = pick[uint8](d, 3, 3, 4, 5, 11, 12)
	if protocol == protoICMPv6 {
		h[0] = pick[uint8](d, 1, 2, 3, 4)
	}
	h[1] = byte(d.IntN(5))
	cited := e.back()
	if d.oneIn(4) {
		cited = d.ends()
		cited.v6 = e.v6
	}
	var inner []byte
	switch {
	case d.oneIn(4):
		inner = d.ip(cited, protocol, d.query(protocol))
	case d.oneIn(4):
		inner = d.ip(cited, protocol, h) // about an error
	case d.oneIn(2):
		inner = d.ip(cited, protoUDP, d.udp(cited))
	default:
		inner = d.ip(cited, pick[uint8](d, protoTCP, protoTCP, pick(d, otherProtocols...)),
			d.tcp(cited, d.tcpFlags(), d.number(), d.number()))
	}
	if d.oneIn(3) {
		inner = inner[:d.IntN(len(inner)+1)]
	}
	return append(h, inner...)
}

func (d *drawer) payload(most int) []byte {
	b := make([]byte, d.IntN(most+1))
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}
