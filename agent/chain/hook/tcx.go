package hook

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcx is one link in the kernel's list of programs of a hook.
type tcx struct{ Target }

// State looks at the list.
func (p *tcx) State() (State, error) {
	own, err := p.ownLinks()
	if err != nil {
		return State{}, err
	}
	s, _, err := p.look(own)
	return s, err
}

// look also returns the list's revision, which changes with every change of the list. Links of ours are given by their
// ids.
func (p *tcx) look(own []link.ID) (State, uint64, error) {
	all, err := link.QueryPrograms(link.QueryOptions{Target: p.Interface, Attach: p.tc().AttachType()})
	if errors.Is(err, unix.EINVAL) { // what kernels say that do not know the type
		err = ebpf.ErrNotSupported
	}
	if err != nil {
		return State{}, 0, fmt.Errorf("list the programs on the hook: %w", err)
	}
	var s State
	for _, a := range all.Programs {
		if id, linked := a.LinkID(); !linked || !slices.Contains(own, id) {
			s.Others = append(s.Others, describe(a.ID))
			continue
		}
		if len(s.Own) == 0 {
			s.OwnAt = len(s.Others)
		}
		s.Own = append(s.Own, a.ID)
	}
	return s, all.Revision, nil
}

// ownLinks are the ids of our links: of the one that there is.
func (p *tcx) ownLinks() ([]link.ID, error) {
	l, err := openLink(p.Pin, p.Interface)
	if errors.Is(err, errNoLink) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return []link.ID{l.id}, nil
}

// Swap swaps in place: the kernel exchanges one pointer.
func (p *tcx) Swap(was []ebpf.ProgramID, to []*ebpf.Program) error {
	return swapLink(p.Target, was, to[0], func() (link.Link, error) {
		return p.attach(to[0], func(s State) (link.Anchor, error) { return p.Place.anchor(s.Others) })
	})
}

// tries is how often another owner may change the list between our look at it and our change.
const tries = 10

// attach makes a link, at a place in the list that was looked at.
func (p *tcx) attach(program *ebpf.Program, place func(State) (link.Anchor, error)) (link.Link, error) {
	for range tries {
		s, revision, err := p.look(nil)
		if err != nil {
			return nil, err
		}
		anchor, err := place(s)
		if err != nil {
			return nil, err
		}
		l, err := p.tc().Link(program, anchor, revision)
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
func (p *tcx) Remove(was []ebpf.ProgramID) error { return removeLink(p.Target, was) }
