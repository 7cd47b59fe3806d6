package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// shared is an array map whose items user space and programs see in the same memory.
type shared[T any] struct {
	memory []byte
	items  []T
}

// share maps a whole array.
func share[T any](m *ebpf.Map) (shared[T], error) { return sharePart[T](m, 0, int(m.MaxEntries())) }

// sharePart maps n items of an array from one on, which begins a page.
func sharePart[T any](m *ebpf.Map, first, n int) (shared[T], error) {
	size := int(unsafe.Sizeof(*new(T)))
	memory, err := unix.Mmap(m.FD(), int64(first*size), n*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return shared[T]{}, fmt.Errorf("map %v: %w", m, err)
	}
	return shared[T]{memory, unsafe.Slice((*T)(unsafe.Pointer(&memory[0])), n)}, nil
}

func (s *shared[T]) close() error {
	if s.memory == nil {
		return nil
	}
	return unix.Munmap(s.memory)
}

// slotWindow is how many slots are mapped at a time, 2 or 3 MB. They begin a page, as 2^15 times any size in
// words does.
const slotWindow = 1 << 15

// slots are the fast path's slots of a family, as user space sees them. The kernel reckons what is mapped to the
// memory of this process: when they are many, only those are that are just looked at.
type slots[T any] struct {
	m    *ebpf.Map
	kept shared[T] // all of them, when they are few
}

func shareSlots[T any](m *ebpf.Map) (s slots[T], err error) {
	s.m = m
	if m.MaxEntries() <= slotWindow {
		s.kept, err = share[T](m)
	}
	return s, err
}

// each shows all slots, in parts.
func (s *slots[T]) each(fn func(first int, part []T)) error {
	if s.kept.items != nil {
		fn(0, s.kept.items)
		return nil
	}
	for first, all := 0, int(s.m.MaxEntries()); first < all; first += slotWindow {
		w, err := sharePart[T](s.m, first, min(slotWindow, all-first))
		if err != nil {
			return fmt.Errorf("look at slots: %w", err)
		}
		fn(first, w.items)
		if err := w.close(); err != nil {
			return fmt.Errorf("look at slots: %w", err)
		}
	}
	return nil
}

func (s *slots[T]) close() error { return s.kept.close() }

// slot is what user space looks at in a slot: that of either family.
type slot struct {
	family uint8
	at     int
	life   uint8
	hook   uint16
	dirty  bool // has counted what the table does not have
	until  int64
}

func slotOf(family uint8, at int, s *weirSlot) slot {
	return slot{family, at, s.Life, uint16(s.Name >> 32), // slot_name() in cache.h
		s.Packets != s.TakenPackets || s.Bytes != s.TakenBytes, int64(s.Until)}
}

// eachSlot shows the slots that are in use.
func (d *Datapath) eachSlot(fn func(slot)) error {
	err := d.cache4.each(func(first int, part []weirSlot4) {
		for i := range part {
			if s := &part[i].Slot; s.Life != slotFree {
				fn(slotOf(4, first+i, s))
			}
		}
	})
	if err != nil {
		return err
	}
	return d.cache6.each(func(first int, part []weirSlot6) {
		for i := range part {
			if s := &part[i].Slot; s.Life != slotFree {
				fn(slotOf(6, first+i, s))
			}
		}
	})
}

// ClearSlots forgets what the slots hold. Nothing may be attached.
func (d *Datapath) ClearSlots() error {
	return errors.Join(
		d.cache4.each(func(_ int, part []weirSlot4) { clear(part) }),
		d.cache6.each(func(_ int, part []weirSlot6) { clear(part) }))
}
