package chain_test

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/bpf/chain/member"
)

// State of a member lives on when the chain changes, also what its object says is shared; with another
// layout it is new.
func TestState(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		one, two := b.member(w.kind, 1, 1, pass(w.kind), 1), b.member(w.kind, 2, 2, pass(w.kind), 1)
		b.mustApply(b.chain(w.kind, w.backend, one))
		b.send(w.kind, 5)
		was := b.seen(w.kind, "m01")
		require.GreaterOrEqual(t, was, uint64(5))
		two.Constants["verdict"] = int64(w.kind.Drop())
		b.mustApply(b.chain(w.kind, w.backend, one, two))
		require.Equal(t, was, b.seen(w.kind, "m01"))
		_, passed := b.send(w.kind, 5)
		require.Empty(t, passed)
		require.Equal(t, was+6, b.seen(w.kind, "m01")) // with the fence
		require.Equal(t, uint64(6), b.seen(w.kind, "m02"))
	})
}

// seen is how many packets a member has seen.
func (b *bed) seen(kind hook.Kind, name string) uint64 {
	b.t.Helper()
	return b.seenIn(kind, "map-"+name+"--seen")
}

func (b *bed) seenIn(kind hook.Kind, pin string) (sum uint64) {
	b.t.Helper()
	for _, n := range b.lookup(kind, pin) {
		sum += n
	}
	return sum
}

func (b *bed) lookup(kind hook.Kind, pin string) (perCPU []uint64) {
	b.t.Helper()
	m := b.pinnedMap(kind, pin)
	defer m.Close()
	require.NoError(b.t, m.Lookup(uint32(0), &perCPU))
	return perCPU
}

func (b *bed) pinnedMap(kind hook.Kind, pin string) *ebpf.Map {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.pin, "*-"+string(kind), "generation-*", pin))
	require.NoError(b.t, err)
	require.NotEmpty(b.t, files, "no generation has %s", pin)
	m, err := ebpf.LoadPinnedMap(files[0], nil)
	require.NoError(b.t, err)
	return m
}

// A map with arguments starts with them, and anew when they change; while they stay, so does it.
func TestMaps(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		cpus := uint64(ebpf.MustPossibleCPU())
		one, two := b.member(w.kind, 1, 1, pass(w.kind), 1), b.member(w.kind, 2, 2, pass(w.kind), 1)
		fillMap("seen", `"100"`)(&one)
		b.mustApply(b.chain(w.kind, w.backend, one, two))
		require.Equal(t, 100*cpus, b.seenIn(w.kind, "map-m01-*-seen"))
		b.send(w.kind, 5)
		was := b.seenIn(w.kind, "map-m01-*-seen")
		require.GreaterOrEqual(t, was, 100*cpus+5)

		two.Constants["generation"] = 2
		b.mustApply(b.chain(w.kind, w.backend, one, two))
		require.Equal(t, was, b.seenIn(w.kind, "map-m01-*-seen"))

		fillMap("seen", `[{"key":0,"value":7}]`)(&one)
		ch := b.mustApply(b.chain(w.kind, w.backend, one, two))
		require.Len(t, ch.Steps, 1)
		require.Equal(t, 7*cpus, b.seenIn(w.kind, "map-m01-*-seen"))

		one.Program = strings.Split(one.Program, "_")[0] + "_checked"
		_, err := b.apply(&chain.Spec{Chains: []chain.Chain{b.chain(w.kind, w.backend, one, two)}}, chain.ApplyOptions{})
		require.ErrorContains(t, err, "member m01: program "+one.Program+" does not use map seen")
		require.Equal(t, 7*cpus, b.seenIn(w.kind, "map-m01-*-seen"))
	})
}

var swaps = flag.Int("swaps", 3, "how many changes TestSwapUnderLoad makes at each hook, at most 1000")

// TestSwapUnderLoad changes a chain by chance, as fast as it can, while each CPU sends packets as
// fast as it can, without a pause. Each packet must meet one generation, whole; and none an older
// one than the packet before it on its CPU. The members check that themselves.
func TestSwapUnderLoad(t *testing.T) {
	require.LessOrEqual(t, *swaps, 1000)
	for _, w := range append(ways(), way{hook.XDP, eitherXDP}) {
		t.Run(w.String(), func(t *testing.T) {
			b := newBed(t)
			b.need(w)
			r := rand.New(rand.NewPCG(5, 6))
			b.mustApply(b.randomChecked(r, w, 0))
			l := b.openLedger(w.kind)
			dropped := b.dropped(w.kind)
			stop := b.load(w.kind)
			for generation := 1; generation <= *swaps; generation++ {
				b.mustApply(b.randomChecked(r, w, generation))
				b.until("a packet meets the generation", func() bool { return l.whole(generation) > 0 })
			}
			sent := stop()
			// With XDP, veth queues packets, and counts those for which it has no room.
			b.until("all packets have gone", func() bool {
				return l.all(*swaps)+b.dropped(w.kind)-dropped >= sent
			})
			lost := int64(sent) - int64(l.all(*swaps)+b.dropped(w.kind)-dropped)
			t.Logf("%d changes under %d packets, of which the device dropped %d before the chain: "+
				"%d met no generation or a part of one, %d strayed", *swaps, sent, b.dropped(w.kind)-dropped,
				lost, l.wrong())
			require.Zero(t, lost)
			require.Zero(t, l.wrong())
		})
	}
}

// randomChecked is a chain of members that check each other, drawn by chance.
func (b *bed) randomChecked(r *rand.Rand, w way, generation int) chain.Chain {
	numbers := r.Perm(10)[:1+r.IntN(10)]
	var members []chain.Member
	for order, n := range numbers {
		m := b.member(w.kind, n, order, pass(w.kind), generation)
		m.Program = strings.Split(m.Program, "_")[0] + "_checked"
		m.Constants["position"], m.Constants["length"] = int64(order), int64(len(numbers))
		members = append(members, m)
	}
	backend := w.backend
	if backend == eitherXDP {
		backend = chain.Backends(hook.XDP)[generation%2]
	}
	return b.chain(w.kind, backend, members...)
}

// eitherXDP is the one backend for XDP in every other generation, and the other one in those between.
const eitherXDP = "either"

// ledger is what members that check each other have counted.
type ledger struct {
	b                *bed
	passages, wholes *ebpf.Map // the same in all generations
}

func (b *bed) openLedger(kind hook.Kind) *ledger {
	b.t.Helper()
	l := &ledger{b, b.pinnedMap(kind, "map--passages"), b.pinnedMap(kind, "map--whole")}
	b.t.Cleanup(func() { l.passages.Close(); l.wholes.Close() })
	return l
}

// whole is how many packets met a generation, whole.
func (l *ledger) whole(generation int) (sum uint64) {
	var perCPU []uint64
	require.NoError(l.b.t, l.wholes.Lookup(uint32(generation), &perCPU))
	for _, n := range perCPU {
		sum += n
	}
	return sum
}

// all is how many packets met one of the generations up to the last, whole.
func (l *ledger) all(last int) (sum uint64) {
	for g := range last + 1 {
		sum += l.whole(g)
	}
	return sum
}

// wrong is how many packets met members of several generations, or not in their order.
func (l *ledger) wrong() (sum uint64) {
	var perCPU []member.Passage
	require.NoError(l.b.t, l.passages.Lookup(uint32(0), &perCPU))
	for _, p := range perCPU {
		sum += p.Wrong
	}
	return sum
}

// until waits for a condition.
func (b *bed) until(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !holds(); runtime.Gosched() {
		require.True(b.t, time.Now().Before(end), "waited in vain: %s", what)
	}
}

// load makes each CPU send numbered packets until stop is called, which tells how many were sent.
func (b *bed) load(kind hook.Kind) (stop func() uint64) {
	b.t.Helper()
	from, _ := sides(kind)
	socket := b.sockets[from].numbered
	var done atomic.Bool
	var sent atomic.Uint64
	cpus, err := ownCPUs()
	require.NoError(b.t, err)
	failed := make(chan error, len(cpus))
	for i, cpu := range cpus {
		go func() {
			failed <- onCPU(cpu, func() error {
				for n := uint32(i) << 28; !done.Load(); n++ { // another number on each CPU
					if err := write(socket, frame(numbered, n)); err != nil {
						return err
					}
					sent.Add(1)
				}
				return nil
			})
		}()
	}
	b.t.Cleanup(func() { done.Store(true) })
	return func() uint64 {
		done.Store(true)
		for range cpus {
			require.NoError(b.t, <-failed)
		}
		return sent.Load()
	}
}

// dropped is how many packets the sending device has dropped.
func (b *bed) dropped(kind hook.Kind) (n uint64) {
	b.t.Helper()
	from, _ := sides(kind)
	b.inside(from, func() error {
		l, err := netlink.LinkByName([]string{near, far}[from])
		if err == nil {
			n = l.Attrs().Statistics.TxDropped
		}
		return err
	})
	return n
}

// BenchmarkReplace replaces one member of three, again and again. "swap-us" is the time that the kernel takes to
// swap, by the clock of the process that asks for it.
func BenchmarkReplace(bench *testing.B) {
	for _, w := range []way{{hook.XDP, xdpLink}, {hook.XDP, dispatcher}, {hook.Ingress, hook.TCX}, {hook.Ingress, hook.TC},
		{hook.Ingress, hook.TCXLinks}} {
		bench.Run(w.String(), func(bench *testing.B) {
			b := newBed(bench)
			b.need(w)
			var pinned time.Time
			var swap time.Duration
			b.progress = func(s chain.Stage) {
				switch s {
				case chain.Pinned:
					pinned = time.Now()
				case chain.Swapped:
					swap += time.Since(pinned)
				}
			}
			for n := range bench.N {
				b.mustApply(b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, pass(w.kind), 0),
					b.member(w.kind, 2, 2, pass(w.kind), n%1000), b.member(w.kind, 3, 3, pass(w.kind), 0)))
			}
			bench.ReportMetric(float64(swap.Microseconds())/float64(bench.N), "swap-us")
		})
	}
}
