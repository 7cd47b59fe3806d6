package trace

import (
	"fmt"

	"github.com/cilium/ebpf"

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
