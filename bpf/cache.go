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

// slotWork is a slot and what is to be done to it.
type slotWork struct {
	op     uint8
	family uint8
	at     int
}

// pickSlots chooses among the slots that are in use: choose returns what is to be done to one, 0 for nothing. The
// list is valid until the next one.
func (d *Datapath) pickSlots(choose func(slot) (op uint8)) ([]slotWork, error) {
	d.picked = d.picked[:0]
	err := d.eachSlot(func(s slot) {
		if op := choose(s); op != 0 {
			d.picked = append(d.picked, slotWork{op, s.family, s.at})
		}
	})
	return d.picked, err
}

func (d *Datapath) workSlots(all []slotWork) error {
	fill := func(i int, w *weirWork) {
		w.Op, w.Family, w.Id = all[i].op, all[i].family, uint64(all[i].at)
	}
	return d.run(len(all), fill, func(int, *weirWork, *weirConn) error { return nil })
}

// folding is the first walk of a pass: what CPUs have counted in their slots goes into the tables, and
// slots that are not used any more are closed.
type folding struct {
	left  []slotWork
	begun bool
}

// begin looks for the slots that something is to be done to.
func (f *folding) begin(d *Datapath, now int64) (err error) {
	f.begun, d.closed = true, 0
	f.left, err = d.pickSlots(func(s slot) uint8 {
		cold := s.life == slotOpen && now-s.until > int64(coldAfter)
		if cold || s.life == slotClosed {
			d.closed++
		}
		switch {
		case cold:
			return workClose
		case s.dirty:
			return workFold
		}
		return 0
	})
	return err
}

func (f *folding) next(p *Pass) (more bool, err error) {
	if !f.begun {
		if err := f.begin(p.d, p.want.Now); err != nil {
			return false, err
		}
	}
	n := min(chunk, len(f.left))
	err = p.d.workSlots(f.left[:n])
	f.left = f.left[n:]
	return len(f.left) > 0, err
}

// fold brings what CPUs have counted in their slots into the tables.
func (d *Datapath) fold() error {
	dirty, err := d.pickSlots(func(s slot) uint8 {
		if s.dirty {
			return workFold
		}
		return 0
	})
	if err != nil {
		return err
	}
	return d.workSlots(dirty)
}

// Crowded tells whether so many slots were closed at the last pass that Settle is worth its wait.
func (d *Datapath) Crowded() bool { return 8*d.closed > int(d.slots) }

// Settle waits until every CPU has left the packet path once, and then gives back the slots that
// were closed before. What they have counted is in the tables then, also in connections that are
// retired.
func (d *Datapath) Settle() error {
	closed, err := d.pickSlots(func(s slot) uint8 {
		if s.life == slotClosed {
			return workFree
		}
		return 0
	})
	if err != nil {
		return err
	}
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
	closing, err := d.pickSlots(func(slot) uint8 { return workClose })
	if err != nil || len(closing) == 0 {
		return err
	}
	if err := d.workSlots(closing); err != nil {
		return err
	}
	return d.Settle()
}
