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
)

// maxTailCalls is how many members tail calls can wire. The kernel allows a packet 33
// (MAX_TAIL_CALL_CNT of linux/bpf.h), of which some are left for members that make their own.
const maxTailCalls = 30

// MaxMembers is how many members a generation has at most.
func (w Wiring) MaxMembers() int {
	if w == Dispatcher {
		return dispatcher.MaxMembers
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
	// head is the program for the hook.
	head(members []*ebpf.Program) *ebpf.Program
	// verify asks the kernel whether programs are in their places.
	verify(want []ebpf.ProgramID) error
	// pins are what must stay in the kernel as long as packets can be in the programs, beside these.
	pins() map[string]pinner
	Close() error
}

// make makes the wires for members.
func (w Wiring) make(kind hook.Kind, members []Member) (wires, error) {
	if w == Dispatcher {
		return newDispatcher(members)
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
	if w != Dispatcher {
		return nil
	}
	for i := range members {
		if err := members[i].callable(); err != nil {
			return fmt.Errorf("member %s: %w", members[i].Name, err)
		}
	}
	return nil
}

// WiringOf tells how the members of a generation that was pinned are wired.
func WiringOf(dir string) (Wiring, error) {
	_, err := os.Stat(filepath.Join(dir, dispatcherPin))
	switch {
	case err == nil:
		return Dispatcher, nil
	case errors.Is(err, os.ErrNotExist):
		return TailCalls, nil
	}
	return "", fmt.Errorf("find out how the members of %s are wired: %w", dir, err)
}

// openWires opens the wires of a generation that was pinned.
func openWires(dir string) (wires, error) {
	w, err := WiringOf(dir)
	if err != nil {
		return nil, err
	}
	if w == Dispatcher {
		return openDispatcher(dir)
	}
	return openTailCalls(dir)
}

// OpenHead opens the program for the hook of a generation that was pinned.
func OpenHead(dir string) (*ebpf.Program, error) {
	w, err := WiringOf(dir)
	if err != nil {
		return nil, err
	}
	pin := numbered(programPin, 0)
	if w == Dispatcher {
		pin = dispatcherPin
	}
	return ebpf.LoadPinnedProgram(filepath.Join(dir, pin), nil)
}
