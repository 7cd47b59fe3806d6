package latency

import (
	"errors"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// chunk is how many entries one system call reads.
const chunk = 256

// each calls fn for every entry of a table that the program goes on writing to. What comes or goes
// meanwhile may be missed.
func each[K, V any](m *ebpf.Map, fn func(*K, *V)) error {
	size := min(chunk, int(m.MaxEntries()))
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
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
