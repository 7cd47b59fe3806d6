package topology

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// ChangeHost deletes a host with its namespace and the links to it, or adds one that was deleted, as it was.
// What others hold open in the namespace keeps it alive: it must be let go before. ChangeHost returns when the
// other ends of its links are gone, or packets can be sent again.
func (n *Network) ChangeHost(c spec.HostChange) error {
	do := n.deleteHost
	if c.Action == "add" {
		do = n.addHost
	}
	if err := do(n.host(c.Host)); err != nil {
		return fmt.Errorf("%s host %s: %w", c.Action, c.Host, err)
	}
	return nil
}

// deleteHost lets a namespace go. The kernel ends it in its own time, when nobody holds it any more.
func (n *Network) deleteHost(h *host) error {
	h.release()
	if err := removeNamespace(h.path); err != nil {
		return err
	}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(pollStep) {
		left, err := n.linkedTo(h)
		if err != nil || left == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is still there after %s: somebody holds the namespace open", left, readyTimeout)
		}
	}
}

// linkedTo is an interface of another host that is still linked to this one, or "".
func (n *Network) linkedTo(h *host) (string, error) {
	for _, i := range h.spec.Interfaces {
		peer, ok := n.topology.Peer(spec.Port{Host: h.spec.Name, Interface: i.Name})
		if !ok {
			continue
		}
		other := n.host(peer.Host)
		if !other.ns.IsOpen() { // deleted, too
			continue
		}
		other.mu.Lock()
		links, err := other.links()
		other.mu.Unlock()
		if err != nil {
			return "", err
		}
		if _, there := links[other.spec.Interface(peer.Interface).Index]; there {
			return peer.String(), nil
		}
	}
	return "", nil
}

// addHost makes a namespace and what belongs to it.
func (n *Network) addHost(h *host) error {
	if err := h.create(n.home); err != nil {
		return err
	}
	h.conn.queue("take lo up", change(unix.RTM_NEWLINK, linkMessage(loIndex, unix.IFF_UP, unix.IFF_UP)))
	if err := h.conn.flush(); err != nil {
		return err
	}
	for _, i := range h.spec.Interfaces {
		if err := n.addAgain(h, spec.LinkChange{Port: spec.Port{Host: h.spec.Name, Interface: i.Name}}); err != nil {
			return err
		}
	}
	if err := h.forward6(); err != nil {
		return err
	}
	return n.settings(h)
}
