package topology

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

const (
	// operUp is IF_OPER_UP of RFC 2863.
	operUp   = 6
	pollStep = 200 * time.Microsecond
)

// ready waits until packets can be sent on every interface, and received for every address. A
// veth's carrier comes on when both its ends are up, but the kernel activates its transmit
// queue a moment later, from a work queue; a packet sent before that is lost. It is the same
// with duplicate address detection: there is none here, but it is finished by a work queue.
func (n *Network) ready() error {
	deadline := time.Now().Add(readyTimeout)
	for _, h := range n.order {
		if err := h.await(deadline, h.unready); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
	}
	return n.bondsSettle()
}

// await polls until nothing is waited for any more.
func (h *host) await(deadline time.Time, unready func() ([]string, error)) error {
	for {
		waiting, err := unready()
		switch {
		case err != nil:
			return err
		case len(waiting) == 0:
			return h.barrier()
		case time.Now().After(deadline):
			return fmt.Errorf("not ready after %s: %s", readyTimeout, strings.Join(waiting, ", "))
		}
		time.Sleep(pollStep)
	}
}

// barrier waits for whoever holds the kernel's lock for links: newer kernels list links without
// it, so a link can be listed as up while it is being activated. A request that changes nothing
// comes after that.
func (h *host) barrier() error {
	h.conn.queue("wait for links", change(unix.RTM_NEWLINK, linkMessage(loIndex, 0, 0)))
	return h.conn.flush()
}

// unready lists interfaces that are not up and addresses that are not usable yet.
func (h *host) unready() ([]string, error) {
	states, err := h.links()
	if err != nil {
		return nil, err
	}
	var waiting []string
	for _, i := range h.spec.Interfaces {
		if !h.usable(&i, states[i.Index]) && !h.portless[i.Name] {
			waiting = append(waiting, i.Name)
		}
	}
	if len(waiting) > 0 {
		return waiting, nil
	}
	return h.tentative()
}

// usable tells whether packets can be sent. Interfaces without a carrier of their own never tell
// that they have one.
func (h *host) usable(i *spec.Interface, s linkState) bool {
	if _, wire := h.wires[i.Name]; wire || i.Tunnel != nil || i.Kind == spec.Dummy {
		return s.flags&unix.IFF_RUNNING != 0
	}
	return s.oper == operUp
}

// tentative lists IPv6 addresses that are not usable yet.
func (h *host) tentative() ([]string, error) {
	var waiting []string
	if !h.spec.Stack || !h.spec.Has(6) {
		return nil, nil
	}
	list := request{kind: unix.RTM_GETADDR,
		parts: []nl.NetlinkRequestData{nl.NewIfAddrmsg(unix.AF_INET6)}}
	err := h.conn.dump(list, func(m syscall.NetlinkMessage) {
		if msg := nl.DeserializeIfAddrmsg(m.Data); msg.Flags&unix.IFA_F_TENTATIVE != 0 {
			waiting = append(waiting, "an IPv6 address")
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return waiting, nil
}
