package traffic

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/sim/spec"
)

// way is how a host sends to an address: the interface, and the link addresses of the frame.
type way struct {
	port     spec.Port
	l3       bool // frames begin with the IP header
	src, dst [6]byte
	mtu      int
	from, to netip.Addr
}

// network answers who is where on a topology.
type network struct {
	topology *spec.Topology
	hosts    map[string]*spec.Host
	peers    map[spec.Port]spec.Port
	bridges  map[spec.Port]*spec.Bridge // by the port that a bridge has
}

func newNetwork(t *spec.Topology) *network {
	n := &network{topology: t, hosts: map[string]*spec.Host{},
		peers: map[spec.Port]spec.Port{}, bridges: map[spec.Port]*spec.Bridge{}}
	for i := range t.Hosts {
		n.hosts[t.Hosts[i].Name] = &t.Hosts[i]
	}
	for _, l := range t.Links {
		n.peers[l.A], n.peers[l.B] = l.B, l.A
	}
	for i := range t.Bridges {
		b := &t.Bridges[i]
		for _, p := range b.Ports {
			n.bridges[spec.Port{Host: b.Host, Interface: p}] = b
		}
	}
	return n
}

// iface finds an interface. A bridge that the host does not list as an interface has none of
// its addresses, but its MAC.
func (n *network) iface(p spec.Port) *spec.Interface {
	if h := n.hosts[p.Host]; h != nil {
		for i := range h.Interfaces {
			if h.Interfaces[i].Name == p.Interface {
				return &h.Interfaces[i]
			}
		}
	}
	if b := n.bridge(p); b != nil {
		return &spec.Interface{Name: b.Name, Index: b.Index, MAC: b.MAC}
	}
	return nil
}

// bridge returns the bridge that p is the own interface of.
func (n *network) bridge(p spec.Port) *spec.Bridge {
	for i := range n.topology.Bridges {
		if b := &n.topology.Bridges[i]; b.Host == p.Host && b.Name == p.Interface {
			return b
		}
	}
	return nil
}

// way finds how from.Host sends to the endpoint. An endpoint without an address gets the host's
// first address of the other's family.
func (n *network) way(from, to spec.Endpoint) (way, error) {
	w := way{from: n.addressOf(from, to), to: n.addressOf(to, from)}
	host := n.hosts[from.Host]
	switch {
	case from.Host == "":
		return w, fmt.Errorf("%s belongs to no host, so nobody can send from it", from.Addr)
	case host == nil:
		return w, fmt.Errorf("there is no host %q", from.Host)
	case !w.to.IsValid():
		return w, fmt.Errorf("host %q has no address that %s could send to", to.Host, from.Host)
	}
	port, next, err := n.route(host, w.to)
	if err != nil {
		return w, err
	}
	return w, n.finish(&w, port, next, to)
}

// finish fills in what follows from the interface and the next hop's address.
func (n *network) finish(w *way, port spec.Port, next netip.Addr, to spec.Endpoint) error {
	i := n.iface(port)
	w.port, w.l3, w.src, w.mtu = port, i.Kind.L3(), i.MAC, mtu(i)
	if !w.from.IsValid() {
		w.from = firstAddress(i.Addresses, is6(w.to))
	}
	var err error
	w.dst, err = n.linkAddress(port, next, to)
	return err
}

// wayOver is the way through an interface, whether the destination can be reached there or not:
// where it cannot, the frame goes to the only station there, else to all.
func (n *network) wayOver(port spec.Port, from, to spec.Endpoint) (way, error) {
	i := n.iface(port)
	if i == nil {
		return way{}, fmt.Errorf("host %q has no interface %q", port.Host, port.Interface)
	}
	w := way{port: port, l3: i.Kind.L3(), src: i.MAC, dst: broadcast, mtu: mtu(i),
		from: n.addressOf(from, to), to: n.addressOf(to, from)}
	if m, err := n.linkAddress(port, w.to, spec.Endpoint{}); err == nil && w.to.IsValid() {
		w.dst = m
	}
	return w, nil
}

// firstLink is the way of a frame without a destination address: the first link of the host,
// to the only station there, else to all.
func (n *network) firstLink(from spec.Endpoint) (way, error) {
	host := n.hosts[from.Host]
	if host == nil {
		return way{}, fmt.Errorf("there is no host %q", from.Host)
	}
	for i := range host.Interfaces {
		p := spec.Port{Host: host.Name, Interface: host.Interfaces[i].Name}
		if !n.holds(p, from.Addr) {
			continue
		}
		w := way{port: p, src: host.Interfaces[i].MAC, mtu: mtu(&host.Interfaces[i]),
			l3: host.Interfaces[i].Kind.L3(), dst: broadcast, from: from.Addr}
		if s := n.segment(p); len(s) == 1 {
			w.dst = n.iface(s[0]).MAC
		}
		return w, nil
	}
	return way{}, fmt.Errorf("host %s has no link to send on", host.Name)
}

// holds tells whether a frame without a destination can be sent from p: it has the address, or
// there is none to have and it has a link.
func (n *network) holds(p spec.Port, a netip.Addr) bool {
	_, linked := n.peers[p]
	if !a.IsValid() {
		return linked
	}
	return slices.ContainsFunc(n.iface(p).Addresses,
		func(x netip.Prefix) bool { return x.Addr() == a })
}

func mtu(i *spec.Interface) int {
	if i.MTU == 0 {
		return 1500
	}
	return i.MTU
}

func (n *network) addressOf(e, other spec.Endpoint) netip.Addr {
	h := n.hosts[e.Host]
	if e.Addr.IsValid() || h == nil {
		return e.Addr.Unmap()
	}
	v6 := is6(other.Addr)
	for _, i := range h.Interfaces {
		a := firstAddress(i.Addresses, v6)
		if !other.Addr.IsValid() && !a.IsValid() {
			a = firstAddress(i.Addresses, true)
		}
		if a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

func firstAddress(list []netip.Prefix, v6 bool) netip.Addr {
	for _, p := range list {
		if is6(p.Addr()) == v6 {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// route is the host's routing decision: the interface and the next hop. The longest prefix
// wins, an interface's own before a static route of the same length.
func (n *network) route(h *spec.Host, to netip.Addr) (spec.Port, netip.Addr, error) {
	if p, ok := n.toAll(h, to); ok {
		return p, to, nil
	}
	best, out, next := -1, "", to
	for _, i := range h.Interfaces {
		for _, a := range i.Addresses {
			if a.Contains(to) && a.Bits() > best {
				best, out = a.Bits(), i.Name
			}
		}
	}
	for _, r := range h.Routes {
		if !r.To.Contains(to) || r.To.Bits() <= best {
			continue
		}
		via := onLink(h, r.Via)
		if via == "" {
			return spec.Port{}, to, fmt.Errorf("host %s has no link to %s, the next hop to %s",
				h.Name, r.Via, to)
		}
		best, out, next = r.To.Bits(), via, r.Via
	}
	if best < 0 {
		return spec.Port{}, to, fmt.Errorf("host %s has no route to %s", h.Name, to)
	}
	return spec.Port{Host: h.Name, Interface: out}, next, nil
}

// toAll finds the interface for multicast and limited broadcast: the first with an address.
func (n *network) toAll(h *spec.Host, to netip.Addr) (spec.Port, bool) {
	if !to.IsMulticast() && to != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return spec.Port{}, false
	}
	for _, i := range h.Interfaces {
		if firstAddress(i.Addresses, is6(to)).IsValid() {
			return spec.Port{Host: h.Name, Interface: i.Name}, true
		}
	}
	return spec.Port{}, false
}

func onLink(h *spec.Host, a netip.Addr) string {
	for _, i := range h.Interfaces {
		if slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return i.Name
		}
	}
	return ""
}

var broadcast = [6]byte{255, 255, 255, 255, 255, 255}

// linkAddress finds the MAC of the station with the address next on p's segment. An address
// that nobody has is taken to be behind the only other station, where there is only one.
func (n *network) linkAddress(p spec.Port, next netip.Addr, to spec.Endpoint) ([6]byte, error) {
	if m, ok := groupAddress(next, n.iface(p).Addresses); ok {
		return m, nil
	}
	for _, nb := range n.neighbours(p.Host) {
		if nb.Interface == p.Interface && nb.Addr == next {
			return nb.MAC, nil
		}
	}
	stations := n.segment(p)
	for _, s := range stations {
		i := n.iface(s)
		if slices.ContainsFunc(i.Addresses, func(x netip.Prefix) bool { return x.Addr() == next }) {
			return i.MAC, nil
		}
	}
	stations = slices.DeleteFunc(stations, func(s spec.Port) bool { return n.iface(s).Parent != "" })
	if len(stations) == 1 && to.Host == "" {
		return n.iface(stations[0]).MAC, nil
	}
	return [6]byte{}, fmt.Errorf("nobody that %s can reach directly has the address %s", p, next)
}

func (n *network) neighbours(host string) []spec.Neighbour {
	if h := n.hosts[host]; h != nil {
		return h.Neighbours
	}
	return nil
}

// groupAddress maps multicast and broadcast addresses to MACs (RFC 1112, RFC 2464).
func groupAddress(a netip.Addr, own []netip.Prefix) ([6]byte, bool) {
	b := a.AsSlice()
	switch {
	case !a.IsValid():
		return broadcast, false
	case a.Is4() && a.IsMulticast():
		return [6]byte{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}, true
	case a.IsMulticast():
		return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}, true
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return broadcast, true
	}
	isBroadcast := func(p netip.Prefix) bool { return a.Is4() && lastOf(p) == a && p.Bits() < 31 }
	return broadcast, slices.ContainsFunc(own, isBroadcast)
}

// lastOf is the last address of an IPv4 prefix, or no address.
func lastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// segment lists the interfaces that a frame sent from p reaches without a router: over the
// link, and over the bridges on the way with their other ports, in the topology's order.
func (n *network) segment(p spec.Port) []spec.Port {
	for i := n.iface(p); i != nil && i.Parent != ""; i = n.iface(p) {
		p.Interface = i.Parent
	}
	seen := map[spec.Port]bool{p: true}
	var found []spec.Port
	var cross func(from spec.Port)
	flood := func(b *spec.Bridge) {
		for _, name := range b.Ports {
			if q := (spec.Port{Host: b.Host, Interface: name}); !seen[q] {
				seen[q] = true
				cross(q)
			}
		}
	}
	cross = func(from spec.Port) {
		q, ok := n.peers[from]
		if !ok || seen[q] {
			return
		}
		seen[q] = true
		b := n.bridges[q]
		if b == nil {
			found = append(found, n.withVLANs(q)...)
			return
		}
		found = append(found, n.withVLANs(spec.Port{Host: b.Host, Interface: b.Name})...)
		flood(b)
	}
	if b := n.bridge(p); b != nil {
		flood(b)
	} else {
		cross(p)
	}
	return found
}

// withVLANs is the interface and the VLAN interfaces on top of it.
func (n *network) withVLANs(p spec.Port) []spec.Port {
	list := []spec.Port{p}
	if h := n.hosts[p.Host]; h != nil {
		for _, i := range h.Interfaces {
			if i.Parent == p.Interface {
				list = append(list, n.withVLANs(spec.Port{Host: p.Host, Interface: i.Name})...)
			}
		}
	}
	return slices.DeleteFunc(list, func(q spec.Port) bool { return n.iface(q) == nil })
}
