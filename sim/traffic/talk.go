package traffic

import (
	"net/netip"

	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/sim/spec"
)

// talk is a conversation between two endpoints: what all its frames have in common.
type talk struct {
	b     *Builder
	out   *sink
	vlans []uint16
	ways  [2]way // of the client, of the server
	ports [2]uint16
	far   *spec.Pair // what the server sees, where addresses are translated on the way
	id    uint16     // of the last IPv4 packet
	// together leaves out the wait behind each frame.
	together bool
}

// talk prepares a conversation. The server's way is looked up when it is needed: a server that
// no host is cannot answer, but can be sent to.
func (b *Builder) talk(client, server spec.Endpoint, far *spec.Pair, vlans []uint16, out *sink) (
	*talk, error) {
	t := &talk{b: b, out: out, vlans: vlans, far: far, ports: [2]uint16{client.Port, server.Port}}
	var err error
	if t.ways[0], err = b.net.way(client, server); err != nil {
		return nil, err
	}
	if far != nil {
		t.ways[1], err = b.net.way(far.Server, far.Client)
		return t, err
	}
	if server.Host == "" {
		return t, nil
	}
	client.Addr, server.Addr = t.ways[0].from, t.ways[0].to
	t.ways[1], err = b.net.way(server, client)
	return t, err
}

// canSend reports whether a side has a host to send from.
func (t *talk) canSend(side int) bool { return t.ways[side].port.Host != "" }

// v6 tells the conversation's family.
func (t *talk) v6() bool { return is6(t.ways[0].to) }

// overhead is the size of the headers before the transport's.
func (t *talk) overhead() int {
	if t.v6() {
		return 14 + 4*len(t.vlans) + 40
	}
	return 14 + 4*len(t.vlans) + 20
}

// ends are the source and destination of what a side sends.
func (t *talk) ends(side int) (src, dst netip.AddrPort) {
	switch {
	case side == 0:
		// The other side's view is the same connection, whatever its own first address is.
		return netip.AddrPortFrom(t.ways[0].from, t.ports[0]), netip.AddrPortFrom(t.ways[0].to, t.ports[1])
	case t.far != nil:
		return netip.AddrPortFrom(t.far.Server.Addr, t.far.Server.Port),
			netip.AddrPortFrom(t.far.Client.Addr, t.far.Client.Port)
	}
	dst, src = t.ends(0)
	return src, dst
}

// frame builds one frame of a side: link and IP headers, and then what it is given.
func (t *talk) frame(side int, rest ...header) ([]byte, error) {
	src, dst := t.ends(side)
	return t.framed(side, src.Addr(), dst.Addr(), rest...)
}

// framed builds a frame on the way of a side.
func (t *talk) framed(side int, src, dst netip.Addr, rest ...header) ([]byte, error) {
	w := t.ways[side]
	a := &assembled{}
	a.add(&ethernet{src: w.src, dst: w.dst}, whole)
	for i, id := range t.vlans {
		tpid := uint16(layers.EthernetTypeDot1Q)
		if i < len(t.vlans)-1 {
			tpid = uint16(layers.EthernetTypeQinQ)
		}
		a.add(&vlan{tpid: tpid, tag: layers.Dot1Q{VLANIdentifier: id}}, whole)
	}
	if t.v6() {
		a.add(newIPv6(src, dst), whole)
	} else {
		t.id++
		a.add(newIPv4(src, dst, t.id), whole)
	}
	for _, h := range rest {
		a.add(h, whole)
	}
	data, err := t.b.build(a)
	if err != nil {
		return nil, err
	}
	return data, fits(data, w)
}

// say builds a frame and hands it over.
func (t *talk) say(side int, rest ...header) ([]byte, error) {
	data, err := t.frame(side, rest...)
	if err != nil {
		return nil, err
	}
	sent, err := onWire(data, t.ways[side])
	if err != nil {
		return nil, err
	}
	p := t.ways[side].port
	return data, t.out.put(Frame{p.Host, p.Interface, sent, !t.together})
}
