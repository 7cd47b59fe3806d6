package bpf

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Ways to go through the tables, for Options.Sweep.
const (
	SweepIter  = "iter"  // a program looks at the entries, and copies what is wanted: 5.9, kernel BTF
	SweepBatch = "batch" // system calls copy all entries: every kernel
)

// readBuckets is how many buckets of the hash one read goes through. A table has at least as many
// buckets as entries; those that a pass has yet to reach get more when many connections come during
// it. If one read found more than a chunk it would end within a bucket.
const readBuckets = chunk / 4

// iterator shows entries by programs that the kernel runs for each entry of a table.
type iterator struct {
	objs    iterObjects
	links   [2]*link.Iter // to conns4, to conns6
	copies  shared[iterEntryCopy]
	nothing [1]byte
}

func checkSweep(sweep string) error {
	switch sweep {
	case "", SweepIter, SweepBatch:
		return nil
	}
	return fmt.Errorf("sweep: %q; want %q, %q or nothing", sweep, SweepIter, SweepBatch)
}

// loadIterator loads the programs, unless the tables are to be read in batches: then there is none.
func loadIterator(sweep string, types *btf.Cache) (*iterator, error) {
	if sweep == SweepBatch {
		return nil, nil
	}
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("iterate over a table: %w: reads pass each other on %s",
			ebpf.ErrNotSupported, runtime.GOARCH)
	}
	spec, err := loadIter()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	spec.Maps["copies"].MaxEntries = chunk
	if err := spec.Variables["iter_buckets"].Set(uint32(readBuckets)); err != nil {
		return nil, fmt.Errorf("set the length of a read: %w", err)
	}
	it := &iterator{}
	opts := &ebpf.CollectionOptions{Cache: types, Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}}
	if err := spec.LoadAndAssign(&it.objs, opts); err != nil {
		return nil, fmt.Errorf("load the iterator: %w", err)
	}
	if it.copies, err = share[iterEntryCopy](it.objs.Copies); err != nil {
		return nil, errors.Join(err, it.close())
	}
	return it, nil
}

// attach lets the programs see the tables.
func (it *iterator) attach(tables ...*ebpf.Map) (err error) {
	if it == nil {
		return nil
	}
	for i, p := range []*ebpf.Program{it.objs.WeirShow4, it.objs.WeirShow6} {
		it.links[i], err = link.AttachIter(link.IterOptions{Program: p, Map: tables[i]})
		if err != nil {
			return fmt.Errorf("attach the iterator: %w", err)
		}
	}
	return nil
}

func (it *iterator) close() error {
	if it == nil {
		return nil
	}
	errs := []error{it.copies.close(), it.objs.Close()}
	for _, l := range it.links {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// want says which entries are to be shown.
func (it *iterator) want(w Wanted, lifetimes [States]time.Duration) error {
	if err := errors.Join(
		it.objs.LifetimeNs.Set(lifetimes),
		it.objs.IterNow.Set(uint64(w.Now)),
		it.objs.IterActive.Set(uint32(w.Active>>tickShift)),
		it.objs.IterAll.Set(bit(w.All)),
	); err != nil {
		return fmt.Errorf("set what is wanted: %w", err)
	}
	return nil
}

// iteration walks a table by the iterator.
type iteration struct {
	family uint8
	file   io.ReadCloser // nil before the first read
}

func (i *iteration) next(p *Pass) (more bool, err error) {
	if i.file == nil {
		if err := p.d.iter.want(p.want, p.d.opts.Lifetimes); err != nil {
			return false, err
		}
		if i.file, err = p.d.iter.links[i.family/6].Open(); err != nil {
			return false, err
		}
	}
	shown, held, more, err := p.d.iter.read(i.file)
	p.held[i.family/6] += held
	for at := range shown {
		if err = p.one(i.family, unsafe.Pointer(&shown[at])); err != nil {
			break
		}
	}
	if err != nil || !more {
		err = errors.Join(err, i.file.Close())
	}
	return more, err
}

// read looks at the next entries, and returns copies of those that are wanted, valid until the next
// read, and how many hold connections. The kernel cannot pause in a read.
func (it *iterator) read(file io.Reader) (shown []iterEntryCopy, held int, more bool, err error) {
	err = errors.Join(it.objs.IterUntil.Set(uint32(0)), it.objs.IterShown.Set(uint32(0)),
		it.objs.IterHeld.Set(uint32(0)))
	if err != nil {
		return nil, 0, false, fmt.Errorf("prepare a read: %w", err)
	}
	// The programs write nothing: a read that ends before the table is to be done again.
	_, err = file.Read(it.nothing[:])
	more = errors.Is(err, unix.EAGAIN)
	if err != nil && !more && !errors.Is(err, io.EOF) {
		return nil, 0, false, err
	}
	var n, entries uint32
	if err := errors.Join(it.objs.IterShown.Get(&n), it.objs.IterHeld.Get(&entries)); err != nil {
		return nil, 0, false, fmt.Errorf("read how many entries are shown: %w", err)
	}
	return it.copies.items[:n], int(entries), more, nil
}
