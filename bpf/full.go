package bpf

import (
	"errors"
	"fmt"
)

// Recheck lets the next packet that needs a place in a table try for one, whatever the packet path
// has found before. It is for those who delete from the tables without Delete, and bounds how long an
// error can last where the kernel says that a table is full that is not: on a machine with a weak memory order, or
// when a lock of the table cannot be had for long.
func (d *Datapath) Recheck() error {
	if err := errors.Join(d.objs.Full4.Set(uint64(0)), d.objs.Full6.Set(uint64(0))); err != nil {
		return fmt.Errorf("look for room anew: %w", err)
	}
	return nil
}

// Refusals is how many insertions the kernel has refused although the table had room, since the datapath
// was loaded: on 5.11 to 6.14 when a packet interrupts a system call that is about to lock a part of the
// table (EBUSY). Such packets are handed over, not lost.
func (d *Datapath) Refusals() (uint64, error) {
	var n uint64
	if err := d.objs.Refusals.Get(&n); err != nil {
		return 0, fmt.Errorf("read how many insertions were refused: %w", err)
	}
	return n, nil
}

// Undeleted is how many deletions the kernel has refused since the datapath was loaded, for the same
// reason. The next sweep deletes such entries.
func (d *Datapath) Undeleted() (uint64, error) {
	var n uint64
	if err := d.objs.Undeleted.Get(&n); err != nil {
		return 0, fmt.Errorf("read how many deletions were refused: %w", err)
	}
	return n, nil
}

// SetAlarm makes the next packet that finds no place in its table ring the bell, once.
func (d *Datapath) SetAlarm(on bool) error {
	if err := d.objs.FullAlarm.Set(bit(on)); err != nil {
		return fmt.Errorf("set the alarm for full tables: %w", err)
	}
	return nil
}

// Alarm tells whether the alarm is still set: no packet has gone without a place since.
func (d *Datapath) Alarm() (bool, error) {
	var on uint8
	if err := d.objs.FullAlarm.Get(&on); err != nil {
		return false, fmt.Errorf("read the alarm for full tables: %w", err)
	}
	return on != 0, nil
}

// Empty deletes all connections, for benchmarks and tests.
func (d *Datapath) Empty() error {
	if err := errors.Join(empty[weirKey4](d.objs.Conns4), empty[weirKey6](d.objs.Conns6),
		d.placeMilestones(), d.Recheck()); err != nil {
		return fmt.Errorf("empty the tables: %w", err)
	}
	return nil
}
