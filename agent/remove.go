package agent

import (
	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/bpf"
)

// remove ends the connections that are chosen, by the steps in which a sweep ends those that have expired:
// nothing that they have counted is lost, and one that a packet replaces meanwhile is left alone. Only the
// one of a tuple is looked at, unless that is nil. Those that are not forced go when they have expired.
func (s *sweeper) remove(now int64, only *conntrack.Tuple, choose func(*bpf.Entry) (remove, force bool)) (
	out conntrack.Collected, err error) {
	if err := s.dp.Migrate(s.migration()); err != nil { // one that has failed goes on
		return out, err
	}
	s.ends = s.ends[:0]
	s.rec.begin()
	before := s.rec.ends.byReason()
	chosen := 0
	take := func(e *bpf.Entry) error {
		out.Scanned++
		if remove, force := choose(e); remove {
			s.ends = append(s.ends, bpf.Candidate{Key: e.Key(), Force: force})
			chosen++
		}
		return nil
	}
	if only != nil {
		err = s.removeOne(only, now, take)
	} else {
		err = s.removeAll(now, take)
	}
	out.Ended = s.rec.ends.since(before)
	out.Alive, out.Skipped = out.Scanned-chosen, chosen-int(out.Removed())
	if err != nil {
		return out, err
	}
	if s.dp.Crowded() {
		if err := s.dp.Settle(); err != nil {
			return out, err
		}
	}
	return out, s.events()
}

func (s *sweeper) removeOne(t *conntrack.Tuple, now int64, take func(*bpf.Entry) error) error {
	key := t.Key()
	e, found, err := s.dp.Get(&key)
	if err != nil || !found {
		return err
	}
	if err := take(&e); err != nil {
		return err
	}
	return s.retire(0, true, now, false)
}

func (s *sweeper) removeAll(now int64, take func(*bpf.Entry) error) error {
	pass := s.dp.Pass(bpf.Wanted{Now: now, All: true})
	for more := true; more; {
		begun := len(s.ends)
		var err error
		if more, err = pass.Next(bpf.Show{Entry: take}); err != nil {
			return err
		}
		if err := s.retire(begun, !more, now, false); err != nil {
			return err
		}
	}
	return nil
}
