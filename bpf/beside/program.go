// Package beside is what optional features have in common that stand on the packet path's hooks: each is an
// object of its own, whose one program sees every packet there and changes none.
package beside

import (
	"errors"
	"fmt"
	"os"
	"structs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weirnet/weir/bpf"
)

// Options say how a feature is loaded.
type Options struct {
	// Max is how many entries the feature's table has; 0 means 16384.
	Max int
	// Virtual makes the programs read their time from SetNow instead of the kernel's clock.
	Virtual bool
}

// maximum is the size of the table.
func (o Options) maximum() uint32 {
	if o.Max == 0 {
		return 16384
	}
	return uint32(o.Max)
}

// Load loads an object whose table has the given name.
func Load(spec *ebpf.CollectionSpec, table string, o Options, objs any) error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return explain(fmt.Errorf("lift the limit on locked memory: %w", err))
	}
	spec.Maps[table].MaxEntries = o.maximum()
	virtual := uint8(0)
	if o.Virtual {
		virtual = 1
	}
	if err := spec.Variables["is_virtual"].Set(virtual); err != nil {
		return fmt.Errorf("set the object's constants: %w", err)
	}
	err := spec.LoadAndAssign(objs, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		return fmt.Errorf("the kernel's verifier refuses the program: %+v", refused)
	}
	return explain(err)
}

// explain adds what to do about an error.
func explain(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w (needs root, or CAP_BPF and CAP_NET_ADMIN)", err)
	}
	return err
}

// Program is a loaded program, and where it is attached. Its methods may not be called concurrently.
type Program struct {
	parts    Parts
	attached map[uint16]*bpf.Beside
}

// Parts are what a feature's object has for it: the program, the array that stubs jump through, its hooks,
// and its virtual clock.
type Parts struct {
	Place        bpf.Place
	Code         *ebpf.Program
	Jump, Places *ebpf.Map
	Now          *ebpf.Variable
}

// Start makes a program ready to be attached. The parts stay the caller's to close.
func Start(p Parts) (Program, error) {
	if err := p.Jump.Put(uint32(0), p.Code); err != nil {
		return Program{}, fmt.Errorf("put %s in place: %w", p.Place.Name, err)
	}
	return Program{parts: p, attached: map[uint16]*bpf.Beside{}}, nil
}

// Walked is how many instructions the kernel's verifier has walked for the program.
func (p *Program) Walked() (int, error) { return bpf.Walked(p.parts.Code) }

// place has the layout of struct place in beside.h.
type place struct {
	_    structs.HostLayout
	Zone uint16
	On   uint8
	L3   uint8
}

func (p *Program) put(h bpf.Hook, number uint16) error {
	at := place{Zone: h.Zone, On: 1}
	if h.L3 {
		at.L3 = 1
	}
	if err := p.parts.Places.Put(uint32(number), at); err != nil {
		return fmt.Errorf("write hook %d of %s: %w", number, p.parts.Place.Name, err)
	}
	return nil
}

// Attach puts the feature on a hook that has a number in the datapath. It must be called in the
// hook's network namespace, on a locked thread.
func (p *Program) Attach(h bpf.Hook, number uint16) error {
	if err := p.put(h, number); err != nil {
		return err
	}
	b, err := bpf.AttachBeside(h, p.parts.Place, number, p.parts.Jump)
	if err != nil {
		return err
	}
	p.attached[number] = b
	return nil
}

// Move gets the feature ready to be in a slot of a chain on a hook that it is attached to, or in none when the slot is
// nil. It must be called in the hook's network namespace, on a locked thread.
func (p *Program) Move(number uint16, slot *ebpf.Map) (*bpf.Move, error) {
	b := p.attached[number]
	if b == nil {
		return nil, fmt.Errorf("%s is not on hook %d", p.parts.Place.Name, number)
	}
	return b.Move(slot)
}

// Detach takes the feature off a hook. With mode TC it must be called in the hook's network
// namespace, on a locked thread. What was not read stays readable.
func (p *Program) Detach(number uint16) error {
	b := p.attached[number]
	if b == nil {
		return nil
	}
	delete(p.attached, number)
	return b.Detach()
}

// DetachAll takes the feature off all hooks that it is on.
func (p *Program) DetachAll() error {
	var errs []error
	for number := range p.attached {
		errs = append(errs, p.Detach(number))
	}
	return errors.Join(errs...)
}

// SetNow sets the virtual clock, in nanoseconds. Without Options.Virtual nothing reads it.
func (p *Program) SetNow(ns int64) error {
	if err := p.parts.Now.Set(uint64(ns)); err != nil {
		return fmt.Errorf("set the clock of %s: %w", p.parts.Place.Name, err)
	}
	return nil
}

// Stub returns a program that puts a packet through the feature as if it came from the hook, for
// BPF_PROG_TEST_RUN. The caller closes it.
func (p *Program) Stub(h bpf.Hook, number uint16) (*ebpf.Program, error) {
	if err := p.put(h, number); err != nil {
		return nil, err
	}
	return bpf.NewStub(p.parts.Place.Name, number, p.parts.Jump)
}
