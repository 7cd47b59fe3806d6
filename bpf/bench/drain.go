package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// drain measures how flows are taken from a peer's table without a program that helps: its agent goes
// through the keys, and reads and deletes the entry of each by a system call. What the agent makes of
// them is left out.
func (b *bench) drain(ctx context.Context, entries int) (v *Value, err error) {
	s, err := loadPeer(b.opts.Peer, entries)
	if err != nil {
		return nil, err
	}
	l := &lane{packetCase: &packetCase{packet: tcp4(ack), flows: entries, fresh: true}, subject: s}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := b.prepare(l); err != nil {
		return nil, err
	}
	var ns []float64
	for range b.sweepRounds(entries) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := l.driver.set(entries, false); err != nil {
			return nil, err
		}
		if _, err := b.run(l, entries); err != nil {
			return nil, err
		}
		begin, err := cpuTime()
		if err != nil {
			return nil, err
		}
		taken, err := takeAll(s.tables)
		if err != nil || taken == 0 {
			return nil, err // a program that keeps no flows has nothing to take
		}
		end, err := cpuTime()
		if err != nil {
			return nil, err
		}
		ns = append(ns, float64(end-begin)/float64(taken))
	}
	return netOf(ns, make([]float64, len(ns))), nil
}

// takeAll empties the tables, and returns how many entries they held. Those per CPU are left: agents
// that have them pay for each CPU.
func takeAll(tables []*ebpf.Map) (taken int, err error) {
	for _, m := range tables {
		if m.Type() != ebpf.Hash && m.Type() != ebpf.LRUHash {
			continue
		}
		var all [][]byte
		var key, value []byte
		walk := m.Iterate()
		for walk.Next(&key, &value) {
			all = append(all, append([]byte(nil), key...))
		}
		if err := walk.Err(); err != nil {
			return 0, fmt.Errorf("walk %v: %w", m, err)
		}
		for _, k := range all {
			if err := m.LookupAndDelete(k, &value); err != nil {
				return 0, fmt.Errorf("take an entry of %v: %w", m, err)
			}
		}
		taken += len(all)
	}
	return taken, nil
}
