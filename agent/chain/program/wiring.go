package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/bpf/chain/dispatcher"
)

// Wiring is how members hand packets on to each other.
type Wiring string

// The wirings.
const (
	// TailCalls: each member calls the next one, whose place is constant.
	TailCalls Wiring = "tail calls"
	// Dispatcher: one program calls all members, which take the places of functions of it (freplace). XDP
	// only.
	Dispatcher Wiring = "dispatcher"
	// Links: all members are on the hook, and the kernel calls one after the other. Traffic control only.
	Links Wiring = "links"
)

// maxLinks is how many programs the kernel's list of a hook has room for (bpf_mprog_max of linux/bpf_mprog.h).
const maxLinks = 63

// maxTailCalls is how many members tail calls can wire. The kernel allows a packet 33
// (MAX_TAIL_CALL_CNT of linux/bpf.h), of which some are left for members that make their own.
const maxTailCalls = 30

// MaxMembers is how many members a generation has at most.
func (w Wiring) MaxMembers() int {
	switch w {
	case Dispatcher:
		return dispatcher.MaxMembers
	case Links:
		return maxLinks
	}
	return maxTailCalls
}

// wires are what leads packets through the members of a generation.
type wires interface {
	wiring() Wiring
	// forms are those that the program of the member at an index can have, the best first. Where the
	// verifier refuses one, the next is tried.
	forms(index int) []form
	// connect puts the program of the member at an index in its place.
	connect(index int, p *ebpf.Program) error
	// heads are the programs for the hook.
	heads(members []*ebpf.Program) []*ebpf.Program
	// verify asks the kernel whether programs are in their places.
	verify(want []ebpf.ProgramID) error
	// pins are what must stay in the kernel as long as packets can be in the programs, beside these.
	pins() map[string]pinner
	Close() error
}

// make makes the wires for members.
func (w Wiring) make(kind hook.Kind, members []Member) (wires, error) {
	switch w {
	case Dispatcher:
		return newDispatcher(members)
	case Links:
		return &linked{kind, members}, nil
	}
	return newTailCalls(kind, members)
}

// Probe asks the kernel whether it has what a wiring needs. The error says why not.
func (w Wiring) Probe() error {
	if w == Dispatcher {
		return probeDispatcher()
	}
	return nil // where there are programs, there are tail calls
}

// Suits tells why members cannot be wired so; what only the kernel can tell, Build does.
func (w Wiring) Suits(members []Member) error {
	if n := w.MaxMembers(); len(members) > n {
		return fmt.Errorf("%d members; there is room for %d", len(members), n)
	}
	if n := jumps(members); w == TailCalls && len(members)+n > maxTailCalls {
		return fmt.Errorf("%d members, in which a packet takes %d tail calls more; there is room for %d together",
			len(members), n, maxTailCalls)
	}
	for i := range members {
		var err error
		switch w {
		case Dispatcher:
			err = members[i].callable()
		case Links:
			err = members[i].linkable()
		}
		if err != nil {
			return fmt.Errorf("member %s: %w", members[i].Name, err)
		}
	}
	return nil
}

// jumps is how many tail calls a packet takes in the members at most, beside those from one to the next. Newer
// kernels count those that have come back, too.
func jumps(members []Member) (n int) {
	for i := range members {
		n += members[i].Jumps
	}
	return n
}

// WiringOf tells how the members of a generation that was pinned are wired.
func WiringOf(dir string) (Wiring, error) {
	for pin, w := range map[string]Wiring{dispatcherPin: Dispatcher, arrayPin: TailCalls} {
		_, err := os.Stat(filepath.Join(dir, pin))
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find out how the members of %s are wired: %w", dir, err)
		}
	}
	return Links, nil
}

// openWires opens the wires of a generation that was pinned.
func openWires(dir string) (wires, error) {
	w, err := WiringOf(dir)
	if err != nil {
		return nil, err
	}
	switch w {
	case Dispatcher:
		return openDispatcher(dir)
	case TailCalls:
		return openTailCalls(dir)
	}
	return &linked{}, nil
}

// HeadIDs are the ids of the programs for the hook of a generation that was pinned.
func HeadIDs(dir string) ([]ebpf.ProgramID, error) {
	g, err := Open(dir)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	return g.HeadIDs()
}
