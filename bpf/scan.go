package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Ways to go through the tables, for Options.Sweep.
const (
	SweepScan  = "scan"  // a program lists what is wanted: quick, from 5.13 on
	SweepBatch = "batch" // system calls copy all entries: every kernel
)

// maxScanned is the size of the largest tables that are scanned when nothing is said. A scan
// cannot pause, and takes up to 0.1 us per entry: this one is done in 2 ms.
const maxScanned = 16384

// scansTables decides how the tables are gone through.
func scansTables(opts *Options, p Probes) (bool, error) {
	switch opts.Sweep {
	case "":
		return p.ForEach && opts.Table <= maxScanned, nil
	case SweepBatch:
		return false, nil
	case SweepScan:
		if !p.ForEach {
			return false, fmt.Errorf("sweep by scan: %w (bpf_for_each_map_elem, 5.13)",
				ebpf.ErrNotSupported)
		}
		return true, nil
	}
	return false, fmt.Errorf("sweep: %q; want %q, %q or nothing", opts.Sweep, SweepScan, SweepBatch)
}

// scan walks a table by the program that lists what is wanted, all at once, and then looks at these
// connections, chunk by chunk.
type scan struct {
	family uint8
	begun  bool
	found  []weirFinding // that were not shown yet
}

func (s *scan) next(p *Pass) (more bool, err error) {
	if !s.begun {
		if s.found, p.held[s.family/6], err = p.d.scan(s.family, p.want); err != nil {
			return false, err
		}
		s.begun = true
	}
	n := min(chunk, len(s.found))
	look := s.found[:n]
	if p.show.Expired != nil {
		look = s.takeExpired(p, look)
	}
	s.found = s.found[n:]
	fill := func(i int, w *weirWork) { w.Op, w.Family, w.Key = workLook, s.family, look[i].Key }
	err = p.d.run(len(look), fill, func(i int, w *weirWork, c *weirConn) error {
		if w.Result != workDone {
			return nil // it has ended since
		}
		return p.one(s.family, unsafe.Pointer(&look[i].Key), c)
	})
	return len(s.found) > 0, err
}

// takeExpired shows those that have expired, and returns the others, in the same memory.
func (s *scan) takeExpired(p *Pass, found []weirFinding) []weirFinding {
	n := 0
	for i := range found {
		f := &found[i]
		if f.Expired == 0 {
			found[n] = *f
			n++
			continue
		}
		p.shown++
		p.show.Expired(keyOf(s.family, unsafe.Pointer(&f.Key), f.Id))
	}
	return found[:n]
}

// scan lists the connections of a family that are wanted, and counts all. The list is valid until the
// next scan.
func (d *Datapath) scan(family uint8, want Wanted) (found []weirFinding, held int, err error) {
	all := bit(want.All)
	for _, v := range []struct {
		variable *ebpf.Variable
		value    any
	}{
		{d.objs.ScanAll, all}, {d.objs.ScanNow, uint64(want.Now)},
		{d.objs.ScanActive, uint32(want.Active >> tickShift)}, {d.objs.ScanFound, uint32(0)},
	} {
		if err := v.variable.Set(v.value); err != nil {
			return nil, 0, fmt.Errorf("prepare a scan: %w", err)
		}
	}
	program := d.objs.WeirScan4
	if family == 6 {
		program = d.objs.WeirScan6
	}
	if _, err := program.Run(&ebpf.RunOptions{Data: frame, Repeat: 1}); err != nil {
		return nil, 0, fmt.Errorf("run the scan program: %w", err)
	}
	var n, entries uint32
	if err := errors.Join(d.objs.ScanFound.Get(&n), d.objs.ScanHeld.Get(&entries)); err != nil {
		return nil, 0, fmt.Errorf("read what a scan has found: %w", err)
	}
	return d.found.items[:n], int(entries), nil
}
