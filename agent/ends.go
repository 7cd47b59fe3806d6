package agent

import (
	"maps"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// ends keeps the books on connections that have ended. They stand in them once their last records are
// safe: as the sink of all records it sees when that is.
type ends struct {
	Sink
	view      func() conntrack.View
	told      map[flow.EndReason]uint64
	fresh     map[flow.EndReason]uint64 // written since the last flush
	events    []conntrack.Event         // of those, when somebody observes
	observers map[*func(conntrack.Event)]bool
}

func newEnds(sink Sink, view func() conntrack.View) *ends {
	return &ends{Sink: sink, view: view, told: map[flow.EndReason]uint64{},
		fresh: map[flow.EndReason]uint64{}, observers: map[*func(conntrack.Event)]bool{}}
}

// add tells of a connection whose last record is being written.
func (s *ends) add(e *bpf.Entry, why flow.EndReason) {
	s.fresh[why]++
	if len(s.observers) > 0 {
		s.events = append(s.events, conntrack.Event{Entry: s.view().Of(e), Reason: why})
	}
}

// begin forgets what was written and not flushed: it will be written again.
func (s *ends) begin() {
	clear(s.fresh)
	s.events = s.events[:0]
}

// Flush implements Sink.
func (s *ends) Flush() error {
	if err := s.Sink.Flush(); err != nil {
		return err
	}
	for why, n := range s.fresh {
		s.told[why] += n
	}
	for i := range s.events {
		for o := range s.observers {
			(*o)(s.events[i])
		}
	}
	s.begin()
	return nil
}

func (s *ends) byReason() map[flow.EndReason]uint64 { return maps.Clone(s.told) }

// since is what has been added to what was told before.
func (s *ends) since(before map[flow.EndReason]uint64) map[flow.EndReason]uint64 {
	out := map[flow.EndReason]uint64{}
	for why, n := range s.told {
		if n > before[why] {
			out[why] = n - before[why]
		}
	}
	return out
}

func (s *ends) total() (n uint64) {
	for _, of := range s.told {
		n += of
	}
	return n
}

// Observe has fn called for every connection that ends, once its last record is safe, until cancel is
// called. While fn runs the agent waits, and fn must not use the agent.
func (a *Agent) Observe(fn func(conntrack.Event)) (cancel func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweeper.rec.ends.observers[&fn] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.sweeper.rec.ends.observers, &fn)
	}
}
