package bpf

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Off tells whether the hook with a number was taken off. Connections may still name it.
func (d *Datapath) Off(number uint16) bool {
	_, left := d.left[number]
	return left || d.hooks[number].Flags&hookOff != 0
}

// markOff remembers that a hook was taken off, also for the next agent.
func (d *Datapath) markOff(number uint16) error {
	h := d.hooks[number]
	h.Flags |= hookOff
	if err := d.objs.Hooks.Put(uint32(number), h); err != nil {
		return fmt.Errorf("write hook %d: %w", number, err)
	}
	d.hooks[number] = h
	delete(d.left, number)
	return nil
}

// Reclaim gives back the numbers of hooks that were taken off, as far as nothing names them any more, and
// returns them; Counters of FormerHooks has what they have counted. drain is to report all events:
// they name hooks, too. It goes through both tables and takes two grace periods, so it is for when
// numbers run out.
func (d *Datapath) Reclaim(drain func() error) ([]uint16, error) {
	if d.pending() { // the tables that are to be moved name hooks, too
		return nil, nil
	}
	if err := d.findGone(); err != nil {
		return nil, err
	}
	free := d.takenOff()
	if len(free) == 0 {
		return nil, nil
	}
	if err := d.dropSlots(free); err != nil {
		return nil, err
	}
	// No packet comes from these hooks any more. Connections name them no more once they do not; those
	// that were just replaced do so in an event, which is sent by the end of a grace period.
	if err := d.sparse(free); err != nil {
		return nil, err
	}
	if err := errors.Join(d.Grace(), drain()); err != nil {
		return nil, err
	}
	var given []uint16
	for number := range free {
		if err := d.giveBack(number); err != nil {
			return given, err
		}
		given = append(given, number)
	}
	return given, nil
}

// findGone looks which of the tc filters that were left are gone by now, with their namespaces.
func (d *Datapath) findGone() error {
	for number, id := range d.left {
		if id == 0 {
			continue
		}
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			if err := d.markOff(number); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			p.Close()
		}
	}
	return nil
}

// numbers is a set of hook numbers.
type numbers map[uint16]bool

func (d *Datapath) takenOff() numbers {
	all := numbers{}
	for number, h := range d.hooks {
		if h.Flags&hookOff != 0 && number != FormerHooks {
			all[number] = true
		}
	}
	return all
}

// dropSlots takes the slots of hooks from their legs. When it returns, no CPU is on its way from one
// of these hooks.
func (d *Datapath) dropSlots(of numbers) error {
	open, err := d.pickSlots(func(s slot) uint8 {
		if s.life == slotOpen && of[s.hook] {
			return workClose
		}
		return 0
	})
	if err != nil {
		return err
	}
	if err := d.workSlots(open); err != nil {
		return err
	}
	return d.Settle()
}

// sparse takes those numbers out that a connection names, whatever becomes of it just now. That takes
// batches: the iterator does not show connections that are being replaced.
func (d *Datapath) sparse(free numbers) error {
	if err := named(newBatch[weirKey4, weirConn4](d.objs.Conns4, 4, &d.batch4), free); err != nil {
		return err
	}
	return named(newBatch[weirKey6, weirConn6](d.objs.Conns6, 6, &d.batch6), free)
}

func named[K, V any](b *batch[K, V], free numbers) error {
	for {
		n, end, err := b.fill()
		if err != nil {
			return fmt.Errorf("look for hooks that connections name: %w", err)
		}
		for i := range n {
			c := connOf(b.family, unsafe.Pointer(&b.buf.values[i]))
			if c.Life == lifeDead {
				continue
			}
			for leg := range c.Leg {
				delete(free, c.Leg[leg].Owner)
				for _, other := range c.Hooks[leg] {
					delete(free, other)
				}
			}
		}
		if end {
			return nil
		}
		if b.endless() { // what was not read may name any of them
			clear(free)
			return nil
		}
	}
}

// giveBack frees a number. What its hook has counted is added to that of others first: whoever is killed
// in between leaves it counted twice, never not at all.
func (d *Datapath) giveBack(number uint16) error {
	var perCPU []weirHookStats
	var past, sum weirHookStats
	err := errors.Join(d.objs.Stats.Lookup(uint32(number), &perCPU), d.objs.Past.Lookup(uint32(number), &past),
		d.objs.Past.Lookup(uint32(FormerHooks), &sum))
	if err != nil {
		return fmt.Errorf("read the counters of hook %d: %w", number, err)
	}
	for _, s := range append(perCPU, past) {
		sum.add(&s)
	}
	if err := d.objs.Past.Put(uint32(FormerHooks), sum); err != nil {
		return fmt.Errorf("add the counters of hook %d to those of others: %w", number, err)
	}
	return d.release(number)
}

// Names tells whether a connection names a hook for which the answer is yes.
func (e *Entry) Names(hook func(uint16) bool) bool {
	for i := range e.Legs {
		l := &e.Legs[i]
		if l.Owner != 0 && hook(l.Owner) {
			return true
		}
		for _, other := range l.Hooks {
			if other != 0 && hook(other) {
				return true
			}
		}
	}
	return false
}
