package topology

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

type attributes = []nl.NetlinkRequestData

// stack makes what stands on links: first what needs nothing below it, then VLAN interfaces, then
// what stands on those, of whatever host.
func (n *Network) stack() error {
	for _, h := range n.order {
		if err := n.devices(h); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
		if err := h.stackLinks(n.topology.Bridges); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
	}
	for _, h := range n.order {
		for x := range h.spec.Interfaces {
			i := &h.spec.Interfaces[x]
			if i.On.Host == "" {
				continue
			}
			if err := n.upon(h, i); err != nil {
				return fmt.Errorf("host %s: %w", h.spec.Name, err)
			}
		}
	}
	return nil
}

// devices makes the interfaces of the host that stand on nothing.
func (n *Network) devices(h *host) error {
	for x := range h.spec.Interfaces {
		i := &h.spec.Interfaces[x]
		var r request
		switch i.Kind {
		case spec.Dummy, spec.WireGuard:
			r = linkRequest(i, string(i.Kind), nil, nil)
		case spec.VXLAN:
			r = linkRequest(i, "vxlan", nil, vxlanData(i.Tunnel))
		case spec.Geneve:
			r = linkRequest(i, "geneve", nil, geneveData(i.Tunnel))
		case spec.GRE:
			r = linkRequest(i, "gre", nil, greData(i.Tunnel))
		case spec.IPIP:
			r = linkRequest(i, "ipip", nil, ipipData(i.Tunnel))
		case spec.Bond:
			r = linkRequest(i, "bond", oneQueue(), bondData(i.Bond))
		default:
			continue
		}
		h.conn.queue(fmt.Sprintf("%s %s", i.Kind, i.Name), r)
		if err := h.conn.flush(); err != nil {
			return unsupported(string(i.Kind), err)
		}
		if i.Kind == spec.WireGuard {
			if err := n.wireGuard(h, i); err != nil {
				return err
			}
		}
	}
	return h.enslave()
}

// upon makes an interface on another one. The request is made where that other one is.
func (n *Network) upon(h *host, i *spec.Interface) error {
	below := n.host(i.On.Host)
	extra := attributes{
		nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(below.spec.Interface(i.On.Interface).Index))),
		nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(h.ns))),
	}
	data := attributes{nl.NewRtAttr(nl.IFLA_MACVLAN_MODE, nl.Uint32Attr(nl.MACVLAN_MODE_BRIDGE))}
	if i.Kind == spec.IPVLAN {
		data = attributes{nl.NewRtAttr(nl.IFLA_IPVLAN_MODE, nl.Uint16Attr(uint16(netlink.IPVLAN_MODE_L2)))}
	}
	below.conn.queue(fmt.Sprintf("%s %s", i.Kind, i.Name), linkRequest(i, string(i.Kind), extra, data))
	return unsupported(string(i.Kind), below.conn.flush())
}

// addressAttr is an attribute of whichever of two types fits the address's family.
func addressAttr(a netip.Addr, typ4, typ6 int) nl.NetlinkRequestData {
	if a.Is4() {
		return nl.NewRtAttr(typ4, a.AsSlice())
	}
	return nl.NewRtAttr(typ6, a.AsSlice())
}

func bigEndian16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func bigEndian32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// outerTTL is the TTL of the packets around what a tunnel carries.
const outerTTL = 64

func vxlanData(t *spec.Tunnel) attributes {
	return attributes{
		nl.NewRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(t.ID)),
		addressAttr(t.Remote, nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6),
		addressAttr(t.Local, nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6),
		nl.NewRtAttr(nl.IFLA_VXLAN_PORT, bigEndian16(t.Port)),
		nl.NewRtAttr(nl.IFLA_VXLAN_TTL, nl.Uint8Attr(outerTTL)),
		nl.NewRtAttr(nl.IFLA_VXLAN_LEARNING, nl.Uint8Attr(0)),
	}
}

func geneveData(t *spec.Tunnel) attributes {
	return attributes{
		nl.NewRtAttr(nl.IFLA_GENEVE_ID, nl.Uint32Attr(t.ID)),
		addressAttr(t.Remote, nl.IFLA_GENEVE_REMOTE, nl.IFLA_GENEVE_REMOTE6),
		nl.NewRtAttr(nl.IFLA_GENEVE_PORT, bigEndian16(t.Port)),
		nl.NewRtAttr(nl.IFLA_GENEVE_TTL, nl.Uint8Attr(outerTTL)),
	}
}

// keyFlag is GRE_KEY of linux/if_tunnel.h: there is a key.
const keyFlag = 0x2000

func greData(t *spec.Tunnel) attributes {
	data := attributes{
		nl.NewRtAttr(nl.IFLA_GRE_LOCAL, t.Local.AsSlice()),
		nl.NewRtAttr(nl.IFLA_GRE_REMOTE, t.Remote.AsSlice()),
		nl.NewRtAttr(nl.IFLA_GRE_TTL, nl.Uint8Attr(outerTTL)),
	}
	if t.ID == 0 {
		return data
	}
	return append(data,
		nl.NewRtAttr(nl.IFLA_GRE_IFLAGS, bigEndian16(keyFlag)),
		nl.NewRtAttr(nl.IFLA_GRE_OFLAGS, bigEndian16(keyFlag)),
		nl.NewRtAttr(nl.IFLA_GRE_IKEY, bigEndian32(t.ID)),
		nl.NewRtAttr(nl.IFLA_GRE_OKEY, bigEndian32(t.ID)))
}

func ipipData(t *spec.Tunnel) attributes {
	return attributes{
		nl.NewRtAttr(nl.IFLA_IPTUN_LOCAL, t.Local.AsSlice()),
		nl.NewRtAttr(nl.IFLA_IPTUN_REMOTE, t.Remote.AsSlice()),
		nl.NewRtAttr(nl.IFLA_IPTUN_TTL, nl.Uint8Attr(outerTTL)),
	}
}

// netkitRequest makes a pair like vethRequest. Packets pass both ways when no program says
// otherwise, and have an Ethernet header.
func netkitRequest(here, there *spec.Interface, peerNS int) request {
	peer := nl.NewRtAttr(nl.IFLA_NETKIT_PEER_INFO, nil)
	peer.AddChild(linkMessage(there.Index, 0, 0))
	for _, part := range nameAndMTU(there) {
		peer.AddChild(part)
	}
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(peerNS)))
	return linkRequest(here, "netkit", nil, attributes{
		nl.NewRtAttr(nl.IFLA_NETKIT_MODE, nl.Uint32Attr(uint32(netlink.NETKIT_MODE_L2))),
		nl.NewRtAttr(nl.IFLA_NETKIT_POLICY, nl.Uint32Attr(uint32(netlink.NETKIT_POLICY_FORWARD))),
		nl.NewRtAttr(nl.IFLA_NETKIT_PEER_POLICY, nl.Uint32Attr(uint32(netlink.NETKIT_POLICY_FORWARD))),
		peer,
	})
}

// queueMAC gives an interface its hardware address, for kinds that cannot be made with one.
func (h *host) queueMAC(i *spec.Interface) {
	h.conn.queue("address of "+i.Name, change(unix.RTM_NEWLINK, linkMessage(i.Index, 0, 0),
		nl.NewRtAttr(unix.IFLA_ADDRESS, i.MAC[:])))
}
