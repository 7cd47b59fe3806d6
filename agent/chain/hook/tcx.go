package hook

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcx is one link in the kernel's list of programs of a hook.
type tcx struct{ Target }

func (p *tcx) attachType() ebpf.AttachType {
	if p.Kind == Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

// State looks at the list.
func (p *tcx) State() (State, error) {
	s, _, err := p.look()
	return s, err
}

// look also returns the list's revision, which changes with every change of the list.
func (p *tcx) look() (State, uint64, error) {
	all, err := link.QueryPrograms(link.QueryOptions{Target: p.Interface, Attach: p.attachType()})
	if errors.Is(err, unix.EINVAL) { // what kernels say that do not know the type
		err = ebpf.ErrNotSupported
	}
	if err != nil {
		return State{}, 0, fmt.Errorf("list the programs on the hook: %w", err)
	}
	own, err := p.ownLink()
	if err != nil {
		return State{}, 0, err
	}
	var s State
	for _, a := range all.Programs {
		if id, linked := a.LinkID(); linked && id == own {
			s.Own, s.OwnAt = a.ID, len(s.Others)
			continue
		}
		s.Others = append(s.Others, describe(a.ID))
	}
	return s, all.Revision, nil
}

// ownLink is the id of our link, 0 when there is none.
func (p *tcx) ownLink() (link.ID, error) {
	l, err := openLink(p.Pin, p.Interface)
	if errors.Is(err, errNoLink) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("ask for the link: %w", err)
	}
	return info.ID, nil
}

// Swap swaps in place: the kernel exchanges one pointer.
func (p *tcx) Swap(was ebpf.ProgramID, to *ebpf.Program) error {
	return swapLink(p.Target, was, to, func() (link.Link, error) { return p.attach(to) })
}

// tries is how often another owner may change the list between our look at it and our change.
const tries = 10

// attach makes the link, at its place in the list that was looked at.
func (p *tcx) attach(program *ebpf.Program) (link.Link, error) {
	for range tries {
		s, revision, err := p.look()
		if err != nil {
			return nil, err
		}
		anchor, err := p.Place.anchor(s.Others)
		if err != nil {
			return nil, err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: p.Interface, Program: program,
			Attach: p.attachType(), Anchor: anchor, ExpectedRevision: revision})
		switch {
		case err == nil:
			return l, nil
		case errors.Is(err, unix.ERANGE):
			return nil, fmt.Errorf("the hook is full: %w", err)
		case !errors.Is(err, unix.ESTALE) && !errors.Is(err, unix.ENOENT):
			return nil, err
		}
	}
	return nil, fmt.Errorf("attach: %w, %d times in a row", ErrChanged, tries)
}

// anchor translates a place.
func (p Place) anchor(others []Program) (link.Anchor, error) {
	switch p.At {
	case Head:
		return link.Head(), nil
	case "", Tail:
		return link.Tail(), nil
	}
	var names []string
	for _, o := range others {
		if o.Name == p.Program {
			if p.At == Before {
				return link.BeforeProgramByID(o.ID), nil
			}
			return link.AfterProgramByID(o.ID), nil
		}
		names = append(names, o.Name)
	}
	return nil, fmt.Errorf("place %s %s: no such program on the hook (there are: %q)", p.At, p.Program, names)
}

// Remove takes the link off.
func (p *tcx) Remove(was ebpf.ProgramID) error { return removeLink(p.Target, was) }
