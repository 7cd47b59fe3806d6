package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Kind is what an interface is.
type Kind string

// The kinds of interfaces; the words are those of scenario files.
const (
	Cable     Kind = ""          // one end of a link
	Tun       Kind = "tun"       // one end of a link, without an Ethernet header
	BridgeDev Kind = "bridge"    // a bridge over interfaces of its host
	VLANDev   Kind = "vlan"      // by its name: "eth0.7"
	VXLAN     Kind = "vxlan"     // tunnels to another host
	Geneve    Kind = "geneve"    //
	GRE       Kind = "gre"       //
	IPIP      Kind = "ipip"      //
	WireGuard Kind = "wireguard" //
	Bond      Kind = "bond"      // several interfaces as one
	MACVLAN   Kind = "macvlan"   // another address on an interface
	IPVLAN    Kind = "ipvlan"    // several hosts with one hardware address
	Dummy     Kind = "dummy"     // leads nowhere
	Netkit    Kind = "netkit"    // the primary end of a link that is a netkit pair
)

// L3 tells whether frames of such an interface begin with the IP header.
func (k Kind) L3() bool {
	return k == Tun || k == GRE || k == IPIP || k == WireGuard
}

// linked tells whether such an interface is an end of a link.
func (k Kind) linked() bool { return k == Cable || k == Tun || k == Netkit }

// Tunnel is what an interface of a tunnel's kind has beside the rest.
type Tunnel struct {
	// Local is the host's own address on the way to Remote; derived.
	Local, Remote netip.Addr
	// ID is the network identifier of VXLAN and Geneve, the key of GRE (0: none).
	ID uint32
	// Port is the UDP port; 0 for tunnels without one.
	Port uint16
}

// Bonding is what a bond has beside the rest.
type Bonding struct {
	Mode    string   // active-backup, balance-rr, balance-xor
	Members []string // interfaces of the host; the first one is the active one, while it is up
}

// tunnelKind is how tunnels of a kind differ.
type tunnelKind struct {
	id       string // the key that its ID has in files; "" if there is none
	most     uint64 // the largest ID
	port     uint16 // the UDP port, when the file has none
	overhead int    // bytes of the headers around a packet, beside the outer IP header
}

// tunnelKindOf knows the tunnels: RFC 7348, RFC 8926, RFC 2784 and 2890, RFC 2003, and
// WireGuard's paper with its padding left out.
var tunnelKindOf = map[Kind]tunnelKind{
	VXLAN:     {"id", 1<<24 - 1, 4789, 8 + 8 + 14},
	Geneve:    {"id", 1<<24 - 1, 6081, 8 + 8 + 14},
	GRE:       {"key", 1<<32 - 1, 0, 4},
	IPIP:      {"", 0, 0, 0},
	WireGuard: {"", 0, 51820, 8 + 32},
}

// autoNames are devices that the kernel makes by itself in every namespace where such tunnels
// are known.
var autoNames = []string{"gre0", "gretap0", "tunl0", "erspan0", "sit0"}

// rawDevice is what makes an interface one of another kind, as the file has it.
type rawDevice struct {
	at     *node // of the key that says the kind; nil: none does
	kind   Kind
	tunnel Tunnel
	remote *node
	mode   string
	names  []placed[string] // of members
	lower  placed[Port]     // of macvlan and ipvlan; the host is "" when it is the same
}

// deviceFields are the keys of an interface that say its kind.
func deviceFields() []field[rawInterface] {
	on := func(k Kind, doc string) field[rawInterface] {
		return deviceField(k, doc, boolean(), func(*rawDevice, bool) {})
	}
	upon := func(k Kind, doc string) field[rawInterface] {
		return deviceField(k, doc, keepPlace(lowerValue), func(d *rawDevice, v placed[Port]) {
			d.lower = v
		})
	}
	fields := []field[rawInterface]{
		on(Tun, "Makes this end of a link one without Ethernet headers; the other end must be one, too."),
		on(Netkit, "Makes the link of this interface a netkit pair, of which this is the primary end."),
		on(Dummy, "Makes this an interface that leads nowhere, for addresses of the host's own."),
		deviceField(Bond, "Makes this interface one of several: {mode: active-backup, members: [eth0, eth1]}.",
			bondObject.value(), func(d *rawDevice, v rawDevice) { d.mode, d.names = v.mode, v.names }),
		upon(MACVLAN, "Puts this interface on another one, of this host or of another, with a hardware "+
			"address of its own."),
		upon(IPVLAN, "Puts this interface on another one, of this host or of another, with the same "+
			"hardware address."),
	}
	for _, k := range []Kind{VXLAN, Geneve, GRE, IPIP, WireGuard} {
		fields = append(fields, deviceField(k, "Makes this interface a tunnel to another host: "+
			tunnelExample(k)+".", tunnelObject(k).value(), func(d *rawDevice, v rawDevice) {
			d.tunnel, d.remote = v.tunnel, v.remote
		}))
	}
	return fields
}

func tunnelExample(k Kind) string {
	if id := tunnelKindOf[k].id; id != "" {
		return "{remote: 10.0.0.2, " + id + ": 7}"
	}
	return "{remote: 10.0.0.2}"
}

// deviceField is a key that says the kind of an interface; an interface has one of them.
func deviceField[V any](k Kind, doc string, v value[V], store func(*rawDevice, V)) field[rawInterface] {
	name := string(k)
	return field[rawInterface]{name: name, doc: doc, schema: v.schema,
		read: func(l *list, n *node, i *rawInterface) {
			got, ok := v.read(l, n)
			if !ok {
				return
			}
			if i.device.at != nil || i.isBridge {
				l.add(n, "the interface is of another kind already", "an interface is of one kind")
				return
			}
			i.device.at, i.device.kind = n, k
			store(&i.device, got)
		}}
}

var lowerValue = match("an interface, or one of another host", "eth0",
	`^(`+hostName+`/)?`+interfaceName+`$`, func(s string) (Port, error) {
		if host, name, ok := strings.Cut(s, "/"); ok {
			return Port{host, name}, nil
		}
		return Port{Interface: s}, nil
	})

var bondObject = object[rawDevice]{
	what: "a bond",
	fields: []field[rawDevice]{
		put("mode", "How packets are shared out.", choice("active-backup", "balance-rr", "balance-xor"),
			func(d *rawDevice, v string) { d.mode = v }).must(),
		put("members", "The interfaces; those that the host does not list are made.",
			listOf("members", keepPlace(nameValue), 1, MaxInterfaces),
			func(d *rawDevice, v []placed[string]) { d.names = v }).must(),
	},
}

var remoteValue = match("an address", "10.0.0.2", `^`+addressPattern+`$`,
	func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return a, fmt.Errorf("%s is no address", s)
		}
		return a, checkHostAddress(a)
	})

func tunnelObject(k Kind) object[rawDevice] {
	kind := tunnelKindOf[k]
	o := object[rawDevice]{
		what: "a tunnel",
		fields: []field[rawDevice]{
			put("remote", "Address of the tunnel's other end.", keepPlace(remoteValue),
				func(d *rawDevice, v placed[netip.Addr]) { d.tunnel.Remote, d.remote = v.v, v.at }).must(),
		},
	}
	if kind.id != "" {
		o.fields = append(o.fields, put(kind.id, "What tells the tunnel from others between the two hosts.",
			number[uint32](0, kind.most), func(d *rawDevice, v uint32) { d.tunnel.ID = v }))
	}
	if kind.port != 0 {
		o.fields = append(o.fields, put("port", fmt.Sprintf("The UDP port, %d by default.", kind.port),
			number[uint16](1, 65535), func(d *rawDevice, v uint16) { d.tunnel.Port = v }))
	}
	return o
}

// kind is what the interface is.
func (i *rawInterface) kind() Kind {
	switch _, _, isVLAN := vlanName(i.name); {
	case i.isBridge:
		return BridgeDev
	case i.device.at != nil:
		return i.device.kind
	case isVLAN:
		return VLANDev
	}
	return Cable
}

// devices checks what interfaces of other kinds stand on.
func (b *builder) devices() {
	for _, h := range b.raw.hosts {
		for _, i := range h.interfaces {
			if i.device.at == nil {
				continue
			}
			switch {
			case strings.ContainsRune(i.name, '.'):
				b.add(i.at, fmt.Sprintf("%q is the name of a VLAN interface", i.name), "name it without a point")
			case slices.Contains(autoNames, i.name):
				b.add(i.at, fmt.Sprintf("the kernel makes a %q of its own", i.name), "number it from 1 on")
			}
			b.lower(h, i)
			b.members(h, i)
		}
	}
}

// lower checks the interface that another one stands on.
func (b *builder) lower(h *rawHost, i *rawInterface) {
	d := &i.device
	if d.lower.at == nil {
		return
	}
	if d.lower.v.Host == "" {
		d.lower.v.Host = h.name
	}
	if i.kind() == IPVLAN && !h.forward && h.stack.v != "kernel" {
		b.add(i.at, "an ipvlan gets what is for addresses that the kernel knows", "add stack: kernel")
		return
	}
	_, below, ok := b.port(d.lower.at, d.lower.v)
	if !ok {
		return
	}
	if k := below.kind(); k != Cable && k != Netkit && k != Bond && k != VLANDev && k != Dummy {
		b.add(d.lower.at, fmt.Sprintf("%q cannot stand on %q, which is of kind %s", i.name, d.lower.v, k),
			"name an end of a link, a bond or a VLAN interface")
	}
}

// members checks the members of a bond.
func (b *builder) members(h *rawHost, bond *rawInterface) {
	for _, m := range bond.device.names {
		i := h.find(m.v)
		switch {
		case i == nil:
			b.add(m.at, fmt.Sprintf("host %q has no interface %q", h.name, m.v),
				suggest(m.v, h.interfaceNames()))
		case i.kind() != Cable:
			b.add(m.at, fmt.Sprintf("%q is of kind %s and cannot be a member of a bond", m.v, i.kind()), "")
		case i.master != "":
			b.add(m.at, fmt.Sprintf("%q is a member of %s already", m.v, i.master), "")
		case len(i.addresses) > 0:
			b.add(i.addresses[0].at, fmt.Sprintf("%q is a member of bond %s", m.v, bond.name),
				"give the address to the bond")
		default:
			i.master = bond.name
		}
	}
}

// fill completes an interface of another kind: what it stands on gives it its MTU and its
// hardware address, as the kernel does it.
func (b *builder) fill(h *rawHost, out *Host, n int) {
	i, o := h.interfaces[n], &out.Interfaces[n]
	o.Kind = i.kind()
	d := &i.device
	switch {
	case o.Kind == Bond:
		o.Bond = &Bonding{Mode: d.mode}
		for _, m := range d.names {
			o.Bond.Members = append(o.Bond.Members, m.v)
			member := out.Interface(m.v)
			member.MAC, member.Master = o.MAC, o.Name
			if !i.mtuGiven {
				o.MTU = min(o.MTU, member.MTU)
			}
			member.MTU = o.MTU
		}
	case d.lower.at != nil:
		o.On = d.lower.v
	case d.remote != nil:
		tunnel := d.tunnel
		if tunnel.Port == 0 {
			tunnel.Port = tunnelKindOf[o.Kind].port
		}
		o.Tunnel = &tunnel
	}
}

// upper gives interfaces that stand on one of another host its MTU and, for ipvlan, its address.
func (b *builder) upper() {
	for x := range b.out.Hosts {
		for y := range b.out.Hosts[x].Interfaces {
			o, raw := &b.out.Hosts[x].Interfaces[y], b.raw.hosts[x].interfaces[y]
			if o.On.Host == "" {
				continue
			}
			below := b.out.Host(o.On.Host).Interface(o.On.Interface)
			if !raw.mtuGiven {
				o.MTU = below.MTU
			}
			if o.Kind == IPVLAN {
				o.MAC = below.MAC
			}
		}
	}
}

// tunnels finds the own address of each tunnel, and checks that its other end leads back.
func (b *builder) tunnels() {
	n := newNetwork(&b.out)
	b.each(func(h *rawHost, host *Host, i *rawInterface, o *Interface) {
		t := o.Tunnel
		if t == nil {
			return
		}
		if _, known := n.owner(host, t.Remote); !known {
			b.add(i.device.remote, fmt.Sprintf("no host has the address %s", t.Remote), "")
			return
		}
		if len(b.out.Owners(t.Remote)) > 1 {
			b.add(i.device.remote, fmt.Sprintf("several hosts have the address %s", t.Remote), "ends of tunnels have addresses of their own")
			return
		}
		out, _ := n.lookup(host, t.Remote)
		if out == nil {
			b.add(i.device.remote, fmt.Sprintf("host %q has no way to %s", h.name, t.Remote),
				"tunnels need a network in common, or routes in the file")
			return
		}
		if !b.carries(i, host) {
			return
		}
		t.Local = ofFamily(out.Addresses, t.Remote.Is6())[0].Addr()
		if !i.mtuGiven {
			o.MTU = out.MTU - tunnelKindOf[o.Kind].overhead - outerHeader(t.Remote)
			if t.ID != 0 && o.Kind == GRE {
				o.MTU -= 4
			}
		}
	})
	if len(b.errs) > 0 {
		return
	}
	b.each(func(_ *rawHost, host *Host, i *rawInterface, o *Interface) {
		if o.Tunnel != nil && b.out.OtherEnd(o) == (Port{}) {
			s, _ := n.owner(host, o.Tunnel.Remote)
			b.add(i.device.at, fmt.Sprintf("host %q has no such tunnel back to %s", s.host.Name,
				o.Tunnel.Local), fmt.Sprintf("add %s: {remote: %s} there", o.Kind, o.Tunnel.Local))
		}
	})
}

// carries checks that a tunnel can go over its remote's family, and carry its own addresses.
func (b *builder) carries(i *rawInterface, host *Host) bool {
	k, v6 := i.kind(), i.device.tunnel.Remote.Is6()
	before := len(b.errs)
	switch {
	case v6 && (k == GRE || k == IPIP):
		b.add(i.device.remote, fmt.Sprintf("%s goes over IPv4 alone", k), "give an IPv4 address")
	case v6 && !host.Stack:
		b.add(i.device.remote, "a tunnel over IPv6 needs the kernel's stack", "add stack: kernel")
	}
	for _, a := range i.addresses {
		if k == IPIP && a.v.Addr().Is6() {
			b.add(a.at, "ipip carries IPv4 alone", "use gre")
		}
	}
	return len(b.errs) == before
}

// outerHeader is the size of the IP header of an address's family.
func outerHeader(a netip.Addr) int {
	if a.Is6() {
		return 40
	}
	return 20
}

// each calls a function with every interface as the file has it and as it will be.
func (b *builder) each(yield func(*rawHost, *Host, *rawInterface, *Interface)) {
	for x := range b.out.Hosts {
		for y := range b.out.Hosts[x].Interfaces {
			yield(b.raw.hosts[x], &b.out.Hosts[x], b.raw.hosts[x].interfaces[y],
				&b.out.Hosts[x].Interfaces[y])
		}
	}
}

// OtherEnd is the interface at the other end of a tunnel; the zero Port if there is none.
func (t *Topology) OtherEnd(i *Interface) Port {
	for h := range t.Hosts {
		for x := range t.Hosts[h].Interfaces {
			o := &t.Hosts[h].Interfaces[x]
			if o.Kind == i.Kind && o.Tunnel != nil && o.Tunnel.ID == i.Tunnel.ID &&
				o.Tunnel.Port == i.Tunnel.Port && o.Tunnel.Local == i.Tunnel.Remote &&
				o.Tunnel.Remote == i.Tunnel.Local {
				return Port{t.Hosts[h].Name, o.Name}
			}
		}
	}
	return Port{}
}
