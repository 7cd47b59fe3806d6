package topology

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

var bondModes = map[string]netlink.BondMode{
	"active-backup": netlink.BOND_MODE_ACTIVE_BACKUP,
	"balance-rr":    netlink.BOND_MODE_BALANCE_RR,
	"balance-xor":   netlink.BOND_MODE_BALANCE_XOR,
}

// monitor is how often a bond looks at its members' carriers, in milliseconds.
const monitor = 1

// bondData keeps a bond from announcing itself, which would be packets of the kernel's own.
func bondData(b *spec.Bonding) attributes {
	return attributes{
		nl.NewRtAttr(nl.IFLA_BOND_MODE, nl.Uint8Attr(uint8(bondModes[b.Mode]))),
		nl.NewRtAttr(nl.IFLA_BOND_MIIMON, nl.Uint32Attr(monitor)),
		nl.NewRtAttr(nl.IFLA_BOND_NUM_PEER_NOTIF, nl.Uint8Attr(0)),
		nl.NewRtAttr(nl.IFLA_BOND_RESEND_IGMP, nl.Uint32Attr(0)),
	}
}

// enslave gives bonds their members. The first one carries the packets of an active-backup bond
// while it can.
func (h *host) enslave() error {
	for x := range h.spec.Interfaces {
		i := &h.spec.Interfaces[x]
		if i.Bond == nil {
			continue
		}
		for _, m := range i.Bond.Members {
			h.conn.queue(fmt.Sprintf("member %s of bond %s", m, i.Name), change(unix.RTM_NEWLINK,
				linkMessage(h.spec.Interface(m).Index, 0, 0),
				nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(i.Index)))))
		}
		if i.Bond.Mode == "active-backup" {
			h.conn.queue("primary member of bond "+i.Name, primaryRequest(i, h.spec.Interface(i.Bond.Members[0])))
		}
	}
	return h.conn.flush()
}

func primaryRequest(bond, member *spec.Interface) request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bond"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).
		AddRtAttr(nl.IFLA_BOND_PRIMARY, nl.Uint32Attr(uint32(member.Index)))
	return change(unix.RTM_NEWLINK, linkMessage(bond.Index, 0, 0), info)
}

// bondsSettle waits until all bonds have noticed which of their members have a carrier: they look
// from time to time.
func (n *Network) bondsSettle() error {
	deadline := time.Now().Add(readyTimeout)
	for _, h := range n.order {
		for x := range h.spec.Interfaces {
			if i := &h.spec.Interfaces[x]; i.Bond != nil {
				err := h.await(deadline, func() ([]string, error) { return n.unsettled(h, i) })
				if err != nil {
					return fmt.Errorf("host %s: %w", h.spec.Name, err)
				}
			}
		}
	}
	return nil
}

// unsettled lists the members whose carrier the bond has not noticed, and the bond itself when
// another member than the first one with a carrier is active.
func (n *Network) unsettled(h *host, bond *spec.Interface) ([]string, error) {
	handle, err := n.Handle(h.spec.Name)
	if err != nil {
		return nil, err
	}
	all, err := handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	found := map[int]netlink.Link{}
	for _, l := range all {
		found[l.Attrs().Index] = l
	}
	var waiting []string
	active := 0
	for _, m := range bond.Bond.Members {
		index := h.spec.Interface(m).Index
		l := found[index]
		if l == nil {
			continue
		}
		up := l.Attrs().OperState == netlink.OperUp
		s, ok := l.Attrs().Slave.(*netlink.BondSlave)
		if !ok || up != (s.MiiStatus == netlink.BondLinkUp) {
			waiting = append(waiting, m)
		}
		if up && active == 0 {
			active = index
		}
	}
	b, ok := found[bond.Index].(*netlink.Bond)
	if ok && bond.Bond.Mode == "active-backup" && active != 0 && b.ActiveSlave != active {
		waiting = append(waiting, bond.Name)
	}
	return waiting, nil
}
