package hook

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/bpf/tc"
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

func (p *clsact) place(priority uint16) tc.Place {
	return tc.Place{Name: "weir_chain", Priority: priority, Handle: clsactHandle}
}

// State looks at the filters.
func (p *clsact) State() (State, error) {
	s, _, err := p.look()
	return s, err
}

// look also returns our filter, nil when there is none.
func (p *clsact) look() (s State, own *netlink.BpfFilter, err error) {
	filters, err := p.tc().Filters()
	if err != nil {
		return s, nil, err
	}
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
	s, own, err := p.look()
	if err != nil {
		return err
	}
	if !slices.Equal(s.Own, was) {
		return ErrChanged
	}
	if own == nil {
		return p.add(to[0])
	}
	return p.tc().Swap(p.place(own.Priority), to[0])
}

// add makes the filter.
func (p *clsact) add(program *ebpf.Program) error {
	priority := uint16(priorityTail)
	switch p.Place.At {
	case Head:
		priority = priorityHead
	case Before, After:
		return fmt.Errorf("place %s %s: filters of clsact have priorities; want head or tail",
			p.Place.At, p.Place.Program)
	}
	return p.tc().Add(p.place(priority), program)
}

// Remove takes the filter off. The qdisc stays: others may use it.
func (p *clsact) Remove(was []ebpf.ProgramID) error {
	s, own, err := p.look()
	if err != nil || own == nil {
		return err
	}
	if !slices.Equal(s.Own, was) {
		return ErrChanged
	}
	return p.tc().Delete(p.place(own.Priority))
}
