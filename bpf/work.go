package bpf

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// WorkItems is how many connections one call of Acknowledge, Retire, Read or Delete hands to the
// kernel at a time; longer slices are split.
const WorkItems = 2048

// The values of enum work_op and enum work_result in conn.h.
const (
	workAck    uint8 = 1
	workRetire uint8 = 2
	workRead   uint8 = 3
	workDelete uint8 = 4

	workDone uint8 = 2
)

// Mark says what of a connection has been reported.
type Mark struct {
	Entry    Entry // as Walk showed it; its key and flow id are used
	Reported [2]Count
	At       int64 // ns, when
	// Done is the answer: false when the connection has ended meanwhile. What it had not
	// reported then comes as an event, measured from the mark before this one.
	Done bool
}

// Acknowledge stores in each connection what has been reported of it.
func (d *Datapath) Acknowledge(marks []Mark) error {
	fill := func(i int, w *weirWork) {
		w.Op = workAck
		w.conn().ReportedAt = uint32(marks[i].At >> tickShift)
		for leg, c := range marks[i].Reported {
			w.conn().Reported[leg] = weirCount{Packets: c.Packets, Bytes: c.Bytes}
		}
		w.setKey(&marks[i].Entry)
	}
	done := func(i int, w *weirWork) { marks[i].Done = w.Result == workDone }
	return d.run(len(marks), fill, done)
}

// Candidate is a connection to retire, and the answer.
type Candidate struct {
	Entry Entry // in: as Walk showed it; after Read: as it ended
	// Force retires it although it has not expired.
	Force bool
	// Done is the answer to the last step. When it is false, a packet has come in between: the
	// connection lives on, or what it had not reported comes as an event.
	Done bool
	// End is, after Read, why the connection ended (IPFIX flowEndReason).
	End uint8
}

// Retire is the first step of garbage collection (README section 6): no packet counts any more
// in a connection for which Done becomes true. Wait for Grace before Read.
func (d *Datapath) Retire(cs []Candidate) error {
	return d.step(workRetire, cs, nil)
}

// Read reads the final counters of retired connections.
func (d *Datapath) Read(cs []Candidate) error {
	return d.step(workRead, cs, func(c *Candidate, w *weirWork) {
		c.End = w.End
		c.Entry.setConn(w.conn())
	})
}

// Delete deletes retired connections.
func (d *Datapath) Delete(cs []Candidate) error {
	return d.step(workDelete, cs, nil)
}

func (d *Datapath) step(op uint8, cs []Candidate, done func(*Candidate, *weirWork)) error {
	fill := func(i int, w *weirWork) {
		w.Op = op
		if cs[i].Force {
			w.Force = 1
		}
		w.setKey(&cs[i].Entry)
	}
	return d.run(len(cs), fill, func(i int, w *weirWork) {
		cs[i].Done = w.Result == workDone
		if cs[i].Done && done != nil {
			done(&cs[i], w)
		}
	})
}

// conn is the connection in the item, whose type hides it (struct work in conn.h).
func (w *weirWork) conn() *weirConn { return (*weirConn)(unsafe.Pointer(&w.Conn)) }

func (w *weirWork) setKey(e *Entry) {
	w.Family = e.Family
	w.Key = e.key
	w.Id = e.Flow
}

// run hands n items to the collect program, which is run once for each of them in one system
// call for WorkItems.
func (d *Datapath) run(n int, fill, done func(int, *weirWork)) error {
	for first := 0; first < n; first += WorkItems {
		count := min(WorkItems, n-first)
		for i := range count {
			var w weirWork
			fill(first+i, &w)
			if _, err := d.works.WriteAt(bytesOf(&w), workOffset(i)); err != nil {
				return fmt.Errorf("write work item %d: %w", i, err)
			}
		}
		if err := d.collect(count); err != nil {
			return err
		}
		for i := range count {
			var w weirWork
			if _, err := d.works.ReadAt(bytesOf(&w), workOffset(i)); err != nil {
				return fmt.Errorf("read work item %d: %w", i, err)
			}
			done(first+i, &w)
		}
	}
	return nil
}

func (d *Datapath) collect(items int) error {
	if err := d.objs.WorkCount.Set(uint32(items)); err != nil {
		return fmt.Errorf("set the number of work items: %w", err)
	}
	if err := d.objs.WorkNext.Set(uint32(0)); err != nil {
		return fmt.Errorf("set the first work item: %w", err)
	}
	// A test run wants a frame; 14 bytes are the least.
	opts := &ebpf.RunOptions{Data: make([]byte, 14), Repeat: uint32(items)}
	if _, err := d.objs.WeirCollect.Run(opts); err != nil {
		return fmt.Errorf("run the collect program: %w", err)
	}
	return nil
}

func workOffset(i int) int64 { return int64(i) * int64(unsafe.Sizeof(weirWork{})) }

func bytesOf(w *weirWork) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(w)), unsafe.Sizeof(*w))
}
