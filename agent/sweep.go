package agent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// sweeper drains the connection table and collects its garbage in one pass. The order of its
// steps is what makes reports complete: a record is written before the datapath is told that it
// was, so an agent that is killed in between reports twice, never not at all. It goes slice by
// slice, so that it needs little memory however large the table is, and finds what it acknowledges
// still in the caches.
type sweeper struct {
	dp     *bpf.Datapath
	rec    *recorder
	active int64                              // ns between two reports of a connection that goes on
	hold   func(e *bpf.Entry, now int64) bool // whether a connection's report waits
	evicts bool                               // unanswered connections make room for others
	armed  bool                               // the datapath's alarm was set

	held bpf.Held // by the tables, at the last sweep

	marks []bpf.Mark
	ends  []bpf.Candidate
	// late holds what was reported of connections that the datapath could not be told of, because
	// a packet was replacing them: their last event is measured from there. When the ring buffer
	// was full, they have stayed; one whose end is written waits here until it is deleted.
	late map[uint64]report
	told []uint64 // flow ids of events, over one reading
	// overflow adds up packets that found no room, over one reading of events.
	overflow *flow.Accounter
}

// report is how far a connection was reported.
type report struct {
	counted [2]bpf.Count
	ended   bool // and that it has ended
}

// maxOverflow is how many flows' packets without room are added up, at most: 4 MB. What comes beyond that is in
// several records.
const maxOverflow = 8192

func newSweeper(dp *bpf.Datapath, rec *recorder, active int64) *sweeper {
	rec.begin()
	return &sweeper{dp: dp, rec: rec, active: active,
		late: map[uint64]report{}, overflow: flow.NewAccounter(maxOverflow, rec.write)}
}

// maxEnds is how many connections are retired before they are collected, together: each time takes
// a grace period.
const maxEnds = 8 * bpf.WorkItems

// sweep makes one pass. With stop, every connection ends.
func (s *sweeper) sweep(now int64, stop bool) error {
	if err := s.dp.Migrate(s.migration()); err != nil { // one that has failed goes on
		return err
	}
	s.ends = s.ends[:0]
	s.rec.begin()
	if err := s.dp.Recheck(); err != nil {
		return err
	}
	pass := s.dp.Pass(bpf.Wanted{Now: now, Active: s.active, All: stop})
	for more := true; more; {
		var err error
		if more, err = s.slice(pass, now, stop); err != nil {
			return err
		}
	}
	s.held = bpf.Held{IPv4: pass.Held(4), IPv6: pass.Held(6)}
	if s.evicts && !stop {
		if err := s.makeRoom(pass, now); err != nil {
			return err
		}
	}
	if s.dp.Crowded() {
		if err := s.dp.Settle(); err != nil {
			return err
		}
	}
	return s.events()
}

// drain reports what the packet path has handed over, between two sweeps. It tells whether a table
// was full meanwhile, once for each sweep that has made room.
func (s *sweeper) drain() (full bool, err error) {
	s.rec.begin()
	if err := s.events(); err != nil || !s.armed {
		return false, err
	}
	s.armed, err = s.dp.Alarm()
	return !s.armed, err
}

// resize changes the tables' size, if what they hold has room then.
func (s *sweeper) resize(entries int) error {
	held, err := s.dp.Held()
	if err != nil {
		return err
	}
	if n := max(held.IPv4, held.IPv6); n > entries {
		return fmt.Errorf("%d IPv4 and %d IPv6 connections are held; want room for %d of each, not %d, "+
			"or ask again when some have ended", held.IPv4, held.IPv6, n, entries)
	}
	return s.dp.Resize(entries, s.migration())
}

// migration reports what has no place in the tables that follow.
func (s *sweeper) migration() bpf.Migration {
	s.rec.begin()
	return bpf.Migration{
		Ended: func(e *bpf.Entry, why uint8) error {
			if s.late[e.Flow].ended {
				return nil // its last record is written
			}
			return s.rec.connection(e, e.Reported, flow.EndReason(why))
		},
		Flush: s.rec.sink.Flush,
		Drain: s.events,
	}
}

// slice reports connections that go on, and retires those that have ended. At the stop that is all
// of them, and by force also when they seem to have expired: the datapath's clock may be a tick behind,
// and there is no next sweep.
func (s *sweeper) slice(pass *bpf.Pass, now int64, stop bool) (more bool, err error) {
	s.marks = s.marks[:0]
	ended := len(s.ends) // before this slice
	end := func(k bpf.Key) { s.ends = append(s.ends, bpf.Candidate{Key: k, Force: stop}) }
	more, err = pass.Next(bpf.Show{Expired: end, Entry: func(e *bpf.Entry) error {
		if stop {
			end(e.Key())
			return nil
		}
		if s.hold(e, now) {
			return nil
		}
		s.marks = append(s.marks, bpf.Mark{Key: e.Key(), At: now, Reported: counted(e)})
		return s.rec.connection(e, e.Reported, flow.EndActive)
	}})
	if err != nil {
		return false, err
	}
	if err := s.rec.sink.Flush(); err != nil {
		return false, err
	}
	if err := s.acknowledge(); err != nil {
		return false, err
	}
	return more, s.retire(ended, !more, now, stop)
}

// retire retires the candidates from an index on, and collects all once they are many, or the last.
func (s *sweeper) retire(from int, last bool, now int64, stop bool) error {
	if err := s.dp.Retire(s.ends[from:]); err != nil {
		return err
	}
	s.ends = s.ends[:from+done(s.ends[from:])]
	if !last && len(s.ends) < maxEnds {
		return nil
	}
	return s.collect(now, stop)
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
	for i := range s.marks {
		if m := &s.marks[i]; !m.Done {
			s.late[m.Key.Flow] = report{counted: m.Reported}
		}
	}
	return nil
}

// collect ends the connections that are retired: README of bpf, section 6.
func (s *sweeper) collect(now int64, stop bool) error {
	if len(s.ends) == 0 {
		return nil
	}
	if err := s.dp.Settle(); err != nil {
		return err
	}
	for part := range slices.Chunk(s.ends, bpf.WorkItems) {
		if err := s.bury(part, now, stop); err != nil {
			return err
		}
	}
	s.ends = s.ends[:0]
	return nil
}

// bury writes the last records of retired connections, and deletes these.
func (s *sweeper) bury(ends []bpf.Candidate, now int64, stop bool) error {
	err := s.dp.Read(ends, func(c *bpf.Candidate, e *bpf.Entry) error {
		if s.late[e.Flow].ended {
			return nil // its last record is written
		}
		return s.rec.connection(e, e.Reported, s.why(c, e, now, stop))
	})
	if err != nil {
		return err
	}
	if err := s.rec.sink.Flush(); err != nil {
		return err
	}
	ends = ends[:done(ends)]
	if err := s.dp.Delete(ends); err != nil {
		return err
	}
	for i := range ends {
		c := &ends[i]
		if c.Done {
			delete(s.late, c.Key.Flow)
		} else {
			s.late[c.Key.Flow] = report{counted: c.Counted, ended: true}
		}
	}
	return nil
}

// why is the reason for which a connection has ended.
func (s *sweeper) why(c *bpf.Candidate, e *bpf.Entry, now int64, stop bool) flow.EndReason {
	switch {
	case s.expired(e, now):
	case c.Evict && !stop:
		return flow.EndResource
	case stop, c.Force:
		return flow.EndForced
	}
	return flow.EndReason(c.End)
}

// done moves the candidates whose last step succeeded to the front, and counts them. The others live
// on, or come as events.
func done(cs []bpf.Candidate) int {
	n := 0
	for i := range cs {
		if cs[i].Done {
			cs[n] = cs[i]
			n++
		}
	}
	return n
}

// events reports what the packet path has handed over, and lets go of it once it is safe.
func (s *sweeper) events() error {
	s.overflow.Reset() // of a sweep that failed: its events come again
	s.told = s.told[:0]
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
			return s.overflow.Account(s.rec.packet(&e.Entry))
		}
		return fmt.Errorf("event of unknown kind %d", e.Kind)
	})
	if err != nil {
		return err
	}
	if err := s.overflow.Evict(); err != nil {
		return err
	}
	if err := s.rec.sink.Flush(); err != nil {
		return err
	}
	if err := s.dp.ReleaseEvents(); err != nil {
		return err
	}
	s.forget()
	return nil
}

// forget drops what the events have settled: what was replaced before this sweep has come by now, or
// has stayed with the mark that it was given.
func (s *sweeper) forget() {
	for _, id := range s.told {
		delete(s.late, id)
	}
	maps.DeleteFunc(s.late, func(_ uint64, r report) bool { return !r.ended })
}

func (s *sweeper) replaced(e *bpf.Event) error {
	s.told = append(s.told, e.Entry.Flow)
	mark, ok := s.late[e.Entry.Flow]
	if !ok {
		mark.counted = e.Entry.Reported
	}
	if mark.ended && counted(&e.Entry) == mark.counted {
		return nil // its last record is written
	}
	return s.rec.connection(&e.Entry, mark.counted, flow.EndReason(e.End))
}
