// Package tc puts programs on the hooks of the traffic control, of which each interface has two: as links in the
// kernel's list of programs (tcx, 6.6), and as filters of the clsact qdisc. Whatever it puts there is found again by
// its link, or by its place among the filters; nothing of other owners is touched. All calls must be made in the
// interface's network namespace, on a locked thread.
package tc

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hook is a hook of an interface.
type Hook struct {
	Interface int // ifindex
	Egress    bool
}

// Place is where a program of weir's stands among the filters of a hook. The handle tells ours from others'.
type Place struct {
	Name     string
	Priority uint16
	Handle   uint32
}

// ErrForeign is returned when another owner's qdisc is where clsact has to be.
var ErrForeign = errors.New("another owner has the hook")

// AttachType is the kernel's name of the hook's list of programs.
func (h Hook) AttachType() ebpf.AttachType {
	if h.Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

// Link puts a program into the hook's list. A revision other than 0 is that which the list must have (ESTALE).
func (h Hook) Link(program *ebpf.Program, at link.Anchor, revision uint64) (link.Link, error) {
	return link.AttachTCX(link.TCXOptions{Interface: h.Interface, Program: program, Attach: h.AttachType(), Anchor: at,
		ExpectedRevision: revision})
}

// Filters lists the filters of the hook: none where there is no qdisc, or no interface.
func (h Hook) Filters() (all []netlink.Filter, err error) {
	err = do(func(nl *netlink.Handle) error {
		device := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: h.Interface}}
		all, err = nl.FilterList(device, h.parent())
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the filters: %w", err)
		}
		return nil
	})
	return all, err
}

// Add makes a filter, and the clsact qdisc when there is none. Another qdisc in its place is ErrForeign. When it fails,
// nothing has changed.
func (h Hook) Add(p Place, program *ebpf.Program) error {
	return do(func(nl *netlink.Handle) error {
		made, err := h.addQdisc(nl)
		if err != nil {
			return err
		}
		if err := nl.FilterAdd(h.filter(p, program.FD())); err != nil {
			err = fmt.Errorf("add a filter with priority %d: %w", p.Priority, err)
			if made {
				err = errors.Join(err, nl.QdiscDel(h.qdisc()))
			}
			return err
		}
		return nil
	})
}

// Swap exchanges the program of a filter: the kernel exchanges one pointer.
func (h Hook) Swap(p Place, program *ebpf.Program) error {
	return do(func(nl *netlink.Handle) error {
		if err := nl.FilterReplace(h.filter(p, program.FD())); err != nil {
			return fmt.Errorf("swap the filter's program: %w", err)
		}
		return nil
	})
}

// Put makes a filter, or exchanges the program of the one that is in its place. The qdisc may be another owner's: some
// have the same hook.
func (h Hook) Put(p Place, program *ebpf.Program) error {
	return do(func(nl *netlink.Handle) error {
		if _, err := h.addQdisc(nl); err != nil && !errors.Is(err, ErrForeign) {
			return err
		}
		if err := nl.FilterReplace(h.filter(p, program.FD())); err != nil {
			return fmt.Errorf("add the filter: %w", err)
		}
		return nil
	})
}

// Delete takes a filter off; one that is gone, with its interface or its qdisc, is no error. The qdisc stays: others may
// use it.
func (h Hook) Delete(p Place) error {
	return do(func(nl *netlink.Handle) error {
		err := nl.FilterDel(h.filter(p, 0))
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("delete the filter: %w", err)
		}
		return nil
	})
}

// do calls fn with a netlink handle. Only of this family: some kernels lack others.
func do(fn func(*netlink.Handle) error) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	return fn(nl)
}

func (h Hook) parent() uint32 {
	if h.Egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

func (h Hook) filter(p Place, fd int) *netlink.BpfFilter {
	return &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{LinkIndex: h.Interface, Parent: h.parent(),
		Handle: p.Handle, Priority: p.Priority, Protocol: unix.ETH_P_ALL}, Fd: fd, Name: p.Name, DirectAction: true}
}

func (h Hook) qdisc() *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: h.Interface,
		Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

// addQdisc makes the clsact qdisc when there is none. An ingress qdisc is another owner's and is in its place.
func (h Hook) addQdisc(nl *netlink.Handle) (made bool, err error) {
	err = nl.QdiscAdd(h.qdisc())
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("add the clsact qdisc: %w", err)
	}
	kind, err := h.qdiscKind(nl)
	if err == nil && kind != "clsact" {
		err = fmt.Errorf("%w: there is a qdisc %q where clsact has to be", ErrForeign, kind)
	}
	return false, err
}

func (h Hook) qdiscKind(nl *netlink.Handle) (string, error) {
	all, err := nl.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: h.Interface}})
	if err != nil {
		return "", fmt.Errorf("list the qdiscs: %w", err)
	}
	for _, q := range all {
		if q.Attrs().Handle == netlink.MakeHandle(0xffff, 0) {
			return q.Type(), nil
		}
	}
	return "", nil
}
