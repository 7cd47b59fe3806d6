package export

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export/spool"
	"github.com/weirnet/weir/agent/flow"
)

// receiver is a sink whose other side does what a test wants.
type receiver struct {
	flows bool              // only flow records are encoded
	sized func(records int) // is told of each batch; may be nil

	mu       sync.Mutex
	fail     func(ctx context.Context) error // asked at each attempt
	got      []uint64
	attempts []time.Time
	closed   bool
}

func (r *receiver) Format() string { return "test" }

func (r *receiver) Append(b []byte, report flow.Report, offset int64) []byte {
	if r.flows && report.Record == nil {
		return b
	}
	_, n := report.Numbered()
	return binary.LittleEndian.AppendUint64(b, n+uint64(offset))
}

func (r *receiver) Send(ctx context.Context, payload []byte, records int) error {
	r.mu.Lock()
	r.attempts = append(r.attempts, time.Now())
	fail := r.fail
	r.mu.Unlock()
	if fail != nil {
		if err := fail(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sized != nil {
		r.sized(records)
	}
	for i := range records {
		r.got = append(r.got, binary.LittleEndian.Uint64(payload[8*i:]))
	}
	return nil
}

// will changes what the other side does.
func (r *receiver) will(fail func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

func (r *receiver) Close() error {
	r.closed = true
	return nil
}

func (r *receiver) received() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.got...)
}

var errDown = errors.New("down")

func options(name string, r *receiver) Options {
	return Options{Name: name, Sink: r, Queue: 1 << 20, Batch: 100, Deadline: time.Second,
		Retry: Retry{Min: 100 * time.Millisecond, Max: 2 * time.Second}}
}

func start(t testing.TB, all ...Options) *Exporter {
	t.Helper()
	e, err := New(all, func() int64 { return 0 }, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return e
}

func (e *Exporter) write(t testing.TB, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		require.NoError(t, e.Write(&flow.Record{Sequence: n}))
	}
	require.NoError(t, e.Flush())
}

// stop closes with a time limit.
func (e *Exporter) stop(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return e.Close(ctx)
}

func upTo(n uint64) (all []uint64) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// sized is a count of a receiver's records.
func sized(n uint64) Count { return Count{Records: n, Bytes: 8 * n} }

// conserved checks the law of every sink.
func conserved(t testing.TB, s Stats) {
	t.Helper()
	sum := s.Sent
	sum.Add(s.Held)
	for _, n := range s.Dropped {
		sum.Add(n)
	}
	require.Equal(t, s.Taken, sum, "%+v", s)
}

func TestDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &receiver{}, &receiver{flows: true}
		e := start(t, options("a", a), options("b", b))
		e.write(t, 0, 250)
		require.NoError(t, e.WriteDrop(&flow.Drop{Sequence: 250}))
		require.NoError(t, e.WriteDNS(&flow.DNS{Sequence: 251}))
		require.NoError(t, e.Flush())
		synctest.Wait()
		require.Equal(t, upTo(252), a.received())
		require.Equal(t, upTo(250), b.received())
		require.Len(t, a.attempts, 4, "batches of 100")
		s := e.Stats()
		require.Equal(t, Stats{Name: "a", Taken: sized(252), Sent: sized(252)}, s[0])
		require.NoError(t, e.stop(time.Second))
		require.True(t, a.closed && b.closed)
	})
}

// TestBatches are as large as they may be.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		opts := options("a", r)
		opts.Batch = 10_000
		var sizes []int
		r.sized = func(records int) { sizes = append(sizes, records) }
		e := start(t, opts)
		e.write(t, 0, 25_000)
		require.NoError(t, e.stop(time.Minute))
		require.Equal(t, []int{10_000, 10_000, 5_000}, sizes)
		require.Equal(t, upTo(25_000), r.received())
	})
}

func TestOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, offset := &receiver{}, int64(0)
		e, err := New([]Options{options("a", r)}, func() int64 { offset += 10; return offset },
			slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		e.write(t, 1, 2)
		e.write(t, 1, 2)
		require.NoError(t, e.stop(time.Second))
		require.Equal(t, []uint64{11, 21}, r.received(), "looked at with each Flush")
	})
}

// TestDownThenBack keeps a receiver down for a while: nothing is lost, the order is kept, and
// attempts become rarer.
func TestDownThenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(time.Minute)
		r := &receiver{fail: func(context.Context) error {
			if time.Now().Before(back) {
				return errDown
			}
			return nil
		}}
		e := start(t, options("a", r))
		for n := range uint64(10) {
			e.write(t, 100*n, 100*n+100)
			time.Sleep(time.Second)
		}
		s := e.Stats()[0]
		require.True(t, s.Failing)
		require.Equal(t, "down", s.Error)
		require.Equal(t, uint64(1000), s.Held.Records)
		conserved(t, s)
		time.Sleep(time.Minute)
		require.Equal(t, upTo(1000), r.received())
		s = e.Stats()[0]
		require.False(t, s.Failing)
		require.Empty(t, s.Error)
		require.Equal(t, uint64(len(r.attempts)-10)*100, s.Retried.Records)
		conserved(t, s)
		failed := r.attempts[:len(r.attempts)-9]
		for i := range failed[1:] {
			limit := min(100*time.Millisecond<<min(i, 9), 2*time.Second)
			gap := failed[i+1].Sub(failed[i])
			require.GreaterOrEqual(t, gap, limit/2)
			require.LessOrEqual(t, gap, limit)
		}
		require.NoError(t, e.stop(time.Second))
	})
}

// TestOneIsDown has one sink that is down, one that hangs, and one that works: this one notices
// nothing.
func TestOneIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &receiver{fail: func(context.Context) error { return errDown }}
		hangs := &receiver{fail: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		works := &receiver{}
		e := start(t, options("down", down), options("hangs", hangs), options("works", works))
		begin := time.Now()
		for n := range uint64(1000) {
			e.write(t, n, n+1)
		}
		require.Zero(t, time.Since(begin), "nobody waits")
		synctest.Wait()
		require.Equal(t, upTo(1000), works.received())
		require.NoError(t, e.stop(10*time.Second))
		for _, s := range e.Stats()[:2] {
			require.Equal(t, map[string]Count{DroppedStopped: sized(1000)}, s.Dropped)
			conserved(t, s)
		}
	})
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{fail: func(context.Context) error { return errDown }}
		o := options("a", r)
		o.Queue = 800
		e := start(t, o)
		e.write(t, 0, 250) // blocks of 100, 100 and 50: the first fills the queue
		s := e.Stats()[0]
		require.Equal(t, map[string]Count{DroppedFull: sized(150)}, s.Dropped)
		conserved(t, s)
		r.will(nil)
		time.Sleep(time.Minute)
		e.write(t, 250, 260)
		require.NoError(t, e.stop(time.Second))
		require.Equal(t, append(upTo(100), 250, 251, 252, 253, 254, 255, 256, 257, 258, 259), r.received())
		conserved(t, e.Stats()[0])
	})
}

func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r := &receiver{fail: func(context.Context) error {
			if n++; n == 1 {
				return fmt.Errorf("%w: no", ErrRejected)
			}
			return nil
		}}
		e := start(t, options("a", r))
		e.write(t, 0, 3)
		e.write(t, 3, 4)
		require.NoError(t, e.stop(time.Second))
		require.Equal(t, []uint64{3}, r.received())
		s := e.Stats()[0]
		require.Equal(t, map[string]Count{DroppedRejected: sized(3)}, s.Dropped)
		require.Zero(t, s.Retried)
		conserved(t, s)
	})
}

// TestThrough waits for a sink that is in order, for one that is slow no longer than its deadline,
// and for one that is down not at all.
func TestThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{fail: func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil }}
		o := options("a", r)
		o.Through = true
		e := start(t, o)
		flush := func(n uint64) time.Duration {
			begin := time.Now()
			e.write(t, n, n+1)
			return time.Since(begin)
		}
		require.Equal(t, 300*time.Millisecond, flush(0))
		require.Equal(t, []uint64{0}, r.received())
		hang := make(chan struct{})
		r.will(func(context.Context) error { <-hang; return nil })
		require.Equal(t, time.Second, flush(1))
		require.Zero(t, flush(2), "it is late already")
		close(hang)
		synctest.Wait()
		require.Zero(t, flush(3))
		r.will(func(context.Context) error { return errDown })
		require.Zero(t, flush(4))
		require.Zero(t, flush(5))
		r.will(nil)
		time.Sleep(time.Minute)
		require.Equal(t, upTo(6), r.received())
		require.NoError(t, e.stop(time.Second))
	})
}

// TestHangs closes an exporter whose sink does not mind its context.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := &receiver{fail: func(context.Context) error { <-hang; return errDown }}
		e := start(t, options("a", r))
		e.write(t, 0, 2)
		require.EqualError(t, e.stop(time.Second), "sink a: it hangs, with 2 records")
		close(hang)
	})
}

func spooled(dir string, r *receiver) Options {
	o := options("a", r)
	o.Spool, o.SpoolSize = dir, spool.MinSize
	return o
}

// TestSpoolOutlivesTheAgent writes while the receiver is down, ends, and starts again when it is up:
// all is there, in order, and the books go on.
func TestSpoolOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		down := &receiver{fail: func(context.Context) error { return errDown }}
		e := start(t, spooled(dir, down))
		e.write(t, 0, 250)
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, e.stop(time.Hour))
		require.Zero(t, time.Since(begin), "what is in a spool can wait")
		s := e.Stats()[0]
		require.Equal(t, sized(250), s.Held)
		require.True(t, s.Spooled)
		conserved(t, s)

		up := &receiver{}
		e = start(t, spooled(dir, up))
		e.write(t, 250, 260)
		require.NoError(t, e.stop(time.Second))
		require.Equal(t, upTo(260), up.received())
		s = e.Stats()[0]
		require.Equal(t, sized(260), s.Taken)
		conserved(t, s)
	})
}

func TestSpoolFull(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{fail: func(context.Context) error { return errDown }}
		o := spooled(dir, r)
		o.Batch = 10000
		e := start(t, o)
		e.write(t, 0, 200000)
		require.NoError(t, e.stop(time.Second))
		s := e.Stats()[0]
		require.Greater(t, s.Held.Records, uint64(100000))
		require.Equal(t, s.Taken.Records-s.Held.Records, s.Dropped[DroppedFull].Records)
		conserved(t, s)
	})
}

func TestNewFails(t *testing.T) {
	a, b := &receiver{}, &receiver{}
	_, err := New([]Options{options("a", a), spooled("/dev/null/x", b)}, func() int64 { return 0 },
		slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "sink a: open the spool /dev/null/x")
	require.True(t, a.closed && b.closed)
}

// TestRandomReceivers lets receivers fail at random, with and without a spool; whatever they do,
// what arrives is in order, once, and the books balance.
func TestRandomReceivers(t *testing.T) {
	for seed := range uint64(30) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			flaky := func(odds int) func(context.Context) error {
				mine := rand.New(rand.NewPCG(seed, uint64(odds)))
				return func(ctx context.Context) error {
					switch mine.IntN(odds) {
					case 0:
						return errDown
					case 1:
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
			}
			a, b := &receiver{fail: flaky(3)}, &receiver{fail: flaky(4)}
			onDisk := spooled(dir, b)
			onDisk.Name = "b"
			small := options("a", a)
			small.Queue = 4000
			e := start(t, small, onDisk)
			next := uint64(0)
			for range 100 {
				more := rng.Uint64N(300)
				e.write(t, next, next+more)
				next += more
				time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
				for _, s := range e.Stats() {
					conserved(t, s)
				}
			}
			require.NoError(t, e.stop(time.Hour))
			for i, r := range []*receiver{a, b} {
				s := e.Stats()[i]
				conserved(t, s)
				require.Equal(t, next, s.Taken.Records)
				got := r.received()
				require.Len(t, got, int(s.Sent.Records))
				for i := range got[1:] {
					require.Less(t, got[i], got[i+1])
				}
			}
		})
	}
}

// TestNoAllocation holds the steady state to nothing per record: all that is allocated is per block.
func TestNoAllocation(t *testing.T) {
	e := start(t, options("a", &receiver{}), spooled(t.TempDir(), &receiver{}))
	rec := flow.Record{Sequence: 1}
	write := func() {
		for range 100 {
			_ = e.Write(&rec)
		}
	}
	write()
	require.NoError(t, e.Flush())
	require.Less(t, testing.AllocsPerRun(1000, write), 20.0, "for 200 records in 2 blocks, sent")
	require.NoError(t, e.stop(time.Second))
}
