package spec

import (
	"fmt"
	"net/netip"
)

// maxHops ends the walk along routes that form a loop.
const maxHops = 32

// Host returns the host of that name, or nil.
func (t *Topology) Host(name string) *Host {
	for i := range t.Hosts {
		if t.Hosts[i].Name == name {
			return &t.Hosts[i]
		}
	}
	return nil
}

// Owner returns the host on near's island and the interface that have the address, or nils.
func (t *Topology) Owner(near *Host, a netip.Addr) (*Host, *Interface) {
	for h := range t.Hosts {
		host := &t.Hosts[h]
		if host.Island != near.Island {
			continue
		}
		for i := range host.Interfaces {
			for _, p := range host.Interfaces[i].Addresses {
				if p.Addr() == a {
					return host, &host.Interfaces[i]
				}
			}
		}
	}
	return nil, nil
}

// Owners returns the hosts that have the address: at most one on each island.
func (t *Topology) Owners(a netip.Addr) (all []*Host) {
	for h := range t.Hosts {
		if ownedBy(&t.Hosts[h], a) {
			all = append(all, &t.Hosts[h])
		}
	}
	return all
}

// Peer is the other end of a port's link; false when it has none.
func (t *Topology) Peer(p Port) (Port, bool) {
	for _, l := range t.Links {
		switch p {
		case l.A:
			return l.B, true
		case l.B:
			return l.A, true
		}
	}
	return Port{}, false
}

// Interface returns the interface of that name, or nil.
func (h *Host) Interface(name string) *Interface {
	for i := range h.Interfaces {
		if h.Interfaces[i].Name == name {
			return &h.Interfaces[i]
		}
	}
	return nil
}

// Has tells whether the host has an address of the family, 4 or 6.
func (h *Host) Has(family int) bool {
	for _, i := range h.Interfaces {
		if len(ofFamily(i.Addresses, family == 6)) > 0 {
			return true
		}
	}
	return false
}

// station is an interface with an address on a segment.
type station struct {
	host   *Host
	iface  *Interface
	prefix netip.Prefix
}

// network knows which interfaces reach each other without a router: those of one segment.
type network struct {
	topology *Topology
	above    map[Port]Port // union-find: towards the segment's root
	owners   map[place]station
}

// place is an address on an island.
type place struct {
	island int
	addr   netip.Addr
}

func newNetwork(t *Topology) *network {
	n := &network{topology: t, above: map[Port]Port{}, owners: map[place]station{}}
	for _, l := range t.Links {
		n.join(l.A, l.B)
	}
	for _, b := range t.Bridges {
		for _, p := range b.Ports {
			n.join(Port{b.Host, b.Name}, Port{b.Host, p})
		}
	}
	n.joinDevices()
	for n.joinVLANs() {
	}
	for h := range t.Hosts {
		host := &t.Hosts[h]
		for i := range host.Interfaces {
			for _, p := range host.Interfaces[i].Addresses {
				n.owners[place{host.Island, p.Addr()}] = station{host, &host.Interfaces[i], p}
			}
		}
	}
	return n
}

// owner is who has the address on the host's island.
func (n *network) owner(near *Host, a netip.Addr) (station, bool) {
	s, ok := n.owners[place{near.Island, a}]
	return s, ok
}

// root stands for the segment of a port.
func (n *network) root(p Port) Port {
	for {
		up, ok := n.above[p]
		if !ok {
			return p
		}
		p = up
	}
}

func (n *network) join(a, b Port) bool {
	a, b = n.root(a), n.root(b)
	if a != b {
		n.above[b] = a
	}
	return a != b
}

// joinDevices joins bonds with their members, what stands on an interface with that, and the two
// ends of tunnels.
func (n *network) joinDevices() {
	for h := range n.topology.Hosts {
		host := &n.topology.Hosts[h]
		for i := range host.Interfaces {
			x := &host.Interfaces[i]
			here := Port{host.Name, x.Name}
			switch {
			case x.Bond != nil:
				for _, m := range x.Bond.Members {
					n.join(here, Port{host.Name, m})
				}
			case x.On.Host != "":
				n.join(x.On, here)
			case x.Tunnel != nil && x.Tunnel.Local.IsValid():
				if far := n.topology.OtherEnd(x); far != (Port{}) {
					n.join(far, here)
				}
			}
		}
	}
}

// joinVLANs joins VLAN interfaces of one id whose parents are on one segment. It is repeated
// while it changes something, because a bridge over VLAN interfaces joins segments in turn.
func (n *network) joinVLANs() bool {
	type tagged struct {
		segment Port
		id      uint16
	}
	first, changed := map[tagged]Port{}, false
	for _, h := range n.topology.Hosts {
		for _, i := range h.Interfaces {
			if i.Parent == "" {
				continue
			}
			key := tagged{n.root(Port{h.Name, i.Parent}), i.VLAN}
			here := Port{h.Name, i.Name}
			if other, ok := first[key]; ok {
				changed = n.join(other, here) || changed
			} else {
				first[key] = here
			}
		}
	}
	return changed
}

func (n *network) same(h1 *Host, i1 *Interface, h2 *Host, i2 *Interface) bool {
	return n.root(Port{h1.Name, i1.Name}) == n.root(Port{h2.Name, i2.Name})
}

// neighbours lists the stations that the host reaches without a router, in the topology's
// order, each with the host's own interface.
func (n *network) neighbours(h *Host, yield func(own *Interface, other station)) {
	for o := range n.topology.Hosts {
		other := &n.topology.Hosts[o]
		if other.Name == h.Name {
			continue
		}
		for i := range other.Interfaces {
			for _, p := range other.Interfaces[i].Addresses {
				s := station{other, &other.Interfaces[i], p}
				if own := n.onLink(h, p.Addr()); own != nil && n.same(h, own, other, s.iface) {
					yield(own, s)
				}
			}
		}
	}
}

// onLink is the host's interface whose network has the address, or nil.
func (n *network) onLink(h *Host, a netip.Addr) *Interface {
	var best *Interface
	bits := -1
	for i := range h.Interfaces {
		for _, p := range h.Interfaces[i].Addresses {
			if p.Contains(a) && p.Bits() > bits {
				best, bits = &h.Interfaces[i], p.Bits()
			}
		}
	}
	return best
}

// lookup is the host's routing decision: the interface and the next hop, which is the
// destination itself when it is on the link. The interface is nil when there is no route.
func (n *network) lookup(h *Host, to netip.Addr) (*Interface, netip.Addr) {
	if i := n.onLink(h, to); i != nil {
		return i, to
	}
	bits, via := -1, netip.Addr{}
	for _, r := range h.Routes {
		if r.To.Contains(to) && r.To.Bits() > bits {
			bits, via = r.To.Bits(), r.Via
		}
	}
	if !via.IsValid() {
		return nil, via
	}
	return n.onLink(h, via), via
}

// walk follows the routes from a host to an address. It returns the first interface on the way
// and, when the way ends before the address, why.
func (n *network) walk(h *Host, to netip.Addr) (first *Interface, why string) {
	if to.IsMulticast() || to == broadcast {
		return n.speaker(h, to), ""
	}
	for range maxHops {
		out, next := n.lookup(h, to)
		if _, owned := n.owner(h, to); !owned && first != nil {
			return first, "" // an address of no host: the way there ends somewhere
		}
		if out == nil {
			return first, fmt.Sprintf("host %q has no route there", h.Name)
		}
		if first == nil {
			first = out
		}
		s, owned := n.owner(h, next)
		switch {
		case !owned && next == to && len(n.topology.Owners(to)) == 0:
			return first, ""
		case !owned || !n.same(h, out, s.host, s.iface):
			return first, fmt.Sprintf("no link joins %s/%s with %s", h.Name, out.Name, next)
		case s.prefix.Addr() == to, ownedBy(s.host, to):
			return first, ""
		case !s.host.Forward:
			return first, fmt.Sprintf("host %q is the next hop and no router", s.host.Name)
		}
		h = s.host
	}
	return first, "the routes form a loop"
}

// speaker is the interface that a host sends to all from: the first with an address of the
// family.
func (n *network) speaker(h *Host, to netip.Addr) *Interface {
	for i := range h.Interfaces {
		if len(ofFamily(h.Interfaces[i].Addresses, to.Is6())) > 0 {
			return &h.Interfaces[i]
		}
	}
	return nil
}

func ownedBy(h *Host, a netip.Addr) bool {
	for _, i := range h.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr() == a {
				return true
			}
		}
	}
	return false
}
