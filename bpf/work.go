package bpf

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

const (
	// WorkItems is how many connections one call of Acknowledge, Retire, Read or Delete hands
	// to the kernel at a time; longer slices are split.
	WorkItems = 4096
	workRun   = 32 // WORK_RUN in conn.h
)

// The values of enum work_op and enum work_result in conn.h.
const (
	workAck    uint8 = 1
	workRetire uint8 = 2
	workRead   uint8 = 3
	workDelete uint8 = 4
	workForce  uint8 = 5
	workEvict  uint8 = 6
	workFold   uint8 = 7
	workClose  uint8 = 8
	workFree   uint8 = 9

	workDone uint8 = 2
)

// Key names a connection in its table.
type Key struct {
	Family uint8
	Flow   uint64
	key    weirKey6
}

// Mark says what of a connection has been reported.
type Mark struct {
	Key      Key
	Reported [2]Count
	At       int64 // ns, when
	// Done is the answer: false when the connection has ended meanwhile. What it had not
	// reported then comes as an event, measured from the mark before this one.
	Done bool
}

// Acknowledge stores in each connection what has been reported of it.
func (d *Datapath) Acknowledge(marks []Mark) error {
	fill := func(i int, w *weirWork) {
		m := &marks[i]
		w.Op = workAck
		w.ReportedAt = uint32(m.At >> tickShift)
		for leg, c := range m.Reported {
			w.Reported[leg].Packets, w.Reported[leg].Bytes = c.Packets, c.Bytes
		}
		w.setKey(&m.Key)
	}
	return d.run(len(marks), fill, func(i int, w *weirWork, _ *weirConn) error {
		marks[i].Done = w.Result == workDone
		return nil
	})
}

// Candidate is a connection to retire, and the answer.
type Candidate struct {
	Key Key
	// Force retires it although it has not expired.
	Force bool
	// Evict does so as long as it is unanswered; with Force, in any case.
	Evict bool
	// Done is the answer to the last step. When it is false, a packet has come in between: the
	// connection lives on, or what it had not reported comes as an event.
	Done bool
	// End is, after Read, why the connection ended (IPFIX flowEndReason).
	End uint8
	// Counted is, after Read, what it has counted.
	Counted [2]Count
}

// Retire is the first step of garbage collection (README section 6): no packet counts any more
// in a connection for which Done becomes true. Wait for Grace before Read.
func (d *Datapath) Retire(cs []Candidate) error {
	return d.step(cs, func(c *Candidate) uint8 {
		switch {
		case c.Force:
			return workForce
		case c.Evict:
			return workEvict
		}
		return workRetire
	}, nil)
}

// Read reads the final counters of retired connections, and shows each as it ended. The entry is
// valid during the call, which must not use the datapath.
func (d *Datapath) Read(cs []Candidate, fn func(*Candidate, *Entry) error) error {
	var e Entry
	op := func(*Candidate) uint8 { return workRead }
	return d.step(cs, op, func(c *Candidate, w *weirWork, conn *weirConn) error {
		e.set(c.Key.Family, unsafe.Pointer(&c.Key.key), conn)
		c.End = w.End
		c.Counted = [2]Count{e.Legs[0].Count, e.Legs[1].Count}
		return fn(c, &e)
	})
}

// Delete deletes retired connections.
func (d *Datapath) Delete(cs []Candidate) error {
	return d.step(cs, func(*Candidate) uint8 { return workDelete }, nil)
}

func (d *Datapath) step(cs []Candidate, op func(*Candidate) uint8,
	done func(*Candidate, *weirWork, *weirConn) error) error {
	fill := func(i int, w *weirWork) {
		w.Op = op(&cs[i])
		w.setKey(&cs[i].Key)
	}
	return d.run(len(cs), fill, func(i int, w *weirWork, conn *weirConn) error {
		cs[i].Done = w.Result == workDone
		if cs[i].Done && done != nil {
			return done(&cs[i], w, conn)
		}
		return nil
	})
}

func (w *weirWork) setKey(k *Key) {
	w.Family = k.Family
	w.Key = k.key
	w.Id = k.Flow
}

// run hands n items to the collect program, in one system call for WorkItems of them. It fills in
// all that the item's operation reads, and then is shown the answers.
func (d *Datapath) run(n int, fill func(int, *weirWork),
	done func(int, *weirWork, *weirConn) error) error {
	for first := 0; first < n; first += WorkItems {
		works := d.works.items[:min(WorkItems, n-first)]
		for i := range works {
			fill(first+i, &works[i])
		}
		if err := d.collect(len(works)); err != nil {
			return err
		}
		for i := range works {
			c := (*weirConn)(unsafe.Pointer(&d.answers.items[i]))
			if err := done(first+i, &works[i], c); err != nil {
				return err
			}
		}
	}
	return nil
}

// frame is what a test run wants; 14 bytes are the least.
var frame = make([]byte, 14)

func (d *Datapath) collect(items int) error {
	if err := d.objs.WorkCount.Set(uint32(items)); err != nil {
		return fmt.Errorf("set the number of work items: %w", err)
	}
	if err := d.objs.WorkNext.Set(uint32(0)); err != nil {
		return fmt.Errorf("set the first work item: %w", err)
	}
	opts := &ebpf.RunOptions{Data: frame, Repeat: uint32((items + workRun - 1) / workRun)}
	if _, err := d.objs.WeirCollect.Run(opts); err != nil {
		return fmt.Errorf("run the collect program: %w", err)
	}
	return nil
}
