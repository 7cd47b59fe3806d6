package agent

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// ledger is a sink that adds up what is reported and checks each record against those before.
type ledger struct {
	records []flow.Record // the first ones, up to maxKept
	written uint64
	sum     bpf.Count
	ended   map[legKey]bool
	before  map[legKey]uint64
	wrong   []string
	fail    func() error // asked before each Flush
}

const maxKept = 1000

type legKey struct {
	flow uint64
	src  netip.AddrPort
}

func legOf(r *flow.Record) legKey { return legKey{r.Flow, netip.AddrPortFrom(r.Src, r.SrcPort)} }

func newLedger() *ledger {
	return &ledger{ended: map[legKey]bool{}, before: map[legKey]uint64{}}
}

func (l *ledger) Write(r *flow.Record) error {
	k := legOf(r)
	if r.PacketsBefore != l.before[k] {
		l.complain(r, "packets_before %d, want %d", r.PacketsBefore, l.before[k])
	}
	if l.ended[k] {
		l.complain(r, "comes after the end")
	}
	if r.Reason != flow.EndActive {
		l.ended[k] = true
	}
	if l.written++; r.Sequence != l.written {
		l.complain(r, "sequence %d, want %d", r.Sequence, l.written)
	}
	if l.before[k] += r.Packets; r.Reason != flow.EndActive {
		delete(l.before, k)
	}
	l.sum.Add(bpf.Count{Packets: r.Packets, Bytes: r.Bytes})
	if len(l.records) < maxKept {
		l.records = append(l.records, *r)
	}
	return nil
}

func (l *ledger) complain(r *flow.Record, format string, args ...any) {
	if len(l.wrong) < 10 {
		l.wrong = append(l.wrong, fmt.Sprintf("flow %d %s:%d %s: ", r.Flow, r.Src, r.SrcPort, r.Reason)+
			fmt.Sprintf(format, args...))
	}
}

func (l *ledger) Flush() error {
	if l.fail == nil {
		return nil
	}
	return l.fail()
}

// flood sends frames from two threads, each on a CPU of its own where there are two, as fast as
// they can, changing the source port from one frame to the next.
type flood struct {
	stop   atomic.Bool
	sent   [2]atomic.Uint64
	closed chan error
}

func (p *pair) flood(t testing.TB, tuples int) *flood {
	t.Helper()
	f := &flood{closed: make(chan error, 2)}
	for i := range f.sent {
		fd := p.socket(t)
		frame := p.udp(t, 1024, 53, 30*i)
		go func() {
			runtime.LockOSThread() // never unlocked: its affinity must not spread
			var cpu unix.CPUSet
			cpu.Set(i % runtime.NumCPU())
			if err := unix.SchedSetaffinity(0, &cpu); err != nil {
				f.closed <- err
				return
			}
			f.closed <- f.run(fd, frame, tuples, &f.sent[i])
		}()
	}
	return f
}

// sourcePort is the offset of the UDP header in a frame; its checksum is not looked at.
const sourcePort = 14 + 20

func (f *flood) run(fd int, frame []byte, tuples int, sent *atomic.Uint64) error {
	for n := 0; !f.stop.Load(); n = (n + 1) % tuples {
		binary.BigEndian.PutUint16(frame[sourcePort:], uint16(1024+n))
		if err := transmit(fd, frame); err != nil {
			return err
		}
		sent.Add(1)
	}
	return nil
}

func (f *flood) end(t testing.TB) uint64 {
	t.Helper()
	f.stop.Store(true)
	require.NoError(t, <-f.closed)
	require.NoError(t, <-f.closed)
	return f.sent[0].Load() + f.sent[1].Load()
}

// TestConservationUnderLoad is the first law on a busy machine: two CPUs send while the tables are
// drained without a pause, and every packet that the interface has received is in exactly one
// record.
func TestConservationUnderLoad(t *testing.T) {
	tests := []struct {
		name     string
		tuples   int
		table    int
		full     string
		lifetime time.Duration
		hook     string
		sweep    string
	}{
		{"few flows that go on", 4, 1024, "overflow", time.Hour, "", ""},
		{"flows that end between two packets", 4096, 8192, "overflow", 10 * time.Millisecond, "", ""},
		{"flows that end at any moment", 64, 128, "overflow", time.Microsecond, "", ""},
		{"entries that change hands", 256, 64, "reject", time.Microsecond, "", ""},
		{"table full, overflow", 512, 64, "overflow", 5 * time.Millisecond, "", ""},
		{"table full, reject", 512, 64, "reject", 5 * time.Millisecond, "", ""},
		{"table full, evict", 512, 64, "evict", time.Hour, "", ""},
		{"table full, evict, by batch", 512, 64, "evict", time.Hour, "", bpf.SweepBatch},
		{"flows that end at any moment, by batch", 64, 128, "overflow", time.Microsecond, "", bpf.SweepBatch},
		{"table full, by batch", 512, 64, "overflow", 5 * time.Millisecond, "", bpf.SweepBatch},
		{"few flows that go on, by batch", 4, 1024, "overflow", time.Hour, "", bpf.SweepBatch},
		{"by tc", 64, 128, "overflow", time.Millisecond, bpf.TC, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			cfg := DefaultConfig()
			cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far, Hook: test.hook}}
			cfg.Table = Table{Size: test.table, Full: test.full}
			cfg.Sweep = test.sweep
			cfg.Lifetimes = map[string]time.Duration{"unreplied": test.lifetime}
			l := newLedger()
			a := newEager(t, cfg, l)
			end := time.Now().Add(loadTime())
			p.conserve(t, a, l, test.tuples, func() bool { return time.Now().After(end) })
		})
	}
}

// newEager is an agent that reports what goes on with every sweep. It is stopped when the test ends before it
// has done that.
func newEager(t *testing.T, cfg Config, sink Sink) *Agent {
	t.Helper()
	a, err := New(cfg, Options{Sink: sink})
	require.NoError(t, err)
	t.Cleanup(func() {
		if !a.stopped {
			_ = a.stop()
		}
	})
	a.sweeper.active = 0
	return a
}

// conserve floods the pair with so many tuples and sweeps without a pause until enough says so. Then
// it stops the agent and checks that each packet is in exactly one record or counted as lost.
func (p *pair) conserve(t *testing.T, a *Agent, l *ledger, tuples int, enough func() bool) {
	t.Helper()
	before := p.received(t)
	f := p.flood(t, tuples)
	sweeps := 0
	for ; !enough(); sweeps++ {
		require.NoError(t, a.Sweep())
	}
	sent := f.end(t)
	p.drained(t)
	counters := settled(t, p, a, before.Packets+sent)
	refused, err := a.dp.Refusals()
	require.NoError(t, err)
	require.NoError(t, a.stop())

	want := p.receivedSince(t, before)
	t.Logf("%d sweeps, %d records, %d connections ended, %d insertions refused, %v sent, counters %+v",
		sweeps, l.written, len(l.ended), refused, sent, counters)
	require.Equal(t, want, counters.Seen, "seen at the hook and received by the interface")
	require.Empty(t, l.wrong)
	all := counters.Accounted
	all.Add(counters.Lost["table-full"])
	all.Add(counters.Lost["ring-full"])
	require.Equal(t, want, all, "accounted and lost")
	require.Equal(t, counters.Accounted, l.sum, "sum of all records")
}

var churned = flag.Int("churn", 20_000, "how many connections TestChurn opens and ends")

// TestChurn opens connections with the tuples of those that have just ended, over and over: none is
// deleted with packets that no record has, and no record comes after the last one of its connection.
func TestChurn(t *testing.T) {
	p := newPair(t)
	cfg := DefaultConfig()
	cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far}}
	cfg.Table = Table{Size: 65536, Full: "overflow"}
	cfg.Lifetimes = map[string]time.Duration{"unreplied": time.Millisecond}
	l := newLedger()
	a, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	p.conserve(t, a, l, 8192, func() bool { return len(l.ended) >= *churned })
}

// TestInterruptedSweep lets packets come in interrupts, in the middle of the system calls of the sweep
// on the same CPU. On kernels 5.11 to 6.14 an insertion can fail then although there is room; its packet
// is in a record all the same.
func TestInterruptedSweep(t *testing.T) {
	for _, sweep := range []string{bpf.SweepIter, bpf.SweepBatch} {
		t.Run(sweep, func(t *testing.T) {
			p := newPair(t)
			p.delay(t, time.Millisecond)
			cfg := DefaultConfig()
			cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far}}
			cfg.Table = Table{Size: 65536, Full: "overflow"}
			cfg.Sweep = sweep
			cfg.Lifetimes = map[string]time.Duration{"unreplied": time.Millisecond}
			l := newLedger()
			a, err := New(cfg, Options{Sink: l})
			require.NoError(t, err)
			p.conserve(t, a, l, 8192, func() bool { return len(l.ended) >= *churned })
		})
	}
}

// delay lets what the near end sends arrive later, in an interrupt of the clock.
func (p *pair) delay(t *testing.T, by time.Duration) {
	t.Helper()
	missing := false
	inside(t, p.near, func() error {
		near, err := netlink.LinkByName(nearName)
		if err != nil {
			return err
		}
		err = netlink.QdiscAdd(netlink.NewNetem(netlink.QdiscAttrs{LinkIndex: near.Attrs().Index,
			Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			netlink.NetemQdiscAttrs{Latency: uint32(by.Microseconds()), Limit: 1000}))
		if missing = errors.Is(err, unix.ENOENT); missing {
			return nil
		}
		return err
	})
	if missing {
		t.Skip("skipped: this kernel has no sch_netem")
	}
}

// drained waits until nothing is delayed any more.
func (p *pair) drained(t *testing.T) {
	t.Helper()
	inside(t, p.near, func() error {
		near, err := netlink.LinkByName(nearName)
		if err != nil {
			return err
		}
		eventually(t, "delayed packets to be sent", func() bool {
			qdiscs, err := netlink.QdiscList(near)
			require.NoError(t, err)
			return !slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool {
				queue := q.Attrs().Statistics.Queue
				return queue != nil && queue.Qlen > 0
			})
		})
		return nil
	})
}

func loadTime() time.Duration { return scaled(200*time.Millisecond, 50*time.Millisecond) }

// scaled is how much of something a test has: less with -short, which goes with the race detector, where all takes ten
// times as long, and with emulated machines.
func scaled[T any](whole, short T) T {
	if testing.Short() {
		return short
	}
	return whole
}

// settled waits until the hook has seen what is on the way, and returns its counters.
func settled(t testing.TB, p *pair, a *Agent, sent uint64) bpf.Counters {
	t.Helper()
	var c bpf.Counters
	eventually(t, "the last packets to pass the hook", func() bool {
		all, err := a.Counters()
		require.NoError(t, err)
		c = all.Hooks[0].Counters
		return c.Seen.Packets >= min(sent, p.received(t).Packets)
	})
	return c
}
