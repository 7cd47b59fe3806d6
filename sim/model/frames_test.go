package model

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

// The hooks of the tests: a host with one interface, and a router with two.
var (
	in     = flow.Hook{Namespace: "server", Interface: "eth0", Direction: flow.Ingress}
	out    = flow.Hook{Namespace: "server", Interface: "eth0", Direction: flow.Egress}
	router = flow.Hook{Namespace: "router", Interface: "eth1", Direction: flow.Ingress}
	uplink = flow.Hook{Namespace: "router", Interface: "eth2", Direction: flow.Egress}
	fifth  = flow.Hook{Namespace: "router", Interface: "eth3", Direction: flow.Egress}
)

const second = int64(1e9)

// fresh is a model with the agent's default of picking connections up in mid-stream.
func fresh(cfg Config) *Model {
	cfg.MidStream = true
	return New(cfg)
}

// between is a pair of endpoints and what is between the Ethernet header and the transport.
type between struct {
	src, dst netip.AddrPort
	tags     []uint16
}

var (
	v4 = between{src: netip.MustParseAddrPort("10.0.0.1:40000"),
		dst: netip.MustParseAddrPort("10.0.0.2:80")}
	v6 = between{src: netip.MustParseAddrPort("[2001:db8::1]:40000"),
		dst: netip.MustParseAddrPort("[2001:db8::2]:80")}
)

func (b between) back() between { return between{b.dst, b.src, b.tags} }

// frame puts the layers into an Ethernet frame with lengths and checksums filled in.
func (b between) frame(proto layers.IPProtocol, upper ...gopacket.SerializableLayer) []byte {
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1},
		DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.NetworkLayer
	var all []gopacket.SerializableLayer
	if b.src.Addr().Is4() {
		l := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: proto,
			SrcIP: b.src.Addr().AsSlice(), DstIP: b.dst.Addr().AsSlice()}
		ip, all = l, append(all, l)
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto,
			SrcIP: b.src.Addr().AsSlice(), DstIP: b.dst.Addr().AsSlice()}
		ip, all = l, append(all, l)
	}
	below := []gopacket.SerializableLayer{eth}
	for _, id := range b.tags {
		below = append(below, &layers.Dot1Q{VLANIdentifier: id, Type: eth.EthernetType})
	}
	for i := range b.tags {
		if i == 0 {
			eth.EthernetType = layers.EthernetTypeDot1Q
		} else {
			below[i].(*layers.Dot1Q).Type = layers.EthernetTypeDot1Q
		}
	}
	for _, l := range upper {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(ip); err != nil {
				panic(err)
			}
		}
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	all = append(append(below, all...), upper...)
	if err := gopacket.SerializeLayers(buf, opts, all...); err != nil {
		panic(err)
	}
	return unpadded(buf.Bytes(), 14+4*len(b.tags))
}

// unpadded takes away what gopacket adds to short frames, so that tests can choose the length.
func unpadded(frame []byte, link int) []byte {
	size := int(binary.BigEndian.Uint16(frame[link+2:]))
	if frame[link]>>4 == 6 {
		size = 40 + int(binary.BigEndian.Uint16(frame[link+4:]))
	}
	return frame[:link+size]
}

// tcp is a segment. Its payload is zeros.
func (b between) tcp(flags flow.TCPFlags, seq, ack uint32, payload int) []byte {
	t := &layers.TCP{SrcPort: layers.TCPPort(b.src.Port()), DstPort: layers.TCPPort(b.dst.Port()),
		Seq: seq, Ack: ack, Window: 1000,
		FIN: flags&flow.FIN != 0, SYN: flags&flow.SYN != 0, RST: flags&flow.RST != 0,
		PSH: flags&flow.PSH != 0, ACK: flags&flow.ACK != 0, URG: flags&flow.URG != 0,
		ECE: flags&flow.ECE != 0, CWR: flags&flow.CWR != 0}
	return b.frame(layers.IPProtocolTCP, t, gopacket.Payload(make([]byte, payload)))
}

func (b between) udp(payload int) []byte {
	u := &layers.UDP{SrcPort: layers.UDPPort(b.src.Port()), DstPort: layers.UDPPort(b.dst.Port())}
	return b.frame(layers.IPProtocolUDP, u, gopacket.Payload(make([]byte, payload)))
}

// sctp is a packet of SCTP with one chunk of so many bytes, whose value begins with tag.
func (b between) sctp(chunk uint8, tag uint32, size int) []byte {
	header := binary.BigEndian.AppendUint16(nil, b.src.Port())
	header = binary.BigEndian.AppendUint16(header, b.dst.Port())
	header = append(header, make([]byte, 8)...) // verification tag and checksum
	body := binary.BigEndian.AppendUint32([]byte{chunk, 0, 0, byte(size)}, tag)
	body = append(body, make([]byte, size)...)[:size]
	return b.frame(layers.IPProtocolSCTP, gopacket.Payload(append(header, body...)))
}

// icmp is a message of ICMP or ICMPv6, by the family, with 4 bytes of rest before the payload.
func (b between) icmp(typ, code uint8, rest [4]byte, payload []byte) []byte {
	proto := layers.IPProtocolICMPv4
	if b.src.Addr().Is6() {
		proto = layers.IPProtocolICMPv6
	}
	msg := append([]byte{typ, code, 0, 0}, rest[:]...)
	return b.frame(proto, gopacket.Payload(append(msg, payload...)))
}

// echo is an echo request, or the reply of one.
func (b between) echo(id uint16, reply bool) []byte {
	typ := uint8(8)
	switch v6 := b.src.Addr().Is6(); {
	case v6 && reply:
		typ = 129
	case v6:
		typ = 128
	case reply:
		typ = 0
	}
	return b.icmp(typ, 0, [4]byte{byte(id >> 8), byte(id), 0, 1}, make([]byte, 8))
}

// ip returns the packet inside an untagged frame.
func ip(frame []byte) []byte { return frame[14:] }

// cut gives an IPv4 or IPv6 frame another length, with the length in its header.
func cut(frame []byte, size int) []byte {
	frame = append([]byte(nil), frame[:size]...)
	if frame[14]>>4 == 4 {
		binary.BigEndian.PutUint16(frame[16:], uint16(size-14))
	} else {
		binary.BigEndian.PutUint16(frame[18:], uint16(size-14-40))
	}
	return frame
}

// patch returns a copy of the frame with bytes replaced.
func patch(frame []byte, at int, bytes ...byte) []byte {
	frame = append([]byte(nil), frame...)
	copy(frame[at:], bytes)
	return frame
}

// ext is the frame of an IPv6 packet with its body behind the given extension headers; each is
// given by its kind and its bytes, of which the first is filled in.
func ext(b between, last uint8, body []byte, headers ...[]byte) []byte {
	var kinds []uint8
	var all []byte
	for _, h := range headers {
		kinds = append(kinds, h[0])
	}
	kinds = append(kinds, last)
	for i, h := range headers {
		all = append(all, kinds[i+1])
		all = append(all, h[1:]...)
	}
	return b.frame(layers.IPProtocol(kinds[0]), gopacket.Payload(append(all, body...)))
}

// books checks that nothing was lost on the way: the first law, at each hook and in total.
func books(t testing.TB, m *Model) {
	t.Helper()
	var accounted, reported Count
	for hook, c := range m.Counters() {
		require.Equal(t, c.Seen, c.Outcomes(), "outcomes at %s", hook)
		accounted.add(c.Accounted)
	}
	for _, f := range m.Flows() {
		require.NotZero(t, f.Packets, "flow without packets: %+v", f)
		reported.add(Count{f.Packets, f.Bytes})
	}
	require.Equal(t, accounted, reported, "flows against accounted")
}
