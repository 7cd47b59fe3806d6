package topology

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// queueAddresses gives a host with a stack its addresses, neighbours and routes. A host without
// one gets none: its kernel knows no address and answers nothing. Only what its tunnels need is
// there, for the kernel is to carry them.
func (h *host) queueAddresses() {
	for n := range h.spec.Interfaces {
		if i := &h.spec.Interfaces[n]; h.configured(i) {
			h.queueInterface(i)
			if !h.spec.Stack {
				h.queueRoutes(i.Name)
			}
		}
	}
	if h.spec.Stack {
		h.queueRoutes("")
	}
}

// configured tells whether the kernel knows the interface's addresses.
func (h *host) configured(i *spec.Interface) bool {
	if h.spec.Stack {
		return true
	}
	for n := range h.spec.Interfaces {
		t := h.spec.Interfaces[n].Tunnel
		isLocal := func(p netip.Prefix) bool { return t != nil && p.Addr() == t.Local }
		if slices.ContainsFunc(i.Addresses, isLocal) {
			return true
		}
	}
	return false
}

// queueInterface gives an interface its addresses, and the routes and neighbours on its link.
func (h *host) queueInterface(i *spec.Interface) {
	var networks []netip.Prefix
	for _, a := range i.Addresses {
		h.conn.queue("address "+a.String(), addressRequest(i.Index, a))
		if p := a.Masked(); !a.IsSingleIP() && !slices.Contains(networks, p) {
			networks = append(networks, p)
		}
	}
	for _, p := range networks {
		h.conn.queue("unreachable "+p.String(), routeRequest(p, netip.Addr{}, 0))
	}
	for _, nb := range h.spec.Neighbours {
		if nb.Interface != i.Name {
			continue
		}
		single := netip.PrefixFrom(nb.Addr, nb.Addr.BitLen())
		h.conn.queue("route to "+nb.Addr.String(), routeRequest(single, netip.Addr{}, i.Index))
		if !i.Kind.L3() {
			h.conn.queue("neighbour "+nb.Addr.String(), neighbourRequest(i.Index, nb))
		}
	}
}

// queueRoutes sets the host's routes: all, or those whose next hop is behind one interface.
func (h *host) queueRoutes(only string) {
	for _, r := range h.spec.Routes {
		if only == "" || h.behind(r.Via) == only {
			h.conn.queue("route to "+r.To.String(), routeRequest(r.To, r.Via, 0))
		}
	}
}

// behind is the interface that an address on the link is reached by.
func (h *host) behind(a netip.Addr) string {
	for _, nb := range h.spec.Neighbours {
		if nb.Addr == a {
			return nb.Interface
		}
	}
	return ""
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addressRequest sets an address without the route to its network: queueInterface says why.
func addressRequest(index int, p netip.Prefix) request {
	m := nl.NewIfAddrmsg(family(p.Addr()))
	m.Prefixlen, m.Index = uint8(p.Bits()), uint32(index)
	flags := uint32(unix.IFA_F_NOPREFIXROUTE)
	return replace(unix.RTM_NEWADDR, m,
		nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()),
		nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()),
		nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(flags)))
}

// routeRequest is a route by next hop, or through an interface, or, with neither, an
// unreachable one.
func routeRequest(to netip.Prefix, via netip.Addr, index int) request {
	m := nl.NewRtMsg()
	m.Family, m.Dst_len = uint8(family(to.Addr())), uint8(to.Bits())
	m.Table, m.Protocol = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC
	parts := []nl.NetlinkRequestData{m}
	if to.Bits() > 0 {
		parts = append(parts, nl.NewRtAttr(unix.RTA_DST, to.Addr().AsSlice()))
	}
	switch {
	case via.IsValid():
		m.Scope = unix.RT_SCOPE_UNIVERSE
		parts = append(parts, nl.NewRtAttr(unix.RTA_GATEWAY, via.AsSlice()))
	case index != 0:
		m.Scope = unix.RT_SCOPE_LINK
		parts = append(parts, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	default:
		m.Type, m.Scope = unix.RTN_UNREACHABLE, unix.RT_SCOPE_UNIVERSE
	}
	return replace(unix.RTM_NEWROUTE, parts...)
}

// neighbourMessage is struct ndmsg.
type neighbourMessage struct {
	family uint8
	index  uint32
	state  uint16
}

// Len is the message's size.
func (m *neighbourMessage) Len() int { return unix.SizeofNdMsg }

// Serialize lays the message out as the kernel has it.
func (m *neighbourMessage) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = m.family
	nl.NativeEndian().PutUint32(b[4:], m.index)
	nl.NativeEndian().PutUint16(b[8:], m.state)
	return b
}

func neighbourRequest(index int, n spec.Neighbour) request {
	return replace(unix.RTM_NEWNEIGH,
		&neighbourMessage{uint8(family(n.Addr)), uint32(index), unix.NUD_PERMANENT},
		nl.NewRtAttr(unix.NDA_DST, n.Addr.AsSlice()),
		nl.NewRtAttr(unix.NDA_LLADDR, n.MAC[:]))
}
