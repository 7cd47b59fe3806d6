package agent

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
)

var (
	expiredHeld     = flag.Int("expired", 20_000, "how many connections TestExpiredAreGone lets expire")
	expiredInterval = flag.Duration("expired.interval", minEvery, "the agent's interval in TestExpiredAreGone")
)

// lateness is a sink that sees how long after a connection has expired its last record is written.
type lateness struct {
	lifetime time.Duration
	want     int
	ended    int
	latest   time.Duration
	written  int64         // ns, the last record
	all      chan struct{} // closed when as many as wanted have ended
}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // the clock and the address are valid
	return ts.Nano()
}

func (l *lateness) Write(r *flow.Record) error {
	if r.Reason != flow.EndIdle {
		return nil
	}
	l.written = monotonic()
	l.latest = max(l.latest, time.Duration(l.written-r.End)-l.lifetime)
	if l.ended++; l.ended == l.want {
		close(l.all)
	}
	return nil
}

func (l *lateness) Flush() error { return nil }

// TestExpiredAreGone lets a full table expire while an agent sweeps at its own pace, and tells how long what has
// expired was still there.
func TestExpiredAreGone(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Interval, cfg.Active = *expiredInterval, DefaultConfig().Active
	cfg.Table.Size = *expiredHeld
	l := &lateness{lifetime: 6 * cfg.Interval, want: *expiredHeld, all: make(chan struct{})}
	cfg.Lifetimes = map[string]time.Duration{"unreplied": l.lifetime}
	a, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	stop := run(t, a)
	p.fill(t, *expiredHeld)
	select {
	case <-l.all:
	case <-time.After(l.lifetime + cfg.longest() + *patience):
		t.Fatal("not all have ended")
	}
	held, err := a.Connections() // waits until the sweep is over
	gone := l.latest + time.Duration(monotonic()-l.written)
	require.NoError(t, err)
	require.Empty(t, held)
	require.NoError(t, stop())
	t.Logf("%d connections were gone %.1f s after they had expired, or earlier", *expiredHeld, gone.Seconds())
}

// BenchmarkTableStats asks how full the tables are, by how much they hold.
func BenchmarkTableStats(b *testing.B) {
	for _, held := range []int{1000, 4 << 20} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			p := newPair(b)
			cfg := p.watching(b)
			cfg.Table.Size = held
			cfg.Lifetimes = map[string]time.Duration{"unreplied": time.Hour}
			a, err := New(cfg, Options{Sink: newLedger()})
			require.NoError(b, err)
			p.fill(b, held)
			for b.Loop() {
				s, err := a.TableStats(false)
				if err != nil || s.IPv4 != held || s.Pressure() != 1 {
					b.Fatalf("%d of %d, %v", s.IPv4, held, err)
				}
			}
			require.NoError(b, a.stop())
		})
	}
}
