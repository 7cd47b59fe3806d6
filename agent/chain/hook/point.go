package hook

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/bpf/tc"
)

// How a chain's program is put on a hook.
const (
	TCX      = "tcx"       // a link in the kernel's list of programs, 6.6
	TCXLinks = "tcx-links" // several of them
	TC       = "tc"        // a filter on the clsact qdisc
	XDPLink  = "xdp-link"  // a link, 5.9
)

// Target names a hook of an interface.
type Target struct {
	Interface int // ifindex in the network namespace of the calling thread
	Kind      Kind
	// Pin is the path on a bpffs where the hook's link is pinned; of TCXLinks, a folder for them. Only links use it.
	Pin string
	// Place is among the programs of other owners; it counts when there is none of ours yet.
	Place Place
}

// tc is the hook as the traffic control has it.
func (t *Target) tc() tc.Hook { return tc.Hook{Interface: t.Interface, Egress: t.Kind == Egress} }

// Place is a position among the programs of other owners: Head, Tail (also ""), or before or after
// a program of theirs.
type Place struct {
	At string `json:"at,omitempty" yaml:"at"` // head, tail, before, after
	// Program is another owner's program by its name in the kernel. Before and after only.
	Program string `json:"program,omitempty" yaml:"program"`
}

// The values of Place.At.
const (
	Head   = "head"
	Tail   = "tail"
	Before = "before"
	After  = "after"
)

// Check tells what is wrong with a place.
func (p Place) Check() error {
	switch p.At {
	case "", Head, Tail:
		if p.Program != "" {
			return fmt.Errorf("program %q: only before and after have one", p.Program)
		}
	case Before, After:
		if p.Program == "" {
			return fmt.Errorf("at %q: wants a program, by its name in the kernel", p.At)
		}
	default:
		return fmt.Errorf("at %q: want head, tail, before or after", p.At)
	}
	return nil
}

// Program is a program on a hook.
type Program struct {
	ID   ebpf.ProgramID `json:"id"`
	Name string         `json:"name"`
}

// ProgramIDs are the ids of programs.
func ProgramIDs(all []*ebpf.Program) (ids []ebpf.ProgramID, err error) {
	for _, p := range all {
		id, err := programID(p)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func programID(p *ebpf.Program) (ebpf.ProgramID, error) {
	info, err := p.Info()
	if err != nil {
		return 0, fmt.Errorf("ask for the program: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return 0, errors.New("ask for the program: the kernel tells no id")
	}
	return id, nil
}

// State is what is on a hook.
type State struct {
	// Own are the programs where ours have their places, in their order: one at most, but with TCXLinks.
	Own []ebpf.ProgramID
	// Others are the programs of other owners that the hook shares with ours, in their order.
	Others []Program
	// OwnAt is how many of the others come before the first of Own.
	OwnAt int
}

// ErrForeign is returned when another owner has what a chain needs.
var ErrForeign = tc.ErrForeign

// ErrChanged is returned by Swap and Remove when the hook has changed since it was looked at.
var ErrChanged = errors.New("the hook has changed meanwhile")

// A Point is a way to put a program on a hook, or with TCXLinks several. Its methods must be called in the
// interface's network namespace, on a locked thread.
type Point interface {
	// State looks at the hook.
	State() (State, error)
	// Swap puts programs in the place of those with ids, or on the hook when there are none. Every packet
	// meets the ones or the others. When it fails, nothing has changed.
	Swap(was []ebpf.ProgramID, to []*ebpf.Program) error
	// Remove takes the programs with ids off.
	Remove(was []ebpf.ProgramID) error
}

// Backends lists the ways that a kind of hook has, the best first.
func Backends(k Kind) []string {
	if k == XDP {
		return []string{XDPLink}
	}
	return []string{TCX, TC, TCXLinks}
}

// New returns the point of a backend.
func New(backend string, t Target) (Point, error) {
	switch {
	case t.Kind == XDP && backend == XDPLink:
		return &xdp{t}, nil
	case t.Kind != XDP && backend == TCX:
		return &tcx{t}, nil
	case t.Kind != XDP && backend == TCXLinks:
		return &tcxLinks{tcx{t}}, nil
	case t.Kind != XDP && backend == TC:
		return &clsact{t}, nil
	}
	return nil, fmt.Errorf("hook %s has no backend %q; want one of %q", t.Kind, backend, Backends(t.Kind))
}

// Probe asks the kernel whether it has a backend, in the network namespace of the calling thread.
// The error says why not.
func Probe(backend string, t Target) error {
	p, err := New(backend, t)
	if err != nil {
		return err
	}
	if _, err := p.State(); err != nil {
		return fmt.Errorf("this kernel has no %s: %w", backend, err)
	}
	return nil
}
