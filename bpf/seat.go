package bpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/weirnet/weir/bpf/tc"
)

// seat is where a stub stands on a hook.
type seat interface {
	// put puts a program there, in the place of the one before.
	put(*ebpf.Program) error
	// leave takes off what is there. A filter has to be left in the hook's network namespace.
	leave() error
}

// linkSeat is a link, and where it is pinned, if that is anywhere.
type linkSeat struct {
	hook *Hook
	mode string
	pin  string
	link link.Link // nil: it is made yet
}

func (s *linkSeat) put(p *ebpf.Program) (err error) {
	if s.link != nil {
		return s.link.Update(p)
	}
	if s.link, err = newLink(s.hook, s.mode, p); err != nil || s.pin == "" {
		return err
	}
	if err := removePin(s.pin); err != nil {
		return err
	}
	return s.link.Pin(s.pin)
}

func (s *linkSeat) leave() error {
	if s.link == nil {
		return nil
	}
	return errors.Join(removePin(s.pin), s.link.Close())
}

// filterSeat is a place among the tc filters of a hook.
type filterSeat struct {
	hook  tc.Hook
	place Place
}

func (s *filterSeat) put(p *ebpf.Program) error { return s.hook.Put(s.place, p) }

func (s *filterSeat) leave() error { return s.hook.Delete(s.place) }

// slotSeat is the one slot of a program array, through which a chain calls what is in it.
type slotSeat struct{ slot *ebpf.Map }

func newSlotSeat(slot *ebpf.Map) (*slotSeat, error) {
	own, err := slot.Clone()
	if err != nil {
		return nil, err
	}
	return &slotSeat{own}, nil
}

func (s *slotSeat) put(p *ebpf.Program) error {
	if err := s.slot.Put(uint32(0), p); err != nil {
		return fmt.Errorf("put the program into its slot of a chain: %w", err)
	}
	return nil
}

func (s *slotSeat) leave() error { return errors.Join(EmptySlot(s.slot), s.slot.Close()) }

// EmptySlot takes a program out of its slot of a chain, in which packets go on without it.
func EmptySlot(slot *ebpf.Map) error {
	if err := slot.Delete(uint32(0)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("empty a slot of a chain: %w", err)
	}
	return nil
}

func removePin(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Move is a stub on its way from one seat on a hook to another. It is in both, and sees a packet that comes to both
// where that comes first: it leaves a mark in skb->cb[3]. One of the methods is to be called, where a filter is one of
// the seats in the hook's network namespace, on a locked thread.
type Move struct {
	from, to    seat
	plain, once *ebpf.Program
	settle      func(moved bool) // tells which seat it is
}

// startMove puts a stub into a second seat. to makes it, with a program that it is given.
func startMove(from seat, plain *ebpf.Program, s stubSpec, to func(*ebpf.Program) (seat, error)) (*Move, error) {
	s.mark = 1 + rand.Uint32N(1<<31-1)
	once, err := s.load()
	if err != nil {
		return nil, err
	}
	m := &Move{from: from, plain: plain, once: once}
	err = from.put(once)
	if err == nil {
		if err = Grace(); err == nil { // every packet of before is marked, or has gone
			m.to, err = to(once)
		}
	}
	if err != nil {
		return nil, errors.Join(err, from.put(plain), once.Close())
	}
	return m, nil
}

// Conclude leaves the seat of before.
func (m *Move) Conclude() error { return m.end(m.from, m.to, true) }

// Undo leaves the new seat.
func (m *Move) Undo() error { return m.end(m.to, m.from, false) }

// Drop leaves the new seat, when the one of before is left already.
func (m *Move) Drop() error { return errors.Join(m.to.leave(), m.once.Close()) }

func (m *Move) end(leave, stay seat, moved bool) error {
	err := errors.Join(leave.leave(), Grace(), stay.put(m.plain), m.once.Close())
	m.settle(moved)
	return err
}

// stubSpec is a program that says which hook a packet comes from, and jumps on.
type stubSpec struct {
	name   string
	number uint16
	jump   *ebpf.Map
	mark   uint32 // what it leaves in packets, and lets them pass by which; 0: nothing
}

// Offsets in struct __sk_buff (linux/bpf.h).
const (
	cb3 = 60 // cb[3]
	cb4 = 64
)

func (s stubSpec) load() (*ebpf.Program, error) {
	var code asm.Instructions
	if s.mark != 0 {
		code = asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, cb3, asm.Word),
			asm.JEq.Imm(asm.R2, int32(s.mark), "next"),
			asm.Mov.Imm(asm.R2, int32(s.mark)),
			asm.StoreMem(asm.R1, cb3, asm.R2, asm.Word),
		}
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: s.name, Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: append(code,
			asm.Mov.Imm(asm.R2, int32(s.number)),
			asm.StoreMem(asm.R1, cb4, asm.R2, asm.Word),
			asm.LoadMapPtr(asm.R2, s.jump.FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, -1).WithSymbol("next"), // TCX_NEXT, TC_ACT_UNSPEC
			asm.Return(),
		),
	})
	if err != nil {
		return nil, fmt.Errorf("load the stub of hook %d: %w", s.number, err)
	}
	return p, nil
}

// NewStub loads a program that puts a hook's number into skb->cb[4] and jumps to the first
// program of a program array.
func NewStub(name string, number uint16, jump *ebpf.Map) (*ebpf.Program, error) {
	return stubSpec{name: name, number: number, jump: jump}.load()
}
