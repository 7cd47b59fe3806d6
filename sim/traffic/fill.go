package traffic

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/agent/flow"
)

// defaultTTL is Linux's, for both families.
const defaultTTL = 64

// whole is more bytes than any frame has.
const whole = 1 << 30

// filler turns layers as given into headers, with defaults from the way of the packet.
type filler struct {
	way              way
	src, dst         netip.Addr // what the next IP header gets
	srcPort, dstPort uint16
	id               uint16
	stream           bool // the last transport header is TCP's
}

func (f *filler) fill(parts []part) (*assembled, error) {
	a := &assembled{}
	for i, p := range parts {
		h, err := f.header(p, parts[i+1:])
		if err != nil {
			return nil, err
		}
		a.add(h, number(p.v, "truncate", whole))
	}
	return a, nil
}

func (f *filler) header(p part, behind []part) (header, error) {
	switch v := p.v; p.kind {
	case "ethernet":
		return &ethernet{src: get(v, "src", f.way.src), dst: get(v, "dst", f.way.dst),
			typ: given[uint16](v, "type")}, nil
	case "vlan":
		return f.vlan(v, len(behind) > 0 && behind[0].kind == "vlan"), nil
	case "arp":
		return f.arp(v)
	case "ipv4":
		return f.ipv4(v)
	case "ipv6":
		return f.ipv6(v)
	case "ipv6ext":
		return f.extension(v), nil
	case "tcp":
		f.stream = true
		return f.tcp(v), nil
	case "udp":
		f.stream = false
		return f.udp(v, behind), nil
	case "dns":
		return newDNS(v, f.stream), nil
	case "sctp":
		return f.sctp(v), nil
	case "chunk":
		return newChunk(v)
	case "gre":
		return newGRE(v), nil
	case "vxlan":
		return newVXLAN(v), nil
	case "geneve":
		return newGeneve(v), nil
	case "icmp":
		return f.icmp(v, 8, isICMPError), nil
	case "icmpv6":
		return &icmpv6{*f.icmp(v, 128, isICMPv6Error)}, nil
	case "payload":
		return pattern(number(v, "length", 0)), nil
	}
	return &payload{data: get(p.v, "hex", []byte(nil))}, nil
}

// vlan has the type of a service tag when another tag follows, as in 802.1ad.
func (f *filler) vlan(v values, outer bool) *vlan {
	tpid := uint16(layers.EthernetTypeDot1Q)
	if outer {
		tpid = uint16(layers.EthernetTypeQinQ)
	}
	return &vlan{tpid: number(v, "tpid", tpid), typ: given[uint16](v, "type"),
		tag: layers.Dot1Q{VLANIdentifier: number(v, "id", uint16(0)),
			Priority: number(v, "priority", uint8(0)), DropEligible: get(v, "dei", false)}}
}

func (f *filler) arp(v values) (*arp, error) {
	sender, target := get(v, "sender_ip", f.src), get(v, "target_ip", f.dst)
	if !sender.Is4() || !target.Is4() {
		return nil, errors.New("arp: the endpoints have no IPv4 addresses; " +
			"give sender_ip and target_ip")
	}
	operation := number(v, "operation", uint16(layers.ARPRequest))
	unknown := f.way.dst
	if operation == layers.ARPRequest { // what a request asks for is not in it yet
		unknown = [6]byte{}
	}
	sha, tha := get(v, "sender_mac", f.way.src), get(v, "target_mac", unknown)
	return &arp{ARP: layers.ARP{AddrType: layers.LinkTypeEthernet,
		Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: operation, SourceHwAddress: sha[:], SourceProtAddress: sender.AsSlice(),
		DstHwAddress: tha[:], DstProtAddress: target.AsSlice()}}, nil
}

func (f *filler) ipv4(v values) (*ipv4, error) {
	h := newIPv4(get(v, "src", f.src), get(v, "dst", f.dst), number(v, "id", f.id))
	if !h.src.Is4() || !h.dst.Is4() {
		return nil, errors.New("ipv4: the endpoints have no IPv4 addresses; give src and dst")
	}
	h.Version, h.TTL = number(v, "version", h.Version), number(v, "ttl", h.TTL)
	h.TOS = number(v, "tos", uint8(0))
	h.Flags = layers.IPv4Flag(number(v, "flags", uint8(0)))
	h.FragOffset = number(v, "fragment_offset", uint16(0))
	h.options = get(v, "options", []byte(nil))
	h.ihl, h.length = given[uint8](v, "ihl"), given[uint16](v, "length")
	h.next, h.headerSum = given[uint8](v, "protocol"), given[uint16](v, "checksum")
	if len(h.options) > 40 && !h.ihl.set {
		return nil, errors.New("ipv4: options have at most 40 bytes; more need an explicit ihl")
	}
	return h, nil
}

// newIPv4 is an ordinary header.
func newIPv4(src, dst netip.Addr, id uint16) *ipv4 {
	return &ipv4{IPv4: layers.IPv4{Version: 4, TTL: defaultTTL, Id: id}, src: src, dst: dst}
}

func (f *filler) ipv6(v values) (*ipv6, error) {
	h := newIPv6(get(v, "src", f.src), get(v, "dst", f.dst))
	if !h.src.Is6() || !h.dst.Is6() {
		return nil, errors.New("ipv6: the endpoints have no IPv6 addresses; give src and dst")
	}
	h.Version, h.HopLimit = number(v, "version", h.Version), number(v, "hop_limit", h.HopLimit)
	h.TrafficClass = number(v, "traffic_class", uint8(0))
	h.FlowLabel = number(v, "flow_label", uint32(0))
	h.length, h.next = given[uint16](v, "length"), given[uint8](v, "next_header")
	return h, nil
}

// newIPv6 is an ordinary header.
func newIPv6(src, dst netip.Addr) *ipv6 {
	return &ipv6{IPv6: layers.IPv6{Version: 6, HopLimit: defaultTTL}, src: src, dst: dst}
}

// extension's default content is the shortest that means nothing: padding, no segments left, an
// empty authentication value.
func (f *filler) extension(v values) *extension {
	h := &extension{kind: number(v, "type", uint8(0)), length: given[uint8](v, "length"),
		next: given[uint8](v, "next_header")}
	switch layers.IPProtocol(h.kind) {
	case layers.IPProtocolIPv6Fragment:
		offset := number(v, "fragment_offset", uint16(0)) << 3
		if get(v, "more", false) {
			offset |= 1
		}
		h.body = binary.BigEndian.AppendUint16(nil, offset)
		h.body = binary.BigEndian.AppendUint32(h.body, number(v, "id", uint32(f.id)))
	case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Destination:
		h.body = []byte{1, 4, 0, 0, 0, 0} // PadN
	case layers.IPProtocolAH:
		h.body = make([]byte, 22)
	default:
		h.body = make([]byte, 6)
	}
	h.body = get(v, "data", h.body)
	return h
}

func (f *filler) tcp(v values) *tcp {
	h := newTCP(number(v, "src", f.srcPort), number(v, "dst", f.dstPort),
		number(v, "flags", flow.SYN))
	h.Seq, h.Ack = number(v, "seq", uint32(0)), number(v, "ack", uint32(0))
	h.Window, h.Urgent = number(v, "window", h.Window), number(v, "urgent", uint16(0))
	h.options = get(v, "options", []byte(nil))
	h.dataOffset, h.sum = given[uint8](v, "data_offset"), given[uint16](v, "checksum")
	return h
}

func newTCP(src, dst uint16, flags flow.TCPFlags) *tcp {
	return &tcp{flags: flags, TCP: layers.TCP{SrcPort: layers.TCPPort(src),
		DstPort: layers.TCPPort(dst), Window: 65535}}
}

// udp goes to the port of the tunnel that follows it.
func (f *filler) udp(v values, behind []part) *udp {
	dst := f.dstPort
	if len(behind) > 0 && tunnelPorts[behind[0].kind] != 0 {
		dst = tunnelPorts[behind[0].kind]
	}
	h := newUDP(number(v, "src", f.srcPort), number(v, "dst", dst))
	h.length, h.sum = given[uint16](v, "length"), given[uint16](v, "checksum")
	return h
}

func newUDP(src, dst uint16) *udp {
	return &udp{UDP: layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}}
}

func isICMPError(typ uint8) bool {
	return typ >= 3 && typ <= 5 || typ == 11 || typ == 12
}

func isICMPv6Error(typ uint8) bool { return typ >= 1 && typ <= 4 }

// icmp makes both kinds of ICMP header. Headers behind an error are of the packet it is about,
// which went the other way.
func (f *filler) icmp(v values, request uint8, isError func(uint8) bool) *icmp {
	h := &icmp{typ: number(v, "type", request), code: number(v, "code", uint8(0)),
		sum: given[uint16](v, "checksum")}
	if isError(h.typ) {
		f.src, f.dst, f.srcPort, f.dstPort = f.dst, f.src, f.dstPort, f.srcPort
	} else {
		h.rest = echoRest(1, f.id)
	}
	for _, word := range []string{"mtu", "rest"} {
		if v.has(word) {
			binary.BigEndian.PutUint32(h.rest[:], number(v, word, uint32(0)))
		}
	}
	if v.has("id") {
		binary.BigEndian.PutUint16(h.rest[:], number(v, "id", uint16(0)))
	}
	if v.has("seq") {
		binary.BigEndian.PutUint16(h.rest[2:], number(v, "seq", uint16(0)))
	}
	return h
}

// echoRest is the second word of an echo request or reply.
func echoRest(id, sequence uint16) (rest [4]byte) {
	binary.BigEndian.PutUint16(rest[:], id)
	binary.BigEndian.PutUint16(rest[2:], sequence)
	return rest
}
