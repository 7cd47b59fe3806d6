package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Beside is a program that stands beside the packet path on a hook and sees the same packets: an
// optional feature. It has attachments of its own and leaves packets as they are. Nothing of it
// is pinned: a tc filter outlives its agent that is killed, until RemoveBeside or the next
// AttachBeside in its place.
type Beside struct {
	Hook
	place Place
	spec  stubSpec
	stub  *ebpf.Program
	seat  seat
}

// AttachBeside puts the first program of a program array on a hook, which the program finds by
// its number in skb->cb[4]. It must be called in the hook's network namespace, on a locked thread.
func AttachBeside(h Hook, p Place, number uint16, jump *ebpf.Map) (*Beside, error) {
	b := &Beside{Hook: h, place: p, spec: stubSpec{name: fmt.Sprintf("%s_%d", p.Name, number), number: number, jump: jump}}
	b.Slot = nil
	var err error
	if b.stub, err = b.spec.load(); err != nil {
		return nil, err
	}
	if h.Slot != nil { // a killed agent may have been elsewhere
		err = RemoveBeside(h, p)
	}
	if err == nil {
		b.seat, err = b.attach(h.Slot, b.stub)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s to interface %d: %w", p.Name, h.Interface, err),
			b.stub.Close())
	}
	return b, nil
}

// attach puts a stub into a slot, or on the hook when that is nil.
func (b *Beside) attach(slot *ebpf.Map, stub *ebpf.Program) (seat, error) {
	if slot != nil {
		s, err := newSlotSeat(slot)
		if err != nil {
			return nil, err
		}
		if err := s.put(stub); err != nil {
			return nil, errors.Join(err, s.slot.Close())
		}
		return s, nil
	}
	if b.Mode != TC {
		s := &linkSeat{hook: &b.Hook, mode: b.Mode}
		err := s.put(stub)
		if err == nil || b.Mode != "" || !errors.Is(err, ebpf.ErrNotSupported) {
			return s, err
		}
	}
	s := &filterSeat{b.tc(), b.place}
	return s, s.put(stub)
}

// Move gets the program ready to be in a slot of a chain, or in none when that is nil. It must be called in the
// hook's network namespace, on a locked thread.
func (b *Beside) Move(slot *ebpf.Map) (*Move, error) {
	m, err := startMove(b.seat, b.stub, b.spec, func(once *ebpf.Program) (seat, error) { return b.attach(slot, once) })
	if err != nil {
		return nil, fmt.Errorf("move %s on interface %d: %w", b.place.Name, b.Interface, err)
	}
	m.settle = func(moved bool) {
		if moved {
			b.seat = m.to
		}
	}
	return m, nil
}

// Detach takes the program off the hook. When it is a filter, it must be called in the hook's network
// namespace, on a locked thread. A hook whose interface is gone is already off.
func (b *Beside) Detach() error {
	if err := errors.Join(b.seat.leave(), b.stub.Close()); err != nil {
		return fmt.Errorf("detach %s from interface %d: %w", b.place.Name, b.Interface, err)
	}
	return nil
}

// RemoveBeside removes the tc filter that a killed agent may have left in a place. It must be called
// in the hook's network namespace, on a locked thread.
func RemoveBeside(h Hook, p Place) error {
	if err := h.tc().Delete(p); err != nil {
		return fmt.Errorf("remove %s from interface %d: %w", p.Name, h.Interface, err)
	}
	return nil
}
