package hook

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where our filter stands: its handle tells it from others', its priority is its place. The kernel
// gives filters without a priority 49152 and less.
const (
	clsactHandle = 0x63686169 // "chai"
	priorityHead = 1
	priorityTail = 0xfff0
)

// clsact is one filter on the clsact qdisc.
type clsact struct{ Target }

// do calls fn with a netlink handle. Only this family: some kernels lack others.
func (p *clsact) do(fn func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return fn(h)
}

func (p *clsact) parent() uint32 {
	if p.Kind == Egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// State looks at the filters.
func (p *clsact) State() (s State, err error) {
	err = p.do(func(h *netlink.Handle) error {
		s, _, err = p.look(h)
		return err
	})
	return s, err
}

// look also returns our filter, nil when there is none.
func (p *clsact) look(h *netlink.Handle) (State, *netlink.BpfFilter, error) {
	l, err := h.LinkByIndex(p.Interface)
	if err != nil {
		return State{}, nil, fmt.Errorf("look at the interface: %w", err)
	}
	filters, err := h.FilterList(l, p.parent())
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return State{}, nil, nil // there is no qdisc
	}
	if err != nil {
		return State{}, nil, fmt.Errorf("list the filters: %w", err)
	}
	var s State
	var own *netlink.BpfFilter
	for _, f := range filters {
		b, isBPF := f.(*netlink.BpfFilter)
		switch {
		case !isBPF:
			s.Others = append(s.Others, Program{Name: f.Type()})
		case b.Handle == clsactHandle:
			own = b
			s.Own, s.OwnAt = []ebpf.ProgramID{ebpf.ProgramID(b.Id)}, len(s.Others)
		default:
			s.Others = append(s.Others, Program{ID: ebpf.ProgramID(b.Id), Name: b.Name})
		}
	}
	return s, own, nil
}

// Swap changes the filter in place: the kernel exchanges one pointer.
func (p *clsact) Swap(was []ebpf.ProgramID, to []*ebpf.Program) error {
	return p.do(func(h *netlink.Handle) error {
		s, own, err := p.look(h)
		if err != nil {
			return err
		}
		if !slices.Equal(s.Own, was) {
			return ErrChanged
		}
		if own == nil {
			return p.add(h, to[0])
		}
		f := p.filter(to[0].FD(), own.Priority)
		if err := h.FilterReplace(f); err != nil {
			return fmt.Errorf("swap the filter's program: %w", err)
		}
		return nil
	})
}

// add makes the filter, and the qdisc when there is none.
func (p *clsact) add(h *netlink.Handle, program *ebpf.Program) error {
	priority := uint16(priorityTail)
	switch p.Place.At {
	case Head:
		priority = priorityHead
	case Before, After:
		return fmt.Errorf("place %s %s: filters of clsact have priorities; want head or tail",
			p.Place.At, p.Place.Program)
	}
	made, err := p.addQdisc(h)
	if err != nil {
		return err
	}
	if err := h.FilterAdd(p.filter(program.FD(), priority)); err != nil {
		err = fmt.Errorf("add a filter with priority %d: %w", priority, err)
		if made {
			err = errors.Join(err, h.QdiscDel(p.qdisc()))
		}
		return err
	}
	return nil
}

func (p *clsact) qdisc() *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: p.Interface,
		Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

// addQdisc makes the clsact qdisc when there is none. An ingress qdisc is another owner's and is in
// its place.
func (p *clsact) addQdisc(h *netlink.Handle) (made bool, err error) {
	err = h.QdiscAdd(p.qdisc())
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("add the clsact qdisc: %w", err)
	}
	kind, err := p.qdiscKind(h)
	if err != nil {
		return false, err
	}
	if kind != "clsact" {
		return false, fmt.Errorf("%w: there is a qdisc %q where clsact has to be", ErrForeign, kind)
	}
	return false, nil
}

func (p *clsact) qdiscKind(h *netlink.Handle) (string, error) {
	l, err := h.LinkByIndex(p.Interface)
	if err != nil {
		return "", fmt.Errorf("look at the interface: %w", err)
	}
	all, err := h.QdiscList(l)
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

func (p *clsact) filter(fd int, priority uint16) *netlink.BpfFilter {
	return &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{LinkIndex: p.Interface,
		Parent: p.parent(), Handle: clsactHandle, Priority: priority, Protocol: unix.ETH_P_ALL},
		Fd: fd, Name: "weir_chain", DirectAction: true}
}

// Remove takes the filter off. The qdisc stays: others may use it.
func (p *clsact) Remove(was []ebpf.ProgramID) error {
	return p.do(func(h *netlink.Handle) error {
		s, own, err := p.look(h)
		if err != nil || own == nil {
			return err
		}
		if !slices.Equal(s.Own, was) {
			return ErrChanged
		}
		if err := h.FilterDel(p.filter(0, own.Priority)); err != nil {
			return fmt.Errorf("delete the filter: %w", err)
		}
		return nil
	})
}
