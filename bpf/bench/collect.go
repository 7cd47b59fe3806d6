package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/bpf/batch"
)

// half of the entries have expired.
var half = sweepCase{percent: 50, expire: true}

// usualWay is the garbage collection that user space does by itself: it reads a map in batches, and deletes each
// entry that has expired by a system call of its own.
type usualWay struct {
	suffix, what string
	// run returns the CPU time that it takes for a map of so many entries, every second of which has expired.
	run func(entries int) (time.Duration, error)
}

// usualWays are of maps that differ in the size of their entries: as large as ours for IPv4, and of two thirds less.
var usualWays = []usualWay{
	{"alike", "a hash with entries as large", collect[alike, *alike]{ebpf.Hash}.run},
	{"small", "an LRU hash with entries of 72 bytes", collect[small, *small]{ebpf.LRUHash}.run},
}

type (
	alike struct {
		Expired bool
		_       [175]byte
	}
	small struct {
		Expired bool
		_       [55]byte
	}
	collectKey struct{ Number, Padding uint64 }
)

func (v *alike) expires() *bool { return &v.Expired }
func (v *small) expires() *bool { return &v.Expired }

func collectName(entries int, w *usualWay) string {
	return fmt.Sprintf("collect/%d/%s", entries, w.suffix)
}

func collectWhat(entries int, w *usualWay) string {
	return fmt.Sprintf("a sweep of %d entries, 50 %% have expired; peer: batches and single deletions in %s", entries, w.what)
}

// collections measures sweeps of a table half of which has expired, and in turns with them the usual way.
func (b *bench) collections(ctx context.Context, entries int) (fs []Figure, err error) {
	for i := range usualWays {
		fs = append(fs, Figure{Name: collectName(entries, &usualWays[i]), Unit: PerEntry, What: collectWhat(entries, &usualWays[i])})
	}
	if ok, err := b.fits(entries); !ok {
		for i := range fs {
			fs[i].Missing = "needs more memory than is free"
		}
		return fs, err
	}
	s, err := b.newSweeping(entries)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var ours []float64
	usual := make([][]float64, len(usualWays))
	for range max(3, b.sweepRounds(entries)) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		after, err := s.arrange(&half)
		if err != nil {
			return nil, err
		}
		took, err := s.sweep(after, entries/2)
		if err != nil {
			return nil, err
		}
		ours = append(ours, float64(took)/float64(entries))
		for i := range usualWays {
			if took, err = usualWays[i].run(entries); err != nil {
				return nil, fmt.Errorf("%s: %w", fs[i].Name, err)
			}
			usual[i] = append(usual[i], float64(took)/float64(entries))
		}
	}
	none := make([]float64, len(ours))
	for i := range fs {
		fs[i].Ours, fs[i].Peer = netOf(ours, none), netOf(usual[i], none)
		fs[i] = fs[i].compare()
	}
	return fs, nil
}

// filling is how many entries one system call puts into a map.
const filling = 1024

// collect is the usual way for a map of values V.
type collect[V any, P interface {
	*V
	expires() *bool
}] struct{ kind ebpf.MapType }

func (c collect[V, P]) run(entries int) (took time.Duration, err error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "collect", Type: c.kind, MaxEntries: uint32(entries),
		KeySize: uint32(unsafe.Sizeof(collectKey{})), ValueSize: uint32(unsafe.Sizeof(*new(V)))})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	if err := c.fill(m, entries); err != nil {
		return 0, err
	}
	runtime.GC()
	begin, err := cpuTime()
	if err != nil {
		return 0, err
	}
	found, deleted := 0, 0
	err = batch.Each(m, func(k *collectKey, v *V) {
		if found++; *P(v).expires() && m.Delete(k) == nil {
			deleted++
		}
	})
	end, err2 := cpuTime()
	if err = errors.Join(err, err2); err == nil && deleted != found/2 || found < entries*9/10 {
		err = fmt.Errorf("%d of %d entries were deleted, not half of %d", deleted, found, entries)
	}
	return end - begin, err
}

func (c collect[V, P]) fill(m *ebpf.Map, entries int) error {
	keys, values := make([]collectKey, filling), make([]V, filling)
	for first := 0; first < entries; first += filling {
		n := min(filling, entries-first)
		for i := range n {
			keys[i].Number = uint64(first + i)
			*P(&values[i]).expires() = i%2 == 0
		}
		if _, err := m.BatchUpdate(keys[:n], values[:n], nil); err != nil {
			return fmt.Errorf("fill the map: %w", err)
		}
	}
	return nil
}
