package author

import (
	"bytes"
	"io"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/sim/pcap"
)

// maxFrames bounds a scenario made from a capture: people are to read it.
const maxFrames = 1000

// packet is a frame of a capture, taken apart as far as scenarios need it.
type packet struct {
	number   int // in the capture, from 1
	at       time.Time
	vlans    []layers.Dot1Q
	toAll    bool // a group's link address
	src, dst netip.Addr
	ip       gopacket.NetworkLayer // *layers.IPv4 or *layers.IPv6
	missing  int                   // bytes that the capture has cut off
	kind     layers.EthernetType   // of what is not IP
}

// readCapture reads a capture's packets, and how many it has left unread.
func readCapture(r io.Reader) (packets []*packet, unread int, err error) {
	frames, unread, err := pcap.Read(r, maxFrames)
	for _, f := range frames {
		p := dissect(f.Data)
		p.number, p.at = f.Number, f.At
		packets = append(packets, p)
	}
	return packets, unread, err
}

// dissect takes a frame apart up to its IP header.
func dissect(frame []byte) *packet {
	p := &packet{}
	all := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range all.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			p.toAll = l.DstMAC[0]&1 == 1
			p.kind = l.EthernetType
		case *layers.Dot1Q:
			p.vlans = append(p.vlans, *l)
			p.kind = l.Type
		case *layers.IPv4:
			p.take(l, l.SrcIP, l.DstIP, int(l.Length)-4*int(l.IHL)-len(l.Payload))
			return p
		case *layers.IPv6:
			p.take(l, l.SrcIP, l.DstIP, int(l.Length)-len(l.Payload))
			return p
		default:
			return p
		}
	}
	return p
}

func (p *packet) take(ip gopacket.NetworkLayer, src, dst []byte, missing int) {
	p.ip, p.missing = ip, max(0, missing)
	p.src, _ = netip.AddrFromSlice(src)
	p.dst, _ = netip.AddrFromSlice(dst)
}

// payload is what the IP header carries; the bytes that the capture has cut off are zero.
func (p *packet) payload() []byte {
	var data []byte
	switch ip := p.ip.(type) {
	case *layers.IPv4:
		data = ip.Payload
	case *layers.IPv6:
		data = ip.Payload
	}
	return append(bytes.Clone(data), make([]byte, p.missing)...)
}

// protocol is the number of what the IP header carries.
func (p *packet) protocol() layers.IPProtocol {
	switch ip := p.ip.(type) {
	case *layers.IPv4:
		return ip.Protocol
	case *layers.IPv6:
		return ip.NextHeader
	}
	return 0
}

// fragment tells a part of a packet.
func (p *packet) fragment() bool {
	ip, ok := p.ip.(*layers.IPv4)
	return ok && (ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0)
}

// plain tells that nothing but addresses, protocol and payload matters of the IP header, and that
// the tags are only ids.
func (p *packet) plain() bool {
	for _, v := range p.vlans {
		if v.Priority != 0 || v.DropEligible {
			return false
		}
	}
	ip, ok := p.ip.(*layers.IPv4)
	return !p.fragment() && !p.toAll && len(p.vlans) <= 4 && (!ok || len(ip.Options) == 0)
}

// transport decodes what the IP header carries as one kind of header; nil if it is none.
func transport[L gopacket.DecodingLayer](data []byte, l L) (got L, ok bool) {
	err := l.DecodeFromBytes(data, gopacket.NilDecodeFeedback)
	return l, err == nil
}
