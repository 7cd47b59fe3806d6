package bench

import "encoding/binary"

// The offsets at which a driver writes, in a frame of Ethernet and IP without options.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	ipv4Source  = ethernetLen + 12
	ipv6Source  = ethernetLen + 8
	payloadLen  = 64 // bytes behind the transport header
)

// TCP flags.
const (
	syn = 0x02
	ack = 0x10
)

// packet is a frame that stands for many: a driver writes the number of a flow into its source
// address and port.
type packet struct {
	frame []byte
	// source is the offset of the last 4 (IPv4) or 8 (IPv6) bytes of the source address, port
	// that of the source port.
	source, port int
	v6           bool
}

func tcp4(flags byte) packet { return ipv4(6, tcpHeader(flags)) }
func tcp6(flags byte) packet { return ipv6(6, tcpHeader(flags)) }
func udp4() packet           { return ipv4(17, udpHeader()) }

// ipv4 goes from 10.0.0.1 to 10.255.0.2. Checksums are left out: nobody on the way checks them.
func ipv4(protocol byte, transport []byte) packet {
	h := make([]byte, ipv4Len, ipv4Len+len(transport))
	h[0], h[8], h[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4Len+len(transport)))
	copy(h[12:], []byte{10, 0, 0, 1, 10, 255, 0, 2})
	return packet{frame: ethernet(0x0800, append(h, transport...)),
		source: ipv4Source, port: ethernetLen + ipv4Len}
}

// ipv6 goes from 2001:db8::1 to 2001:db8::ff00:0:0:2.
func ipv6(protocol byte, transport []byte) packet {
	h := make([]byte, ipv6Len, ipv6Len+len(transport))
	h[0], h[6], h[7] = 0x60, protocol, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(transport)))
	copy(h[8:], []byte{0x20, 1, 0x0d, 0xb8})
	h[23] = 1
	copy(h[24:], []byte{0x20, 1, 0x0d, 0xb8})
	h[32], h[39] = 0xff, 2
	return packet{frame: ethernet(0x86dd, append(h, transport...)),
		source: ipv6Source + 8, port: ethernetLen + ipv6Len, v6: true}
}

func ethernet(kind uint16, rest []byte) []byte {
	h := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, byte(kind >> 8), byte(kind)}
	return append(h, rest...)
}

// tcpHeader is a header of 20 bytes and the payload.
func tcpHeader(flags byte) []byte {
	h := ports(20)
	h[7], h[11], h[12], h[13] = 1, 1, 0x50, flags
	return h
}

func udpHeader() []byte {
	h := ports(8)
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)))
	return h
}

func ports(header int) []byte {
	h := make([]byte, header+payloadLen)
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], 80)
	return h
}

// from is the packet with another source port.
func (p packet) from(port uint16) packet {
	p.frame = append([]byte(nil), p.frame...)
	binary.BigEndian.PutUint16(p.frame[p.port:], port)
	return p
}
