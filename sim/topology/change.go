package topology

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// Change takes an interface down or up, deletes it, or adds one that was deleted again, with its
// link. An interface that comes up gets back what the kernel dropped when it went down: IPv6
// addresses, neighbours, routes. Change returns when packets can be sent again.
func (n *Network) Change(c spec.LinkChange) error {
	change := n.change
	if c.Action == "add" {
		change = n.addAgain
	}
	if err := change(n.host(c.Port.Host), c); err != nil {
		return fmt.Errorf("%s %s: %w", c.Action, c.Port, err)
	}
	return n.bondsSettle()
}

// addAgain makes a link that was deleted, with both its ends, and takes them up.
func (n *Network) addAgain(_ *host, c spec.LinkChange) error {
	peer, ok := n.topology.Peer(c.Port)
	if !ok {
		return fmt.Errorf("host %s has no such link", c.Port.Host)
	}
	if err := n.link(spec.Link{A: c.Port, B: peer}); err != nil {
		return err
	}
	if err := n.host(c.Port.Host).conn.flush(); err != nil {
		return err
	}
	for _, p := range []spec.Port{c.Port, peer} {
		h := n.host(p.Host)
		i := h.spec.Interface(p.Interface)
		if err := n.offloadsOffOf(h, i.Name); err != nil {
			return err
		}
		if b := n.bridgeOf(p); b != nil {
			h.queuePort(b, i)
		}
		if err := n.change(h, spec.LinkChange{Port: p, Action: "up"}); err != nil {
			return err
		}
	}
	return nil
}

// bridgeOf is the bridge that the interface is a port of, or nil.
func (n *Network) bridgeOf(p spec.Port) *spec.Bridge {
	for i := range n.topology.Bridges {
		if b := &n.topology.Bridges[i]; b.Host == p.Host && slices.Contains(b.Ports, p.Interface) {
			return b
		}
	}
	return nil
}

func (n *Network) change(h *host, c spec.LinkChange) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.spec.Interface(c.Port.Interface)
	if i == nil {
		return fmt.Errorf("host %s has no such interface", h.spec.Name)
	}
	switch c.Action {
	case "down":
		h.conn.queue("take down", change(unix.RTM_NEWLINK, linkMessage(i.Index, 0, unix.IFF_UP)))
		return h.conn.flush()
	case "delete":
		h.conn.queue("delete", change(unix.RTM_DELLINK, linkMessage(i.Index, 0, 0)))
		return h.conn.flush()
	case "up":
		h.conn.queue("take up", upRequest(i.Index))
		if h.configured(i) {
			h.queueInterface(i)
			h.queueRoutes(i.Name)
		}
		if err := h.conn.flush(); err != nil {
			return err
		}
		if err := n.awaitCarrier(h, i, c.Port); err != nil {
			return err
		}
		// Without carrier or not: a connection begun before would go out from another address.
		return h.await(time.Now().Add(readyTimeout), h.tentative)
	}
	return fmt.Errorf("unknown action %q", c.Action)
}

// awaitCarrier waits until an interface and the other end of its link are ready again, unless
// that other end is down or gone.
func (n *Network) awaitCarrier(h *host, i *spec.Interface, p spec.Port) error {
	peer, ok := n.topology.Peer(p)
	if !ok {
		return nil
	}
	other := n.host(peer.Host)
	if other != h {
		other.mu.Lock()
		defer other.mu.Unlock()
	}
	far := other.spec.Interface(peer.Interface)
	if state, err := other.link(far.Index); err != nil || state.flags&unix.IFF_UP == 0 {
		return err
	}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(pollStep) {
		near, err := h.link(i.Index)
		if err != nil {
			return err
		}
		end, err := other.link(far.Index)
		switch {
		case err != nil:
			return err
		case h.usable(i, near) && other.usable(far, end):
			return h.barrier()
		case time.Now().After(deadline):
			return fmt.Errorf("no carrier after %s", readyTimeout)
		}
	}
}

// linkState is what the kernel tells of a link.
type linkState struct {
	flags uint32
	oper  uint8
}

// link returns a link's state; of one that is gone, nothing is set.
func (h *host) link(index int) (linkState, error) {
	all, err := h.links()
	return all[index], err
}

// links returns the states of all links of the host, by index.
func (h *host) links() (map[int]linkState, error) {
	out := map[int]linkState{}
	list := request{kind: unix.RTM_GETLINK,
		parts: []nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}}
	err := h.conn.dump(list, func(m syscall.NetlinkMessage) {
		msg := nl.DeserializeIfInfomsg(m.Data)
		state := linkState{flags: msg.Flags}
		attrs, err := nl.ParseRouteAttr(m.Data[msg.Len():])
		for _, a := range attrs {
			if err == nil && a.Attr.Type == unix.IFLA_OPERSTATE && len(a.Value) > 0 {
				state.oper = a.Value[0]
			}
		}
		out[int(msg.Index)] = state
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return out, nil
}
