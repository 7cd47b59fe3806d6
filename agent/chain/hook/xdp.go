package hook

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// xdp is the one XDP link of an interface.
type xdp struct{ Target }

// State looks at the interface. XDP has room for one program: another owner's is all there is then.
func (p *xdp) State() (State, error) {
	attached, err := p.attached()
	if err != nil {
		return State{}, err
	}
	l, err := openLink(p.Pin, p.Interface)
	if err == nil {
		defer l.Close()
		return State{Own: []ebpf.ProgramID{l.program}}, nil
	}
	if !errors.Is(err, errNoLink) {
		return State{}, err
	}
	if attached == 0 {
		return State{}, nil
	}
	return State{Others: []Program{describe(attached)}}, nil
}

func (p *xdp) attached() (ebpf.ProgramID, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByIndex(p.Interface)
	if err != nil {
		return 0, fmt.Errorf("look at the interface: %w", err)
	}
	if x := l.Attrs().Xdp; x != nil && x.Attached {
		return ebpf.ProgramID(x.ProgId), nil
	}
	return 0, nil
}

// Swap swaps in place: the driver exchanges one pointer.
func (p *xdp) Swap(was []ebpf.ProgramID, to []*ebpf.Program) error {
	return swapLink(p.Target, was, to[0], func() (link.Link, error) {
		l, err := link.AttachXDP(link.XDPOptions{Program: to[0], Interface: p.Interface})
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("%w: %w", ErrForeign, err)
		}
		return l, err
	})
}

// Remove takes the link off.
func (p *xdp) Remove(was []ebpf.ProgramID) error { return removeLink(p.Target, was) }
