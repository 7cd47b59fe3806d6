package matrix

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/wire"
)

// attempts is how often a guest may fail before it gets as far as a scenario.
const attempts = 3

// run runs jobs in restored guests: the first does them all, unless something happens to it. Then
// the scenario it happened in has its verdict, and those that have none go to the next guest.
func (l *lane) run(ctx context.Context, jobs []int, start time.Time) {
	got := make([]*result.Scenario, len(jobs))
	reason := "it did not run"
	for failed := 0; failed < attempts; {
		pending := missing(got)
		if len(pending) == 0 {
			break
		}
		l.mu.Lock()
		snap := l.snap
		if !l.m.Exact {
			l.out.Restores++
		}
		l.mu.Unlock()
		e, records, err := l.session(ctx, snap, jobs, pending)
		for n, r := range records {
			got[pending[n]] = r
		}
		if ctx.Err() != nil {
			reason = "the run was interrupted"
			break
		}
		if err != nil || e.culprit == noScenario && e.verdict != result.Pass {
			failed++
			reason = "run guest: " + e.reason
			if err != nil {
				reason = err.Error()
			}
			if failed < attempts && !l.m.Exact {
				l.renew(ctx, snap)
			}
		}
	}
	l.finish(jobs, got, reason, start)
}

func missing(got []*result.Scenario) []int {
	var pending []int
	for n, r := range got {
		if r == nil {
			pending = append(pending, n)
		}
	}
	return pending
}

// session runs the pending ones of jobs in one guest, until it ends. The records belong to pending, by
// index.
func (l *lane) session(ctx context.Context, snap *snapshot, jobs, pending []int) (
	e ending, records []*result.Scenario, err error,
) {
	orders := wire.Orders{Faults: l.m.Faults, Now: time.Now()}
	if l.m.Exact {
		orders.Now = qemu.ExactStart
	}
	for _, n := range pending {
		orders.Jobs = append(orders.Jobs, l.m.Jobs[jobs[n]])
	}
	if l.m.Exact {
		e, records, err = l.exact(ctx, orders)
	} else {
		e, records, err = l.restored(ctx, snap, orders)
	}
	if err != nil {
		return e, nil, fmt.Errorf("run guest: %w", err)
	}
	return e, records, nil
}

// restored runs orders in a guest restored from a snapshot.
func (l *lane) restored(ctx context.Context, snap *snapshot, orders wire.Orders) (
	ending, []*result.Scenario, error,
) {
	vm, err := snap.restore(ctx)
	if err != nil {
		return ending{}, nil, err
	}
	defer vm.Close()
	s := newSession(vm, vm.Control, l.m.Limits, orders)
	s.recorded = l.recorded
	e := s.run(ctx)
	return e, s.close(e), nil
}

// exact runs orders in a guest that is booted with them.
func (l *lane) exact(ctx context.Context, orders wire.Orders) (ending, []*result.Scenario, error) {
	dir, err := l.m.snaps.temporary()
	if err != nil {
		return ending{}, nil, err
	}
	defer os.RemoveAll(dir)
	vm, err := l.m.snaps.startExact(ctx, dir, l.kernel, orders)
	if err != nil {
		return ending{}, nil, err
	}
	defer vm.Close()
	s := newSession(vm, vm.Control, l.m.Limits, orders)
	s.recorded = l.recorded
	e := s.follow(ctx, wire.NewWriter(vm.Control))
	e.took = 0 // by the host's clock
	if s.ready.Release != "" {
		l.learn(s.ready)
	}
	return e, s.close(e), nil
}

// close gives the records, with the verdict of an ending where one belongs.
func (s *session) close(e ending) []*result.Scenario {
	if e.culprit != noScenario {
		e.apply(s.results, s.orders.Jobs[e.culprit].Name)
		s.passedOver()
	}
	return s.results
}

// passedOver gives the scenarios that ended before the session did, but without a record, their
// verdict: to run them again would hide that the record was lost.
func (s *session) passedOver() {
	for i := range s.last {
		if s.results[i] == nil {
			s.results[i] = &result.Scenario{Name: s.orders.Jobs[i].Name,
				Verdict: result.Missing, Reason: "no record came, although the next one began"}
		}
	}
}

// renew replaces a snapshot that does not work, unless that has been done already.
func (l *lane) renew(ctx context.Context, bad *snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.snap != bad {
		return
	}
	l.m.snaps.drop(l.snap)
	if snap, err := l.m.snaps.get(ctx, l.snap.kernel, l.m.on); err == nil {
		l.snap = snap
	}
}
