package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// What is derived when the file does not say it.
const (
	defaultMTU = 1500
	firstIndex = 10
	minIPv6MTU = 1280 // RFC 8200, section 5; below it the kernel turns IPv6 off
)

// builder turns the file's topology into the checked one.
type builder struct {
	*list
	raw    *rawTopology
	out    Topology
	linked map[Port]*node // ports that have a link, and where
}

// build checks the topology and derives what the file leaves out. It stops at the first stage
// that finds a mistake: the next would only repeat it.
func (t *rawTopology) build(l *list) Topology {
	b := &builder{list: l, raw: t, linked: map[Port]*node{}}
	stages := []func(){b.hosts, b.bridges, b.vlans, b.devices, b.links, b.indexes, b.upper,
		b.islands, b.addresses, b.tunnels, b.routes, b.nat}
	for _, stage := range stages {
		stage()
		if len(l.errs) > 0 {
			break
		}
	}
	return b.out
}

func (b *builder) hosts() {
	if len(b.raw.hosts) == 0 {
		b.add(b.raw.at, "the topology has no hosts",
			"write client: {eth0: [10.0.0.1/24]}")
	}
	for _, h := range b.raw.hosts {
		out := Host{Name: h.name, Forward: h.forward, Stack: h.forward || h.stack.v == "kernel",
			Sysctls: h.sysctls}
		if h.forward && h.stack.v == "none" {
			b.add(h.stack.at, "a router needs the kernel's stack", "leave stack out")
		}
		if len(h.interfaces) == 0 {
			b.add(h.at, "the host has no interface", "write eth0: [10.0.0.1/24]")
		}
		h.declarePorts()
		for _, r := range h.routes {
			out.Routes = append(out.Routes, r.v)
		}
		b.out.Hosts = append(b.out.Hosts, out)
	}
}

// declarePorts makes the ports of bridges and the members of bonds that the file does not list
// as interfaces; they come right behind.
func (h *rawHost) declarePorts() {
	var all []*rawInterface
	known := map[string]bool{}
	for _, i := range h.interfaces {
		known[i.name] = true
	}
	for _, i := range h.interfaces {
		all = append(all, i)
		for _, p := range append(slices.Clone(i.bridge), i.device.names...) {
			if _, _, isVLAN := vlanName(p.v); !known[p.v] && !isVLAN {
				known[p.v] = true
				all = append(all, &rawInterface{at: p.at, name: p.v})
			}
		}
	}
	h.interfaces = all
}

func (h *rawHost) find(name string) *rawInterface {
	for _, i := range h.interfaces {
		if i.name == name {
			return i
		}
	}
	return nil
}

func (h *rawHost) interfaceNames() []string {
	names := make([]string, len(h.interfaces))
	for i, v := range h.interfaces {
		names[i] = v.name
	}
	return names
}

// bridges checks the ports of bridges.
func (b *builder) bridges() {
	for _, h := range b.raw.hosts {
		taken := map[string]string{}
		for _, i := range h.interfaces {
			for _, p := range i.bridge {
				b.bridgePort(h, i, p, taken)
			}
		}
	}
}

func (b *builder) bridgePort(h *rawHost, bridge *rawInterface, p placed[string],
	taken map[string]string) {
	port := h.find(p.v)
	switch {
	case port == nil:
		b.add(p.at, fmt.Sprintf("host %q has no interface %q", h.name, p.v),
			suggest(p.v, h.interfaceNames()))
	case port.isBridge:
		b.add(p.at, fmt.Sprintf("%q is a bridge itself", p.v), "")
	case port.kind().L3():
		b.add(p.at, fmt.Sprintf("%q is of kind %s, which carries no Ethernet", p.v, port.kind()), "")
	case taken[p.v] != "":
		b.add(p.at, fmt.Sprintf("%q is a port of bridge %s already", p.v, taken[p.v]), "")
	case len(port.addresses) > 0:
		b.add(port.addresses[0].at, fmt.Sprintf("%q is a port of bridge %s", p.v, bridge.name),
			"give the address to the bridge")
	}
	taken[p.v] = bridge.name
}

// vlans checks that VLAN interfaces stand on an interface.
func (b *builder) vlans() {
	for _, h := range b.raw.hosts {
		for _, i := range h.interfaces {
			if !slices.Contains([]byte(i.name), '.') {
				continue
			}
			parent, _, ok := vlanName(i.name)
			switch {
			case !ok:
				b.add(i.at, fmt.Sprintf("%q has no VLAN id from 1 to 4094", i.name),
					"eth0.7 is VLAN 7 on eth0")
			case h.find(parent) == nil:
				b.add(i.at, fmt.Sprintf("host %q has no interface %q below it", h.name, parent),
					"add "+parent+": []")
			case h.find(parent).kind().L3():
				b.add(i.at, fmt.Sprintf("%q is of kind %s, which carries no Ethernet", parent,
					h.find(parent).kind()), "")
			case i.isBridge:
				b.add(i.at, "a bridge is no VLAN interface", "name it br0")
			}
		}
	}
}

// links checks both ends of each link.
func (b *builder) links() {
	for _, link := range b.raw.links {
		if link.v.A == link.v.B {
			b.add(link.at, fmt.Sprintf("%q is linked to itself", link.v.A), "")
			continue
		}
		if !b.linkEnd(link.at, link.v.A) || !b.linkEnd(link.at, link.v.B) {
			continue
		}
		b.linkKinds(link)
		b.out.Links = append(b.out.Links, link.v)
	}
	for _, h := range b.raw.hosts {
		for _, i := range h.interfaces {
			if b.linked[Port{h.name, i.name}] == nil && i.kind() == Cable && len(b.errs) == 0 {
				b.add(i.at, fmt.Sprintf("%q has no link", h.name+"/"+i.name),
					fmt.Sprintf("add to links: [%s/%s - ...]", h.name, i.name))
			}
		}
	}
}

// linkKinds checks that the ends of a link fit together.
func (b *builder) linkKinds(link placed[Link]) {
	switch x, y := b.interfaceAt(link.v.A).kind(), b.interfaceAt(link.v.B).kind(); {
	case (x == Tun) != (y == Tun):
		b.add(link.at, fmt.Sprintf("of %q and %q only one is a tun", link.v.A, link.v.B),
			"both ends of a link have Ethernet headers, or none")
	case x == Netkit && y == Netkit:
		b.add(link.at, "a netkit pair has one primary end", "say netkit: true at one end alone")
	}
}

func (b *builder) linkEnd(at *node, p Port) bool {
	_, i, ok := b.port(at, p)
	if !ok {
		return false
	}
	switch {
	case i.isBridge:
		b.add(at, fmt.Sprintf("%q is a bridge and takes no link", p), "link one of its ports")
	case i.kind() == VLANDev:
		b.add(at, fmt.Sprintf("%q is a VLAN interface and takes no link", p),
			"link the interface below it")
	case !i.kind().linked():
		b.add(at, fmt.Sprintf("%q is of kind %s and takes no link", p, i.kind()), "")
	case b.linked[p] != nil:
		b.add(at, fmt.Sprintf("%q has a link already, in line %d", p, b.linked[p].line), "")
	default:
		b.linked[p] = at
		return true
	}
	return false
}

// port looks a port up and complains when there is none.
func (b *builder) port(at *node, p Port) (*rawHost, *rawInterface, bool) {
	var names []string
	for _, h := range b.raw.hosts {
		names = append(names, h.name)
		if h.name != p.Host {
			continue
		}
		if i := h.find(p.Interface); i != nil {
			return h, i, true
		}
		b.addOnce(at, fmt.Sprintf("host %q has no interface %q", p.Host, p.Interface),
			suggest(p.Interface, h.interfaceNames()))
		return nil, nil, false
	}
	b.addOnce(at, fmt.Sprintf("there is no host %q", p.Host), suggest(p.Host, names))
	return nil, nil, false
}

// indexes fills in interfaces, MAC addresses, interface indexes and MTUs.
func (b *builder) indexes() {
	b.linkMTUs()
	fixed := map[int]bool{}
	for _, h := range b.raw.hosts {
		own := map[int]string{}
		for _, i := range h.interfaces {
			if i.index.v == 0 {
				continue
			}
			if other := own[i.index.v]; other != "" {
				b.add(i.index.at, fmt.Sprintf("%s has index %d already", other, i.index.v), "")
			}
			own[i.index.v], fixed[i.index.v] = i.name, true
		}
	}
	next := firstIndex
	for hostNumber, h := range b.raw.hosts {
		out := &b.out.Hosts[hostNumber]
		for number, i := range h.interfaces {
			for i.index.v == 0 && fixed[next] {
				next++
			}
			if i.index.v == 0 {
				i.index.v = next
				next++
			}
			if i.mac == ([6]byte{}) {
				i.mac = [6]byte{0x02, 0, 0, 0, byte(hostNumber + 1), byte(number + 1)}
			}
			if i.mtu == 0 {
				i.mtu = defaultMTU
			}
			out.Interfaces = append(out.Interfaces, Interface{Name: i.name, Index: i.index.v,
				MAC: i.mac, MTU: i.mtu, Addresses: bare(i.addresses)})
		}
		b.derived(h, out)
	}
}

// linkMTUs gives the other end of a link the MTU that the file gives one end: a larger frame
// would be lost between them without a word.
func (b *builder) linkMTUs() {
	for _, l := range b.out.Links {
		one, other := b.interfaceAt(l.A), b.interfaceAt(l.B)
		if one.mtu == 0 {
			one, other = other, one
		}
		if other.mtu == 0 {
			other.mtu = one.mtu
		}
	}
}

func (b *builder) interfaceAt(p Port) *rawInterface {
	for _, h := range b.raw.hosts {
		if h.name == p.Host {
			return h.find(p.Interface)
		}
	}
	return nil
}

// derived completes what follows from other interfaces of the host: VLAN interfaces have the
// MAC address and MTU of their parent, as the kernel does it; bridges list their ports.
func (b *builder) derived(h *rawHost, out *Host) {
	for n, i := range h.interfaces {
		if i.isBridge {
			br := Bridge{Host: h.name, Name: i.name, Index: i.index.v, MAC: i.mac}
			for _, p := range i.bridge {
				br.Ports = append(br.Ports, p.v)
				if !i.mtuGiven { // as the kernel does it
					out.Interfaces[n].MTU = min(out.Interfaces[n].MTU, out.Interface(p.v).MTU)
				}
			}
			b.out.Bridges = append(b.out.Bridges, br)
		}
		b.fill(h, out, n)
		parent, id, isVLAN := vlanName(i.name)
		if !isVLAN {
			continue
		}
		below := out.Interface(parent)
		below.Service = below.Kind == VLANDev
		o := &out.Interfaces[n]
		o.Parent, o.VLAN = parent, id
		if !i.macGiven {
			o.MAC = below.MAC
		}
		if !i.mtuGiven {
			o.MTU = below.MTU
		}
		if o.MTU > below.MTU {
			b.add(i.at, fmt.Sprintf("the MTU %d is more than the %d of %s", o.MTU, below.MTU, parent), "")
		}
	}
}

func bare(from []placed[netip.Prefix]) []netip.Prefix {
	out := make([]netip.Prefix, len(from))
	for i, p := range from {
		out[i] = p.v
	}
	return out
}

// addresses checks that no address is given twice on an island, and that MTUs suit them.
func (b *builder) addresses() {
	seen := map[place]string{}
	for x, h := range b.raw.hosts {
		for _, i := range h.interfaces {
			for _, a := range i.addresses {
				port, here := h.name+"/"+i.name, place{b.out.Hosts[x].Island, a.v.Addr()}
				if other := seen[here]; other != "" {
					b.add(a.at, fmt.Sprintf("%s has the address %s already", other, a.v.Addr()),
						"only hosts that no link joins can have the same address")
				}
				seen[here] = port
				if a.v.Addr().Is6() && i.mtu < minIPv6MTU {
					b.add(a.at, fmt.Sprintf("IPv6 needs an MTU of %d, %s has %d", minIPv6MTU, port, i.mtu), "")
				}
			}
		}
	}
}
