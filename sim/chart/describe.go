package chart

import (
	"fmt"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/agent/flow"
)

// conversation is one direction of a TCP connection.
type conversation struct {
	src, dst string // address and port
}

// side is what is known of one direction.
type side struct {
	first uint32 // sequence number that the others are told relative to
	next  uint32 // behind what was sent
}

// view puts frames into words. It remembers what it has seen in the step.
type view struct {
	sides map[conversation]*side
	ports string // of the last frame, in either direction
}

// describe is a frame in a few words, and what is special about it; first is what it begins with.
func (v *view) describe(frame []byte, first gopacket.LayerType) (text string, marks []string) {
	p := gopacket.NewPacket(frame, first, gopacket.NoCopy)
	d := words{view: v}
	for _, l := range p.Layers() {
		d.layer(l)
	}
	if p.ErrorLayer() != nil && !d.done {
		d.add("malformed")
	}
	if len(d.parts) == 0 {
		d.add(fmt.Sprintf("frame of %d bytes", len(frame)))
	}
	return strings.Join(d.parts, " "), d.marks
}

// words collects the description of one frame.
type words struct {
	*view
	parts, marks []string
	src, dst     string // of the IP header passed last
	inner        bool   // inside a tunnel
	done         bool   // the rest is payload
}

func (d *words) add(s string) { d.parts = append(d.parts, s) }

func (d *words) mark(s string) { d.marks = append(d.marks, s) }

func (d *words) layer(l gopacket.Layer) {
	if d.done {
		return
	}
	switch l := l.(type) {
	case *layers.Dot1Q:
		d.add(fmt.Sprintf("[vlan %d]", l.VLANIdentifier))
	case *layers.IPv4:
		d.ip(l.SrcIP.String(), l.DstIP.String())
		if l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 {
			d.fragment(int(l.FragOffset)*8, len(l.Payload), l.Flags&layers.IPv4MoreFragments != 0)
		}
	case *layers.IPv6:
		d.ip(l.SrcIP.String(), l.DstIP.String())
	case *layers.IPv6Fragment:
		d.fragment(int(l.FragmentOffset)*8, len(l.Payload), l.MoreFragments)
	case *layers.TCP:
		d.tcp(l)
	case *layers.UDP:
		d.udp(l)
	case *layers.VXLAN:
		d.tunnel(fmt.Sprintf("VXLAN %d:", l.VNI))
	case *layers.Geneve:
		d.tunnel(fmt.Sprintf("Geneve %d:", l.VNI))
	case *layers.GRE:
		d.tunnel("GRE:")
	default:
		d.other(l)
	}
}

// other describes the layers after which nothing is said of what follows.
func (d *words) other(l gopacket.Layer) {
	switch l := l.(type) {
	case *layers.ICMPv4:
		d.add("ICMP " + icmpWords(l.TypeCode.String(), l.Id, l.Seq, l.TypeCode.Type() == 8 || l.TypeCode.Type() == 0))
	case *layers.ICMPv6:
		id, seq := uint16(0), uint16(0)
		if len(l.Payload) >= 4 {
			id = uint16(l.Payload[0])<<8 | uint16(l.Payload[1])
			seq = uint16(l.Payload[2])<<8 | uint16(l.Payload[3])
		}
		d.add("ICMPv6 " + icmpWords(l.TypeCode.String(), id, seq, l.TypeCode.Type() == 128 || l.TypeCode.Type() == 129))
	case *layers.ARP:
		d.add(fmt.Sprintf("ARP operation %d", l.Operation))
	case *layers.SCTP:
		d.add(fmt.Sprintf("SCTP%s", d.between(uint16(l.SrcPort), uint16(l.DstPort))))
		return // its chunks follow
	case gopacket.ErrorLayer, *gopacket.Payload, *gopacket.Fragment, *layers.Ethernet:
		return
	default:
		d.add(l.LayerType().String())
		if strings.HasPrefix(l.LayerType().String(), "SCTP") || strings.HasPrefix(l.LayerType().String(), "IPv6") {
			return
		}
	}
	d.done = true
}

func icmpWords(what string, id, seq uint16, echo bool) string {
	if echo {
		return fmt.Sprintf("%s id=%d seq=%d", what, id, seq)
	}
	return what
}

// ip notes the addresses; a second header is inside a tunnel.
func (d *words) ip(src, dst string) {
	if d.src != "" && !d.inner {
		d.tunnel("IP in IP:")
	}
	d.src, d.dst = src, dst
}

func (d *words) tunnel(name string) {
	d.add(name)
	if !d.inner {
		d.mark("tunnel")
	}
	d.inner = true
}

func (d *words) fragment(offset, size int, more bool) {
	last := ", last"
	if more {
		last = ""
	}
	d.add(fmt.Sprintf("fragment %d-%d%s", offset, offset+size, last))
}

// between is the ports, when they are not those of the frame before.
func (d *words) between(src, dst uint16) string {
	here, back := fmt.Sprintf("%d>%d", src, dst), fmt.Sprintf("%d>%d", dst, src)
	if d.ports == here || d.ports == back {
		return ""
	}
	d.ports = here
	return fmt.Sprintf(" %d→%d", src, dst)
}

func (d *words) udp(l *layers.UDP) {
	d.add(fmt.Sprintf("UDP%s %d B", d.between(uint16(l.SrcPort), uint16(l.DstPort)), len(l.Payload)))
	switch l.NextLayerType() {
	case layers.LayerTypeVXLAN, layers.LayerTypeGeneve:
	default:
		d.done = true
	}
}

// tcp tells flags, payload, and sequence numbers relative to the first of each side.
func (d *words) tcp(l *layers.TCP) {
	d.done = true
	me := conversation{fmt.Sprint(d.src, " ", l.SrcPort), fmt.Sprint(d.dst, " ", l.DstPort)}
	if d.sides == nil {
		d.sides = map[conversation]*side{}
	}
	s := d.sides[me]
	if s == nil || l.SYN && l.Seq != s.first { // the first, or a new connection
		s = &side{first: l.Seq, next: l.Seq}
		d.sides[me] = s
	}
	end := l.Seq + uint32(len(l.Payload))
	if l.SYN {
		end++
	}
	if l.FIN {
		end++
	}
	switch {
	case end != l.Seq && int32(end-s.next) <= 0:
		d.mark("retransmission")
	case end != l.Seq && int32(l.Seq-s.next) > 0:
		d.mark("gap before")
	}
	if int32(end-s.next) > 0 {
		s.next = end
	}
	text := fmt.Sprintf("TCP%s %s seq=%d", d.between(uint16(l.SrcPort), uint16(l.DstPort)),
		tcpFlags(l), l.Seq-s.first)
	if peer := d.sides[conversation{me.dst, me.src}]; l.ACK && peer != nil {
		text += fmt.Sprintf(" ack=%d", l.Ack-peer.first)
	}
	if len(l.Payload) > 0 {
		text += fmt.Sprintf(", %d B", len(l.Payload))
	}
	d.add(text)
}

// tcpFlags names the flags as scripts do.
func tcpFlags(l *layers.TCP) string {
	var f flow.TCPFlags
	for flag, set := range map[flow.TCPFlags]bool{flow.FIN: l.FIN, flow.SYN: l.SYN, flow.RST: l.RST,
		flow.PSH: l.PSH, flow.ACK: l.ACK, flow.URG: l.URG, flow.ECE: l.ECE, flow.CWR: l.CWR} {
		if set {
			f |= flag
		}
	}
	if f == 0 {
		return "none"
	}
	return strings.ReplaceAll(f.String(), "|", ",")
}
