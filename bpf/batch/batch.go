// Package batch reads hash maps many entries at a time.
package batch

import (
	"errors"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// chunk is how many entries one system call reads.
const chunk = 1024

// Each calls fn for every entry of a map. What comes or goes meanwhile may be missed.
func Each[K, V any](m *ebpf.Map, fn func(*K, *V)) error { return walk(m, m.BatchLookup, fn) }

// Take takes all entries out of a map that nobody writes to. After an error the rest is still in it.
func Take[K, V any](m *ebpf.Map, fn func(*K, *V)) error { return walk(m, m.BatchLookupAndDelete, fn) }

// call reads entries behind the cursor, as many as the slices have room for.
type call func(cursor *ebpf.MapBatchCursor, keys, values any, opts *ebpf.BatchOptions) (int, error)

func walk[K, V any](m *ebpf.Map, next call, fn func(*K, *V)) error {
	size := min(chunk, int(m.MaxEntries()))
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := next(&cursor, keys, values, nil)
		if errors.Is(err, unix.ENOSPC) {
			// One hash bucket holds more than the buffer; the cursor has not moved.
			size *= 2
			keys, values = make([]K, size), make([]V, size)
			continue
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			fn(&keys[i], &values[i])
		}
		if err != nil {
			return nil
		}
	}
}
