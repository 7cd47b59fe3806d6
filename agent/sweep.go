package agent

import (
	"fmt"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// sweeper drains the connection table and collects its garbage in one pass. The order of its
// steps is what makes reports complete: a record is written before the datapath is told that it
// was, so an agent that is killed in between reports twice,
// never not at all.
type sweeper struct {
	dp     *bpf.Datapath
	rec    *recorder
	active int64 // ns between two reports of a connection that goes on

	marks []bpf.Mark
	ends  []bpf.Candidate
	// late holds what was reported of connections that were replaced before the datapath could
	// be told; their last event is measured from there.
	late map[uint64]report
	// overflow adds up packets that found no room, per tuple and leg, over one sweep.
	overflow map[overflowKey]*bpf.Entry
	order    []overflowKey
}

// report is how far a connection was reported.
type report struct {
	counted [2]bpf.Count
	ended   bool // and that it has ended
}

type overflowKey struct {
	tuple bpf.Tuple
	leg   int
}

func newSweeper(dp *bpf.Datapath, rec *recorder, active int64) *sweeper {
	return &sweeper{dp: dp, rec: rec, active: active,
		late: map[uint64]report{}, overflow: map[overflowKey]*bpf.Entry{}}
}

// sweep makes one pass. With stop, every connection ends.
func (s *sweeper) sweep(now int64, stop bool) error {
	if err := s.walk(now, stop); err != nil {
		return err
	}
	if err := s.rec.sink.Flush(); err != nil {
		return err
	}
	if err := s.acknowledge(); err != nil {
		return err
	}
	if err := s.collect(now, stop); err != nil {
		return err
	}
	return s.events()
}

// walk reports connections that go on and finds those that have ended.
func (s *sweeper) walk(now int64, stop bool) error {
	s.marks, s.ends = s.marks[:0], s.ends[:0]
	return s.dp.Walk(func(e *bpf.Entry) error {
		if stop || s.expired(e, now) {
			// At the stop also what seems to have expired is forced: the datapath's clock may be
			// a tick behind, and there is no next sweep.
			s.ends = append(s.ends, bpf.Candidate{Entry: *e, Force: stop})
			return nil
		}
		news := e.Unreported(0).Packets + e.Unreported(1).Packets
		if news == 0 || !e.Due(now, s.active) {
			return nil
		}
		s.marks = append(s.marks, bpf.Mark{Entry: *e, At: now, Reported: counted(e)})
		return s.rec.connection(e, e.Reported, flow.EndActive)
	})
}

func (s *sweeper) expired(e *bpf.Entry, now int64) bool {
	lifetimes := s.dp.Options().Lifetimes
	return now-e.Last() > int64(lifetimes[e.State%bpf.States])
}

func counted(e *bpf.Entry) [2]bpf.Count {
	return [2]bpf.Count{e.Legs[0].Count, e.Legs[1].Count}
}

func (s *sweeper) acknowledge() error {
	if err := s.dp.Acknowledge(s.marks); err != nil {
		return err
	}
	for _, m := range s.marks {
		if !m.Done {
			s.late[m.Entry.Flow] = report{counted: m.Reported}
		}
	}
	return nil
}

// collect ends the connections that walk has found: README of bpf, section 6.
func (s *sweeper) collect(now int64, stop bool) error {
	if len(s.ends) == 0 {
		return nil
	}
	if err := s.dp.Retire(s.ends); err != nil {
		return err
	}
	s.ends = done(s.ends)
	if err := s.dp.Grace(); err != nil {
		return err
	}
	if err := s.dp.Read(s.ends); err != nil {
		return err
	}
	s.ends = done(s.ends)
	for i := range s.ends {
		c := &s.ends[i]
		why := flow.EndReason(c.End)
		if stop && !s.expired(&c.Entry, now) {
			why = flow.EndForced
		}
		if err := s.rec.connection(&c.Entry, c.Entry.Reported, why); err != nil {
			return err
		}
	}
	if err := s.rec.sink.Flush(); err != nil {
		return err
	}
	if err := s.dp.Delete(s.ends); err != nil {
		return err
	}
	for _, c := range s.ends {
		if !c.Done {
			s.late[c.Entry.Flow] = report{counted: counted(&c.Entry), ended: true}
		}
	}
	return nil
}

// done keeps the candidates whose last step succeeded. The others live on, or come as events.
func done(cs []bpf.Candidate) []bpf.Candidate {
	kept := cs[:0]
	for _, c := range cs {
		if c.Done {
			kept = append(kept, c)
		}
	}
	return kept
}

// events reports what the packet path has handed over, and lets go of it once it is safe.
func (s *sweeper) events() error {
	clear(s.overflow) // of a sweep that failed: its events come again
	s.order = s.order[:0]
	if len(s.late) > 0 {
		// Their events are sent after the entries' locks are given back: wait until they are.
		if err := s.dp.Grace(); err != nil {
			return err
		}
	}
	err := s.dp.Events(func(e *bpf.Event) error {
		switch e.Kind {
		case bpf.EventReplaced:
			return s.replaced(e)
		case bpf.EventPacket:
			s.add(&e.Entry)
			return nil
		}
		return fmt.Errorf("event of unknown kind %d", e.Kind)
	})
	if err != nil {
		return err
	}
	for _, k := range s.order {
		e := s.overflow[k]
		if err := s.rec.leg(e, k.leg, e.Legs[k.leg].Count, bpf.Count{}, flow.EndResource); err != nil {
			return err
		}
	}
	if err := s.rec.sink.Flush(); err != nil {
		return err
	}
	s.dp.ReleaseEvents()
	clear(s.late) // what was replaced before this sweep has come by now, or was lost and counted
	return nil
}

func (s *sweeper) replaced(e *bpf.Event) error {
	mark, ok := s.late[e.Entry.Flow]
	if !ok {
		mark.counted = e.Entry.Reported
	}
	if mark.ended && counted(&e.Entry) == mark.counted {
		return nil // its last record is written
	}
	return s.rec.connection(&e.Entry, mark.counted, flow.EndReason(e.End))
}

// add adds a packet that found no room to the others of its tuple and leg. Nothing is known of
// the connection, so the sum has no state and no initiator.
func (s *sweeper) add(e *bpf.Entry) {
	leg := 0
	if e.Legs[1].Packets > 0 {
		leg = 1
	}
	k := overflowKey{e.Tuple, leg}
	sum, ok := s.overflow[k]
	if !ok {
		first := *e
		first.State, first.Initiator = uint8(conntrack.StateNone), bpf.UnknownInitiator
		s.overflow[k] = &first
		s.order = append(s.order, k)
		return
	}
	l := &sum.Legs[leg]
	l.Add(e.Legs[leg].Count)
	l.Flags |= e.Legs[leg].Flags
	l.Last = max(l.Last, e.Legs[leg].Last)
}
