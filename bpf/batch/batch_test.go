package batch

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// filled makes a map of so many entries that holds the squares of the first numbers.
func filled(t *testing.T, kind ebpf.MapType, size, held int) *ebpf.Map {
	t.Helper()
	kerneltest.NeedRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: kind, KeySize: 4, ValueSize: 8, MaxEntries: uint32(size)})
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	for i := range uint32(held) {
		require.NoError(t, m.Put(i, uint64(i)*uint64(i)))
	}
	return m
}

// each calls test for maps that are full, nearly empty, and larger than a chunk.
func each(t *testing.T, test func(t *testing.T, m *ebpf.Map, held int)) {
	for _, kind := range []ebpf.MapType{ebpf.Hash, ebpf.LRUHash} {
		for _, c := range []struct{ size, held int }{{10, 0}, {1, 1}, {10, 10}, {chunk, chunk}, {1 << 20, chunk}, {4 * chunk, 3*chunk + 1}} {
			if kind == ebpf.LRUHash && c.held*4 > c.size*3 {
				continue // what a nearly full one evicts is the kernel's choice
			}
			t.Run(fmt.Sprintf("%s/%d of %d", kind, c.held, c.size), func(t *testing.T) {
				test(t, filled(t, kind, c.size, c.held), c.held)
			})
		}
	}
}

// sums adds up keys and values.
func sums(all *[2]uint64, n *int) func(*uint32, *uint64) {
	return func(k *uint32, v *uint64) {
		*n++
		all[0], all[1] = all[0]+uint64(*k), all[1]+*v
	}
}

func requireAll(t *testing.T, held, n int, got [2]uint64) {
	t.Helper()
	var want [2]uint64
	for i := range uint64(held) {
		want[0], want[1] = want[0]+i, want[1]+i*i
	}
	require.Equal(t, held, n)
	require.Equal(t, want, got)
}

func TestEach(t *testing.T) {
	each(t, func(t *testing.T, m *ebpf.Map, held int) {
		for range 2 { // nothing is taken out
			var got [2]uint64
			n := 0
			require.NoError(t, Each(m, sums(&got, &n)))
			requireAll(t, held, n, got)
		}
	})
}

func TestTake(t *testing.T) {
	each(t, func(t *testing.T, m *ebpf.Map, held int) {
		var got [2]uint64
		n := 0
		require.NoError(t, Take(m, sums(&got, &n)))
		requireAll(t, held, n, got)
		require.NoError(t, Each(m, func(*uint32, *uint64) { t.Error("something is left") }))
	})
}

// TestEachRefuses: maps that cannot be read in batches.
func TestEachRefuses(t *testing.T) {
	kerneltest.NeedRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Queue, ValueSize: 8, MaxEntries: 10})
	require.NoError(t, err)
	defer m.Close()
	require.Error(t, Each(m, func(*uint32, *uint64) {}))
}
