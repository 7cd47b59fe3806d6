package traffic

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/sim/spec"
)

// assembled is a frame under construction.
type assembled struct {
	headers  []header
	truncate []int // per header: bytes from its begin on that stay, at most
}

func (a *assembled) add(h header, truncate int) {
	a.headers = append(a.headers, h)
	a.truncate = append(a.truncate, truncate)
}

// part is a layer as given in the file, or put in because it was left out.
type part struct {
	kind string
	v    values
}

// packet makes the frames of a packet step.
func (b *Builder) packet(p *spec.Packet, out *sink) error {
	parts, err := partsOf(p)
	if err != nil {
		return err
	}
	w, err := b.packetWay(p, parts[0].v)
	if err != nil {
		return err
	}
	for i := range max(1, p.Count) {
		f := filler{way: w, src: w.from, dst: w.to, id: uint16(i + 1),
			srcPort: p.From.Port, dstPort: p.To.Port}
		a, err := f.fill(parts)
		if err != nil {
			return err
		}
		if err := b.send(w, a, pieces{p.Fragments, uint32(i + 1)}, out); err != nil {
			return err
		}
	}
	out.end()
	return nil
}

// send builds a frame, checks that it can be sent and hands it over, in pieces if so wanted.
func (b *Builder) send(w way, a *assembled, p pieces, out *sink) error {
	data, err := b.build(a)
	if err != nil {
		return err
	}
	frames, err := p.of(data)
	if err != nil {
		return err
	}
	for _, data := range frames {
		if err := fits(data, w); err != nil {
			return err
		}
		if data, err = onWire(data, w); err != nil {
			return err
		}
		if err := out.put(Frame{w.port.Host, w.port.Interface, data, true}); err != nil {
			return err
		}
	}
	return nil
}

// partsOf reads the layers and puts in the ethernet and IP headers that were left out.
func partsOf(p *spec.Packet) ([]part, error) {
	var parts []part
	for _, l := range p.Layers {
		v, err := parseLayer(l)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{l.Kind, v})
	}
	if parts[0].kind != "ethernet" {
		parts = slices.Insert(parts, 0, part{"ethernet", values{}})
	}
	isLink := func(p part) bool { return p.kind == "ethernet" || p.kind == "vlan" }
	at := slices.IndexFunc(parts, func(p part) bool { return !isLink(p) })
	if at < 0 {
		return parts, nil
	}
	ip := "ipv4"
	if is6(p.From.Addr) || is6(p.To.Addr) {
		ip = "ipv6"
	}
	switch parts[at].kind {
	case "ipv6ext", "icmpv6":
		parts = slices.Insert(parts, at, part{"ipv6", values{}})
	case "tcp", "udp", "icmp", "sctp", "gre":
		parts = slices.Insert(parts, at, part{ip, values{}})
	}
	return parts, nil
}

// packetWay decides where the packet is sent from. Addresses in the IP headers do not count:
// they may be ones that nobody routes. With an interface named by the ethernet layer nothing
// has to be reachable, and with a destination MAC there nobody has to have the next hop.
func (b *Builder) packetWay(p *spec.Packet, eth values) (way, error) {
	if name := get(eth, "interface", ""); name != "" {
		return b.net.wayOver(spec.Port{Host: p.From.Host, Interface: name}, p.From, p.To)
	}
	if !p.To.Addr.IsValid() && p.To.Host == "" {
		return b.net.firstLink(p.From)
	}
	w, err := b.net.way(p.From, p.To)
	if eth.has("dst") && w.port.Interface != "" {
		return w, nil
	}
	return w, err
}

// build serializes the headers, the last one first, and cuts what is to be truncated.
func (b *Builder) build(a *assembled) ([]byte, error) {
	places := make([]place, len(a.headers))
	var src, dst netip.Addr
	for i, h := range a.headers {
		places[i].src, places[i].dst = src, dst
		switch ip := h.(type) {
		case *ipv4:
			src, dst = ip.src, ip.dst
		case *ipv6:
			src, dst = ip.src, ip.dst
		}
		if i > 0 {
			places[i-1].next = h
		}
	}
	if err := b.buf.Clear(); err != nil {
		return nil, fmt.Errorf("clear buffer: %w", err)
	}
	behind := make([]int, len(a.headers)) // bytes from the header's begin to the frame's end
	for i := len(a.headers) - 1; i >= 0; i-- {
		if err := a.headers[i].prepend(b.buf, places[i]); err != nil {
			return nil, err
		}
		behind[i] = len(b.buf.Bytes())
	}
	frame := b.buf.Bytes()
	size := len(frame)
	for i, n := range a.truncate {
		size = min(size, len(frame)-behind[i]+n)
	}
	return slices.Clone(frame[:size]), nil
}

// onWire is the frame as its interface sends it: without the Ethernet header where there is none.
func onWire(frame []byte, w way) ([]byte, error) {
	if !w.l3 {
		return frame, nil
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800, 0x86dd:
		return frame[14:], nil
	}
	return nil, fmt.Errorf("%s has no Ethernet header, so a packet begins with its IP header there",
		w.port)
}

// fits refuses what the kernel would refuse to send, with a better message. The tag of one VLAN
// may come on top of the MTU.
func fits(frame []byte, w way) error {
	most := 14 + w.mtu
	if len(frame) >= 14 && binary.BigEndian.Uint16(frame[12:]) == 0x8100 {
		most += 4
	}
	switch {
	case len(frame) < 14:
		return fmt.Errorf("a frame of %d bytes is shorter than its Ethernet header, "+
			"which no interface sends", len(frame))
	case len(frame) > most:
		return fmt.Errorf("a frame of %d bytes does not fit through %s: with its MTU of %d, "+
			"%d bytes do", len(frame), w.port, w.mtu, most)
	}
	return nil
}
