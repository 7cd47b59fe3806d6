// Package reach tells which interfaces of a topology a frame passes, from the topology alone.
//
// It follows links, bridges, VLAN interfaces, interfaces upon others, and routers. Where a way
// leads over something else (a bond, a tunnel, an interface without a link, address translation on
// a router), what it returns is marked as incomplete: others may see the frame as well.
package reach

import (
	"encoding/binary"
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// Map is a topology to follow frames on.
type Map struct {
	topology *spec.Topology
	peers    map[spec.Port]spec.Port
	bridges  map[spec.Port]*spec.Bridge // by port
}

// New makes a Map of a topology, which must not change afterwards.
func New(t *spec.Topology) *Map {
	m := &Map{topology: t, peers: map[spec.Port]spec.Port{}, bridges: map[spec.Port]*spec.Bridge{}}
	for _, l := range t.Links {
		m.peers[l.A], m.peers[l.B] = l.B, l.A
	}
	for i := range t.Bridges {
		b := &t.Bridges[i]
		for _, p := range b.Ports {
			m.bridges[spec.Port{Host: b.Host, Interface: p}] = b
		}
	}
	return m
}

// Way is where a frame passes.
type Way struct {
	// Hooks are those that see it, in their order where there is one way only.
	Hooks []flow.Hook
	// Ends are the hosts that take it in and do not send it on.
	Ends []string
	// ToAll tells that it has a group's link address.
	ToAll bool
	// Complete tells that no other hook can see it.
	Complete bool
}

// Frame follows a frame that is sent over an interface.
func (m *Map) Frame(from spec.Port, frame []byte) Way {
	w := &walk{Map: m, seen: map[flow.Hook]bool{}}
	if i := m.iface(from); i != nil && i.Kind.L3() {
		w.Complete = true
		w.readIP(frame)
		w.send(from, i.MAC, nil)
		return w.Way
	}
	if len(frame) < 14 {
		return w.Way
	}
	w.Complete, w.ToAll = true, frame[0]&1 == 1
	w.send(from, [6]byte(frame[:6]), w.read(frame))
	return w.Way
}

// read takes the IP destination and the time to live out of a frame, and returns its VLAN ids.
func (w *walk) read(frame []byte) (vlans []uint16) {
	at := 12
	for at+4 <= len(frame) {
		kind := binary.BigEndian.Uint16(frame[at:])
		if kind != 0x8100 && kind != 0x88a8 {
			break
		}
		vlans = append(vlans, binary.BigEndian.Uint16(frame[at+2:])&0xfff)
		at += 4
	}
	if at+2 > len(frame) {
		return vlans
	}
	w.size = len(frame) - at - 2
	if kind := binary.BigEndian.Uint16(frame[at:]); kind == 0x0800 || kind == 0x86dd {
		w.readIP(frame[at+2:])
	}
	return vlans
}

// readIP takes the destination and the time to live out of an IP packet.
func (w *walk) readIP(ip []byte) {
	w.size = len(ip)
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		w.to, w.ttl = netip.AddrFrom4([4]byte(ip[16:20])), ip[8]
	case len(ip) >= 40 && ip[0]>>4 == 6:
		w.to, w.ttl = netip.AddrFrom16([16]byte(ip[24:40])), ip[7]
	}
}

// walk is the state of following one frame.
type walk struct {
	*Map
	Way
	to   netip.Addr // invalid: not IP
	ttl  uint8      // what is left of it
	size int        // of the IP packet
	seen map[flow.Hook]bool
}

// pass notes a hook; false when the frame was there before.
func (w *walk) pass(p spec.Port, d flow.Direction) bool {
	h := flow.Hook{Namespace: p.Host, Interface: p.Interface, Direction: d}
	if w.seen[h] {
		return false
	}
	w.seen[h] = true
	w.Hooks = append(w.Hooks, h)
	return true
}

// send follows a frame out of an interface.
func (w *walk) send(p spec.Port, mac [6]byte, vlans []uint16) {
	if !w.pass(p, flow.Egress) {
		return
	}
	i := w.iface(p)
	if i == nil {
		w.Complete = false
		return
	}
	if i.Parent != "" {
		parent := spec.Port{Host: p.Host, Interface: i.Parent}
		w.send(parent, mac, append([]uint16{i.VLAN}, vlans...))
		return
	}
	if b := w.bridge(p); b != nil {
		w.forward(b, "", mac, vlans)
		return
	}
	switch {
	case i.On.Host != "":
		w.sendUpper(i, mac, vlans)
		return
	case i.Bond != nil || i.Tunnel != nil:
		w.sendDevice(p.Host, i, mac, vlans)
		return
	case i.Kind == spec.Dummy: // nobody is there
		return
	}
	peer, ok := w.peers[p]
	if !ok {
		w.Complete = false
		return
	}
	w.arrive(peer, mac, vlans)
}

// arrive follows a frame into an interface.
func (w *walk) arrive(p spec.Port, mac [6]byte, vlans []uint16) {
	if !w.pass(p, flow.Ingress) {
		return
	}
	if b := w.bridges[p]; b != nil {
		own := spec.Port{Host: b.Host, Interface: b.Name}
		if mac == b.MAC || mac[0]&1 == 1 {
			w.take(own, vlans)
		}
		if mac != b.MAC {
			w.forward(b, p.Interface, mac, vlans)
		}
		return
	}
	if to, ok := w.upper(p, mac); ok {
		w.take(to, vlans)
		return
	}
	i := w.iface(p)
	switch {
	case i == nil:
	case i.Master != "":
		w.take(spec.Port{Host: p.Host, Interface: i.Master}, vlans)
	case i.Kind.L3() || i.MAC == mac || mac[0]&1 == 1:
		w.receive(p, vlans)
	}
}

// take is arrive for an interface that gets what it does from another one.
func (w *walk) take(p spec.Port, vlans []uint16) {
	if w.pass(p, flow.Ingress) {
		w.receive(p, vlans)
	}
}

// receive hands the frame to the VLAN interface of its tag, or to the host.
func (w *walk) receive(p spec.Port, vlans []uint16) {
	host := w.topology.Host(p.Host)
	if len(vlans) > 0 {
		for _, i := range host.Interfaces {
			if i.Parent == p.Interface && i.VLAN == vlans[0] {
				w.take(spec.Port{Host: p.Host, Interface: i.Name}, vlans[1:])
				return
			}
		}
	}
	w.deliver(host, vlans)
}

// deliver ends the way, or has a router send the frame on.
func (w *walk) deliver(h *spec.Host, vlans []uint16) {
	owner, _ := w.topology.Owner(h, w.to)
	if !h.Forward || !w.to.IsValid() || len(vlans) > 0 || w.ToAll {
		w.Ends = append(w.Ends, h.Name)
		return
	}
	if owner == h { // for the router itself, or for whom it translates to
		w.Ends, w.Complete = append(w.Ends, h.Name), false
		return
	}
	out, next := w.topology.NextHop(h, w.to)
	_, station := w.topology.Owner(h, next)
	if out == nil || station == nil || w.ttl <= 1 || w.size > out.MTU {
		w.Complete = false // the router sends an error back
		return
	}
	w.ttl--
	w.send(spec.Port{Host: h.Name, Interface: out.Name}, station.MAC, nil)
}

// forward sends a frame over the ports of a bridge behind which its destination is, or over all.
func (w *walk) forward(b *spec.Bridge, in string, mac [6]byte, vlans []uint16) {
	var all, behind []spec.Port
	for _, name := range b.Ports {
		p := spec.Port{Host: b.Host, Interface: name}
		if name == in {
			continue
		}
		all = append(all, p)
		if w.isBehind(p, mac, map[spec.Port]bool{}) {
			behind = append(behind, p)
		}
	}
	if len(behind) > 0 {
		all = behind
	}
	for _, p := range all {
		w.send(p, mac, vlans)
	}
}

// isBehind tells whether a station is reached over a bridge's port.
func (w *walk) isBehind(p spec.Port, mac [6]byte, seen map[spec.Port]bool) bool {
	q, ok := w.peers[p]
	if !ok || seen[q] {
		return false
	}
	seen[q] = true
	if i := w.iface(q); i != nil && i.MAC == mac {
		return true
	}
	b := w.bridges[q]
	if b == nil {
		return false
	}
	if b.MAC == mac {
		return true
	}
	for _, name := range b.Ports {
		next := spec.Port{Host: b.Host, Interface: name}
		if next != q && w.isBehind(next, mac, seen) {
			return true
		}
	}
	return false
}

func (m *Map) iface(p spec.Port) *spec.Interface {
	if h := m.topology.Host(p.Host); h != nil {
		return h.Interface(p.Interface)
	}
	return nil
}

// bridge is the bridge that p is the own interface of.
func (m *Map) bridge(p spec.Port) *spec.Bridge {
	for i := range m.topology.Bridges {
		if b := &m.topology.Bridges[i]; b.Host == p.Host && b.Name == p.Interface {
			return b
		}
	}
	return nil
}
