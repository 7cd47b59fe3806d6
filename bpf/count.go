package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// counter asks the kernel how many entries the tables hold.
type counter struct{ objs countObjects }

// openCounter makes one, or says why the kernel has no such counters (before 6.6).
func openCounter(types *btf.Cache, conns4, conns6 *ebpf.Map) (*counter, error) {
	spec, err := loadCount()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	// A map can stand for another one only when both are of one size.
	spec.Maps["conns4"].MaxEntries, spec.Maps["conns6"].MaxEntries = conns4.MaxEntries(), conns6.MaxEntries()
	c := &counter{}
	err = spec.LoadAndAssign(&c.objs, &ebpf.CollectionOptions{Cache: types,
		MapReplacements: map[string]*ebpf.Map{"conns4": conns4, "conns6": conns6}})
	if err != nil {
		return nil, fmt.Errorf("load the counter of entries: %w", err)
	}
	return c, nil
}

func (c *counter) close() error {
	if c == nil {
		return nil
	}
	return c.objs.Close()
}

func (c *counter) read() (Held, error) {
	if _, err := c.objs.WeirCount.Run(&ebpf.RunOptions{Data: frame}); err != nil {
		return Held{}, err
	}
	var v4, v6 int64
	err := errors.Join(c.objs.Entries4.Get(&v4), c.objs.Entries6.Get(&v6))
	return Held{int(v4), int(v6)}, err
}

// ErrNoCounter says that the kernel does not count the entries of a map.
var ErrNoCounter = errors.New("the kernel does not count the entries of maps")

// Count is how many connections the tables hold just now, those included that have expired or are
// retired. It costs the same however many there are. Before Linux 6.6 it is ErrNoCounter: what a Pass has
// come across is the latest that is known.
func (d *Datapath) Count() (Held, error) {
	if d.counter == nil {
		return Held{}, ErrNoCounter
	}
	held, err := d.counter.read()
	if err != nil {
		return Held{}, fmt.Errorf("count the connections: %w", err)
	}
	own := milestones(d.opts.Table)
	return Held{held.IPv4 - own, held.IPv6 - own}, nil
}

// Deletions is how many connections Delete has taken out of the tables since they are in use.
func (d *Datapath) Deletions() (uint64, error) {
	var n uint64
	if err := d.objs.Deletions.Get(&n); err != nil {
		return 0, fmt.Errorf("read how many connections were deleted: %w", err)
	}
	return n - firstDeletion, nil
}

// firstDeletion is what `deletions` in maps.h begins with.
const firstDeletion = 1
