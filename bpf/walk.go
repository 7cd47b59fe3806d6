package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// chunk is how many entries one system call reads. Larger ones gain nothing (256 to 8192
// measure alike) and keep a CPU busy in the kernel for longer.
const chunk = 1024

// Walk calls fn for every connection in both tables. The entry is valid during the call. Each
// is read without stopping the packet path: its counters are what they were at some moment of the
// walk. Connections that begin or end during the walk may be missed; a table that is changing
// may show one twice.
func (d *Datapath) Walk(fn func(*Entry) error) error {
	var e Entry
	err := walk(d.objs.Conns4, func(k *weirKey4, v *weirConn4) error {
		e.set4(k, (*weirConn)(unsafe.Pointer(&v.Id)))
		return fn(&e)
	})
	if err != nil {
		return fmt.Errorf("walk the IPv4 connections: %w", err)
	}
	err = walk(d.objs.Conns6, func(k *weirKey6, v *weirConn6) error {
		e.set6(k, (*weirConn)(unsafe.Pointer(&v.Id)))
		return fn(&e)
	})
	if err != nil {
		return fmt.Errorf("walk the IPv6 connections: %w", err)
	}
	return nil
}

// whole takes each entry's lock while it is copied, so that it is of one connection.
var whole = &ebpf.BatchOptions{ElemFlags: uint64(ebpf.LookupLock)}

func walk[K, V any](m *ebpf.Map, fn func(*K, *V) error) error {
	size := min(chunk, int(m.MaxEntries()))
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	// A table that grows as fast as it is read would be read for ever.
	for read := 0; read <= 2*int(m.MaxEntries()); {
		n, err := m.BatchLookup(&cursor, keys, values, whole)
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
			if ferr := fn(&keys[i], &values[i]); ferr != nil {
				return ferr
			}
		}
		if err != nil {
			return nil
		}
		read += n
	}
	return nil
}
