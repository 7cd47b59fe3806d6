package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// A read of a table ends at an entry, and the kernel passes over empty buckets of its hash by itself,
// 13 ns each. So tables in which that could take long hold some milestones: entries that are nobody's.
const (
	manyBuckets    = 65536
	milestoneEvery = 8192 // entries of the table's size; 0.1 ms
)

// milestones is how many a table of this size has.
func milestones(size int) int {
	if size <= manyBuckets {
		return 0
	}
	return size / milestoneEvery
}

// withoutMilestones is the size of a table that has so many entries with its milestones.
func withoutMilestones(entries int) int {
	if entries <= manyBuckets {
		return entries
	}
	return entries - entries/(milestoneEvery+1)
}

// placeMilestones puts them into the tables, unless an earlier agent has. No packet has their keys, and
// no sweep shows an entry of their state.
func (d *Datapath) placeMilestones() error {
	for i := range uint32(milestones(d.opts.Table)) {
		v4 := weirConn4{Key: weirKey4{Addr: [2]uint32{i}, Cites: noProtocol}, Life: lifeDead}
		v6 := weirConn6{Key: weirKey6{Addr: [2][2]uint64{{uint64(i)}}, Cites: noProtocol}, Life: lifeDead}
		err := errors.Join(place(d.objs.Conns4, &v4.Key, &v4), place(d.objs.Conns6, &v6.Key, &v6))
		if err != nil {
			return fmt.Errorf("place a milestone: %w", err)
		}
	}
	return nil
}

// noProtocol is a protocol number that IANA reserves: no packet is about a connection of it.
const noProtocol = 255

func place(table *ebpf.Map, key, value any) error {
	err := table.Update(key, value, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return err
}
