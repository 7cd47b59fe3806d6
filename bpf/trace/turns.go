package trace

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf"
)

// turns is a pair of tables in which a program counts by turns.
type turns struct {
	tables [2]*ebpf.Map
	turn   *ebpf.Variable
	now    uint8
}

// quiet gives the turn to the other table and returns the one that had it, once no program
// writes to it any more. When waiting fails the table is left alone; it is returned by the call
// after the next, with all that it holds.
func (t *turns) quiet() (*ebpf.Map, error) {
	before := t.now
	if err := t.turn.Set(1 - before); err != nil {
		return nil, fmt.Errorf("give the turn to the other table: %w", err)
	}
	t.now = 1 - before
	if err := bpf.Grace(); err != nil {
		return nil, err
	}
	return t.tables[before], nil
}

// chunk is how many entries one system call reads.
const chunk = 1024

// empty takes all entries out of a table that nobody writes to. What an error leaves in the table
// stays there until its next turn has passed.
func empty[K, V any](m *ebpf.Map, fn func(*K, *V)) error {
	size := min(chunk, int(m.MaxEntries()))
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookupAndDelete(&cursor, keys, values, nil)
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
