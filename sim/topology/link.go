package topology

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// linkMessage is the fixed part of a link request.
func linkMessage(index int, flags, change uint32) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index, m.Flags, m.Change = int32(index), flags, change
	return m
}

// linkAttributes are what links are made with.
func linkAttributes(i *spec.Interface) []nl.NetlinkRequestData {
	all := nameAndMTU(i)
	// Those without an Ethernet header have no such address; the others are not made with one.
	if i.Kind.L3() || i.Kind == spec.IPVLAN || i.Kind == spec.Netkit {
		return all
	}
	return append(all, nl.NewRtAttr(unix.IFLA_ADDRESS, i.MAC[:]))
}

func nameAndMTU(i *spec.Interface) []nl.NetlinkRequestData {
	return []nl.NetlinkRequestData{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(i.Name)),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(i.MTU))),
	}
}

func mtuRequest(i *spec.Interface) request {
	return change(unix.RTM_NEWLINK, linkMessage(i.Index, 0, 0),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(i.MTU))))
}

// oneQueue keeps a device from having a queue for each processor, which costs memory and makes
// the order of packets depend on where they were sent from.
func oneQueue() []nl.NetlinkRequestData {
	return []nl.NetlinkRequestData{
		nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1)),
		nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1)),
	}
}

// linkRequest is a request for a link of a kind.
func linkRequest(i *spec.Interface, kind string, extra, data []nl.NetlinkRequestData) request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	inner := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	for _, d := range data {
		inner.AddChild(d)
	}
	parts := []nl.NetlinkRequestData{linkMessage(i.Index, 0, 0)}
	parts = append(append(parts, linkAttributes(i)...), extra...)
	return create(unix.RTM_NEWLINK, append(parts, info)...)
}

// vethRequest makes a pair of which one end is here and the other in the namespace peerNS: both
// are made in place, with their index, which cannot be changed later.
func vethRequest(here, there *spec.Interface, peerNS int) request {
	peer := nl.NewRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(linkMessage(there.Index, 0, 0))
	for _, part := range append(linkAttributes(there), oneQueue()...) {
		peer.AddChild(part)
	}
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(peerNS)))
	return linkRequest(here, "veth", oneQueue(), []nl.NetlinkRequestData{peer})
}

// links makes all links, both ends where they belong.
func (n *Network) links() error {
	for _, l := range n.topology.Links {
		if err := n.link(l); err != nil {
			return fmt.Errorf("link %s - %s: %w", l.A, l.B, err)
		}
	}
	for _, h := range n.order {
		if err := h.conn.flush(); err != nil {
			return unsupported("veth", err)
		}
	}
	return nil
}

func (n *Network) link(l spec.Link) error {
	for _, p := range []spec.Port{l.A, l.B} {
		h := n.hosts[p.Host]
		i := h.spec.Interface(p.Interface)
		if i.Kind != spec.Tun && !l.Wire {
			continue
		}
		fd, err := n.openTun(h, i)
		if err != nil {
			return err
		}
		h.wires[p.Interface] = fd
	}
	a, b := n.hosts[l.A.Host], n.hosts[l.B.Host]
	from, to := a.spec.Interface(l.A.Interface), b.spec.Interface(l.B.Interface)
	if to.Kind == spec.Netkit {
		a, b, from, to = b, a, to, from
	}
	_, wire := a.wires[from.Name]
	switch {
	case wire:
	case from.Kind == spec.Netkit:
		a.conn.queue("pair", netkitRequest(from, to, int(b.ns)))
		if err := a.conn.flush(); err != nil {
			return unsupported("netkit", err)
		}
		a.queueMAC(from)
		b.queueMAC(to)
	default:
		a.conn.queue("link "+l.A.String()+" - "+l.B.String(), vethRequest(from, to, int(b.ns)))
	}
	return nil
}

// stackLinks makes the bridges and VLAN interfaces of the host.
func (h *host) stackLinks(bridges []spec.Bridge) error {
	quiet := []nl.NetlinkRequestData{
		nl.NewRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0)),
		nl.NewRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0)),
	}
	for _, b := range bridges {
		if i := h.spec.Interface(b.Name); b.Host == h.spec.Name {
			h.conn.queue("bridge "+b.Name, linkRequest(i, "bridge", nil, quiet))
		}
	}
	if err := h.conn.flush(); err != nil {
		return unsupported("bridge", err)
	}
	for _, i := range h.belowFirst() {
		if i.Parent != "" {
			h.conn.queue("VLAN interface "+i.Name, h.vlanRequest(&i))
		}
	}
	if err := h.conn.flush(); err != nil {
		return unsupported("vlan", err)
	}
	for _, b := range bridges {
		if b.Host != h.spec.Name {
			continue
		}
		for _, p := range b.Ports {
			h.queuePort(&b, h.spec.Interface(p))
		}
		// With every port the kernel takes the ports' least MTU, until one is set.
		h.conn.queue("MTU of bridge "+b.Name, mtuRequest(h.spec.Interface(b.Name)))
	}
	return h.conn.flush()
}

// queuePort makes an interface a port of a bridge.
func (h *host) queuePort(b *spec.Bridge, i *spec.Interface) {
	h.conn.queue(fmt.Sprintf("port %s of bridge %s", i.Name, b.Name), change(unix.RTM_NEWLINK,
		linkMessage(i.Index, 0, 0), nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(b.Index)))))
}

func (h *host) vlanRequest(i *spec.Interface) request {
	below := nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(h.spec.Interface(i.Parent).Index)))
	protocol := uint16(unix.ETH_P_8021Q)
	if i.Service {
		protocol = unix.ETH_P_8021AD
	}
	return linkRequest(i, "vlan", []nl.NetlinkRequestData{below}, []nl.NetlinkRequestData{
		nl.NewRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(i.VLAN)),
		nl.NewRtAttr(nl.IFLA_VLAN_PROTOCOL, bigEndian16(protocol)),
	})
}

// quietFlags are set, and the flag MULTICAST is cleared, on every interface: see the package's
// documentation. Both happen in the request that takes it up, and before it is up.
const quietFlags = unix.IFF_UP | unix.IFF_NOARP

func upRequest(index int) request {
	return change(unix.RTM_NEWLINK,
		linkMessage(index, quietFlags, quietFlags|unix.IFF_MULTICAST))
}

// loIndex is the index of the loopback interface in every namespace.
const loIndex = 1

// queueUp takes all interfaces up, those below others first.
func (h *host) queueUp() {
	h.conn.queue("take lo up", change(unix.RTM_NEWLINK,
		linkMessage(loIndex, unix.IFF_UP, unix.IFF_UP)))
	for _, i := range h.belowFirst() {
		h.conn.queue("take "+i.Name+" up", upRequest(i.Index))
	}
}

// belowFirst lists the host's interfaces, those that others stand on before those others.
func (h *host) belowFirst() []spec.Interface {
	order := slices.Clone(h.spec.Interfaces)
	slices.SortStableFunc(order, func(a, b spec.Interface) int {
		return len(a.Parent) - len(b.Parent)
	})
	return order
}
