package chain_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
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
func (b *bed) seen(kind hook.Kind, name string) (sum uint64) {
	b.t.Helper()
	for _, n := range b.lookup(kind, "map-"+name+"--seen") {
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

// swaps is how many changes are made under load; WEIR_CHAIN_SWAPS asks for more.
func swaps(t *testing.T) int {
	if text := os.Getenv("WEIR_CHAIN_SWAPS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	if testing.Short() {
		return 5
	}
	return 25
}

// TestSwapUnderLoad changes a chain by chance, as fast as it can, while packets come as fast as they
// can. Each packet must have met one generation, whole; and none an older one than the packet
// before it.
func TestSwapUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		r := rand.New(rand.NewPCG(5, 6))
		var mu sync.Mutex
		want := [][]step{} // by generation
		change := func(generation int) chain.Chain {
			var members []chain.Member
			var steps []step
			for order, n := range r.Perm(10)[:1+r.IntN(10)] {
				members = append(members, b.member(w.kind, n, order, pass(w.kind), generation))
				steps = append(steps, step{uint16(n), uint16(generation)})
			}
			mu.Lock()
			defer mu.Unlock()
			want = append(want, steps)
			return b.chain(w.kind, w.backend, members...)
		}
		b.mustApply(change(0))
		traces := b.pinnedMap(w.kind, "map--traces") // the same in all generations
		defer traces.Close()

		var done atomic.Bool
		result := make(chan error, 1)
		count := swaps(t)
		go func() {
			defer done.Store(true)
			m, err := chain.Open(chain.Options{State: b.state, Pin: b.pin})
			for generation := 1; err == nil && generation <= count; generation++ {
				_, err = m.Apply(&chain.Spec{Chains: []chain.Chain{change(generation)}}, chain.ApplyOptions{})
			}
			result <- err
		}()
		packets, missed, last := 0, 0, 0
		dropped := b.dropped(w.kind)
		met := map[int]int{}
		for end := false; !end; {
			end = done.Load() // one more round after the last change
			sent := b.flood(w.kind)
			mu.Lock()
			want := slices.Clone(want)
			mu.Unlock()
			for _, n := range sent {
				var got member.Trace
				require.NoError(t, traces.Lookup(n, &got))
				if got.Steps == 0 {
					missed++
					continue
				}
				generation := int(got.Step[0].Generation)
				require.Less(t, generation, len(want))
				var steps []step
				for _, s := range got.Step[:min(int(got.Steps), len(got.Step))] {
					steps = append(steps, step{s.Member, s.Generation})
				}
				require.Equal(t, want[generation], steps, "packet %d", n)
				require.GreaterOrEqual(t, generation, last, "packet %d met an older generation", n)
				last = generation
				met[generation]++
				require.NoError(t, traces.Put(n, member.Trace{}))
			}
			packets += len(sent)
		}
		require.NoError(t, <-result)
		// With XDP, veth queues packets, and counts those for which it has no room.
		require.Equal(t, int(b.dropped(w.kind)-dropped), missed, "packets met no generation")
		require.Equal(t, count, last)
		t.Logf("%d changes; %d packets, less %d that the device dropped before, met %d of the generations", count, packets, missed, len(met))
		require.Greater(t, len(met), 1)
	})
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

// flood sends as many packets as fit between two looks at the traces.
func (b *bed) flood(kind hook.Kind) (sent []uint32) {
	b.t.Helper()
	const burst = 8192
	require.NoError(b.t, b.onOneCPU(func() error {
		from, _ := sides(kind)
		for range burst {
			if err := write(b.sockets[from].numbered, frame(numbered, b.number)); err != nil {
				return err
			}
			sent = append(sent, b.number)
			b.number = (b.number + 1) % numbers
		}
		return b.fence(kind)
	}))
	return sent
}

// BenchmarkReplace replaces one member of three, again and again. "swap-us" is the time that the kernel takes to
// swap, by the clock of the process that asks for it.
func BenchmarkReplace(bench *testing.B) {
	for _, w := range []way{{hook.XDP, hook.XDPLink}, {hook.Ingress, hook.TCX}, {hook.Ingress, hook.TC}} {
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
