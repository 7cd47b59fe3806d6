package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/bpf/chain/dispatcher"
)

// dispatched are wires by a program that calls the members. Their links must be held as long as packets may
// be in it: a member without its link is not called.
type dispatched struct {
	program *ebpf.Program
	links   []link.Link
}

// The pins of a dispatcher.
const (
	dispatcherPin = "dispatcher"
	linkPin       = "link-"
)

// hasFrags is BPF_F_XDP_HAS_FRAGS of linux/bpf.h: the program can have packets of several buffers.
const hasFrags = 1 << 5

func newDispatcher(members []Member) (wires, error) {
	spec, err := dispatcherSpec(members)
	if err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the dispatcher: %w", told(err))
	}
	defer coll.Close()
	return &dispatched{program: coll.DetachProgram(dispatcher.Program)}, nil
}

// dispatcherSpec is the dispatcher for members. It can have what all of them can.
func dispatcherSpec(members []Member) (*ebpf.CollectionSpec, error) {
	var calls []dispatcher.Member
	flags := uint32(hasFrags)
	for i := range members {
		p, err := members[i].program(hook.XDP)
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", members[i].Name, err)
		}
		flags &= p.Flags
		var proceed uint32
		for _, v := range members[i].Proceed {
			proceed |= 1 << v
		}
		// As with tail calls, the member before a gap says what becomes of the packet.
		broken := hook.XDP.Pass()
		if members[max(0, i-1)].FailClosed {
			broken = hook.XDP.Drop()
		}
		calls = append(calls, dispatcher.Member{Proceed: proceed, Broken: uint32(broken)})
	}
	spec, err := dispatcher.Spec(calls)
	if err != nil {
		return nil, err
	}
	p := spec.Programs[dispatcher.Program]
	p.Flags |= flags
	p.AttachType = ebpf.AttachNone // as members have; the kernel swaps only programs of the same
	return spec, nil
}

func openDispatcher(dir string) (wires, error) {
	p, err := ebpf.LoadPinnedProgram(filepath.Join(dir, dispatcherPin), nil)
	if err != nil {
		return nil, err
	}
	d := &dispatched{program: p}
	for i := range dispatcher.MaxMembers {
		l, err := link.LoadPinnedLink(filepath.Join(dir, numbered(linkPin, i)), nil)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.links = append(d.links, l)
	}
	return d, nil
}

func (d *dispatched) wiring() Wiring { return Dispatcher }

// forms has one: the dispatcher does all that a wrapper would.
func (d *dispatched) forms(index int) []form {
	return []form{func(spec *ebpf.ProgramSpec) error {
		spec.Type = ebpf.Extension
		spec.AttachTarget, spec.AttachTo = d.program, dispatcher.Function(index)
		return nil
	}}
}

func (d *dispatched) connect(index int, p *ebpf.Program) error {
	l, err := link.AttachFreplace(nil, "", p) // the function that it was loaded for
	if err != nil {
		return fmt.Errorf("replace %s of the dispatcher: %w", dispatcher.Function(index), err)
	}
	d.links = append(d.links, l)
	return nil
}

func (d *dispatched) heads([]*ebpf.Program) []*ebpf.Program { return []*ebpf.Program{d.program} }

func (d *dispatched) verify(want []ebpf.ProgramID) error {
	if len(d.links) != len(want) {
		return fmt.Errorf("the dispatcher has %d members, not %d", len(d.links), len(want))
	}
	target, err := hook.ProgramIDs(d.heads(nil))
	if err != nil {
		return err
	}
	functions, err := d.functions()
	if err != nil {
		return err
	}
	for i, l := range d.links {
		info, err := l.Info()
		if err != nil {
			return fmt.Errorf("ask for the link of member %d: %w", i, err)
		}
		if info.Program != want[i] {
			return fmt.Errorf("%s of the dispatcher is program %d, not %d", dispatcher.Function(i), info.Program, want[i])
		}
		t := info.Tracing()
		if t == nil || t.TargetObjectId == 0 { // 5.10 tells no more
			continue
		}
		if ebpf.ProgramID(t.TargetObjectId) != target[0] || btf.TypeID(t.TargetBtfId) != functions[i] {
			return fmt.Errorf("member %d replaces another function than %s of the dispatcher", i, dispatcher.Function(i))
		}
	}
	return nil
}

// functions are the ids of the functions that members replace.
func (d *dispatched) functions() (ids []btf.TypeID, err error) {
	handle, err := d.program.Handle()
	if err != nil {
		return nil, fmt.Errorf("ask for the dispatcher's type information: %w", err)
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return nil, fmt.Errorf("read the dispatcher's type information: %w", err)
	}
	for i := range d.links {
		var fn *btf.Func
		if err := types.TypeByName(dispatcher.Function(i), &fn); err != nil {
			return nil, err
		}
		id, err := types.TypeID(fn)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (d *dispatched) pins() map[string]pinner {
	pins := map[string]pinner{dispatcherPin: d.program}
	for i, l := range d.links {
		pins[numbered(linkPin, i)] = l
	}
	return pins
}

func (d *dispatched) Close() error {
	errs := []error{d.program.Close()}
	for _, l := range d.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// callable tells why a member's program cannot take the place of a function.
func (m *Member) callable() error {
	p, err := m.program(hook.XDP)
	if err != nil {
		return err
	}
	if len(p.Instructions) == 0 || btf.FuncMetadata(&p.Instructions[0]) == nil {
		return fmt.Errorf("the object has no type information (BTF) about function %s", p.Name)
	}
	for name, used := range only(m.Object, p.Name).Maps {
		if used.Type == ebpf.ProgramArray {
			return fmt.Errorf("function %s makes tail calls, by map %s", p.Name, name)
		}
	}
	return nil
}

// replaces remembers that the kernel was seen to replace functions.
var replaces atomic.Bool

// probeDispatcher asks the kernel whether it can replace functions of XDP programs, by doing it. Some kernels
// lack the type of programs, others the means to do it on their CPU.
func probeDispatcher() error {
	if replaces.Load() {
		return nil
	}
	g, err := Build(hook.XDP, Dispatcher, []Member{Returning(hook.XDP, "weir_probe", hook.XDPDrop)}, nil)
	if err != nil {
		return fmt.Errorf("this kernel cannot replace functions of XDP programs: %w", err)
	}
	defer g.Close()
	const frame = 64 // bytes
	v, _, err := g.Heads()[0].Test(make([]byte, frame))
	if err != nil {
		return fmt.Errorf("try a dispatcher: %w", err)
	}
	if hook.Verdict(v) != hook.XDPDrop {
		return errors.New("this kernel does not call the function that replaces one of an XDP program")
	}
	replaces.Store(true)
	return nil
}
