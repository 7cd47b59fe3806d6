package bpf

import (
	"fmt"
	"math/bits"
	"os"
	"strings"
	"time"
)

// Sizes of the fast path when nothing is said. Flows spread over the CPUs, so that all of them
// together need the slots once; 2^18 are 16 MiB for IPv4 and 22 MiB for IPv6.
const (
	allSlots     = 1 << 18
	minSlots     = 1 << 10 // of a CPU
	defaultAfter = 16
)

// MaxSlots bounds Options.Slots.
const MaxSlots = 1 << 20

// The most that a slot counts before it asks the table. A slot keeps the lower 32 bits of its last time,
// which are 4.3 s.
const maxSlotTime = 250 * time.Millisecond

// coldAfter is how long a slot has not asked the table when it is taken from its leg.
const coldAfter = time.Second

// The values of enum slot_life in cache.h.
const (
	slotFree   = 0
	slotOpen   = 1
	slotClosed = 2
)

// slotsFor returns how many slots each CPU has for a family.
func slotsFor(opts *Options, cpus int) (uint32, error) {
	if opts.Slots < 0 || realtime() {
		return 0, nil
	}
	if opts.Slots > 0 {
		if opts.Slots&(opts.Slots-1) != 0 || opts.Slots < 2 || opts.Slots > MaxSlots {
			return 0, fmt.Errorf("%d slots: want a power of two from 2 to %d", opts.Slots, MaxSlots)
		}
		return uint32(opts.Slots), nil
	}
	n := max(minSlots, 1<<(bits.Len(uint(allSlots/cpus))-1))
	return uint32(min(n, 1<<bits.Len(uint(2*opts.Table-1)))), nil
}

// realtime tells whether the kernel is PREEMPT_RT, on which a CPU can leave the packet path in the
// midst of a packet for another one, so that a slot would have two writers.
func realtime() bool {
	data, err := os.ReadFile("/sys/kernel/realtime")
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

// slotTime is how long a slot may count without the table: little enough that nothing which
// depends on the time of a connection's last packet can be missed.
func slotTime(s *Settings) time.Duration {
	t := min(maxSlotTime, s.Takeover/4)
	for _, l := range s.Lifetimes {
		if l > 0 {
			t = min(t, l/4)
		}
	}
	return t
}

// slot is what user space looks at in a slot: that of either family.
type slot struct {
	family uint8
	at     int
	life   uint8
	dirty  bool // has counted what the table does not have
	until  int64
}

// eachSlot shows the slots that are in use.
func (d *Datapath) eachSlot(fn func(slot)) {
	for i := range d.cache4.items {
		if s := &d.cache4.items[i].Slot; s.Life != slotFree {
			fn(slot{4, i, s.Life, s.Packets != s.TakenPackets || s.Bytes != s.TakenBytes,
				int64(s.Until)})
		}
	}
	for i := range d.cache6.items {
		if s := &d.cache6.items[i].Slot; s.Life != slotFree {
			fn(slot{6, i, s.Life, s.Packets != s.TakenPackets || s.Bytes != s.TakenBytes,
				int64(s.Until)})
		}
	}
}

// slotWork is a slot and what is to be done to it.
type slotWork struct {
	op     uint8
	family uint8
	at     int
}

func (d *Datapath) workSlots(all []slotWork) error {
	fill := func(i int, w *weirWork) {
		w.Op, w.Family, w.Id = all[i].op, all[i].family, uint64(all[i].at)
	}
	return d.run(len(all), fill, func(int, *weirWork, *weirConn) error { return nil })
}

// folding is the first walk of a pass: what CPUs have counted in their slots goes into the tables, and
// slots that are not used any more are closed.
type folding struct{ left []slotWork }

func (d *Datapath) newFolding(now int64) *folding {
	f := &folding{left: d.folds[:0]}
	d.closed = 0
	d.eachSlot(func(s slot) {
		cold := s.life == slotOpen && now-s.until > int64(coldAfter)
		if cold || s.life == slotClosed {
			d.closed++
		}
		switch {
		case cold:
			f.left = append(f.left, slotWork{workClose, s.family, s.at})
		case s.dirty:
			f.left = append(f.left, slotWork{workFold, s.family, s.at})
		}
	})
	d.folds = f.left
	return f
}

func (f *folding) next(p *Pass) (more bool, err error) {
	n := min(chunk, len(f.left))
	err = p.d.workSlots(f.left[:n])
	f.left = f.left[n:]
	return len(f.left) > 0, err
}

// fold brings what CPUs have counted in their slots into the tables.
func (d *Datapath) fold() error {
	folds := d.folds[:0]
	d.eachSlot(func(s slot) {
		if s.dirty {
			folds = append(folds, slotWork{workFold, s.family, s.at})
		}
	})
	d.folds = folds
	return d.workSlots(folds)
}

// Crowded tells whether so many slots were closed at the last pass that Settle is worth its wait.
func (d *Datapath) Crowded() bool { return 8*d.closed > int(d.slots) }

// Settle waits until every CPU has left the packet path once, and then gives back the slots that
// were closed before. What they have counted is in the tables then, also in connections that are
// retired.
func (d *Datapath) Settle() error {
	closed := d.folds[:0]
	d.eachSlot(func(s slot) {
		if s.life == slotClosed {
			closed = append(closed, slotWork{workFree, s.family, s.at})
		}
	})
	d.folds = closed
	if err := d.Grace(); err != nil {
		return err
	}
	return d.workSlots(closed)
}

// setSlots says how long slots count without the table; 0 stops the fast path.
func (d *Datapath) setSlots(t time.Duration) error {
	if err := d.objs.SlotNs.Set(uint64(t)); err != nil {
		return fmt.Errorf("set the time of slots: %w", err)
	}
	return nil
}

// ClearSlots forgets what the slots hold. Nothing may be attached.
func (d *Datapath) ClearSlots() {
	clear(d.cache4.items)
	clear(d.cache6.items)
}

// drainSlots takes all slots from their legs, for a change that slots do not see by themselves.
func (d *Datapath) drainSlots() error {
	if err := d.setSlots(0); err != nil {
		return err
	}
	if d.attached > 0 || d.Adopted { // a packet may be opening one
		if err := d.Grace(); err != nil {
			return err
		}
	}
	closing := d.folds[:0]
	d.eachSlot(func(s slot) {
		closing = append(closing, slotWork{workClose, s.family, s.at})
	})
	d.folds = closing
	if len(closing) == 0 {
		return nil
	}
	if err := d.workSlots(closing); err != nil {
		return err
	}
	return d.Settle()
}
