package bpf

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// chunk is how many entries one system call shows at most. Larger ones gain nothing (256 to 8192
// measure alike) and keep a CPU busy in the kernel for longer.
const chunk = 1024

// Wanted says which connections a pass shows: those that have expired, and those that have counted
// something since they were reported, if that is long enough ago.
type Wanted struct {
	Now    int64 // ns of the datapath's clock
	Active int64 // ns between two reports of a connection
	All    bool  // shows every connection
}

// Show takes what a pass finds. It must not use the datapath.
type Show struct {
	Entry func(*Entry) error // a connection, valid during the call
	// Expired, unless it is nil, takes those that have expired instead, by name: they will be
	// read when they are retired.
	Expired func(Key)
}

// Pass goes through both tables once, in slices.
type Pass struct {
	d     *Datapath
	want  Wanted
	left  []walk // in order
	shown int    // in this slice
	held  [2]int // connections of IPv4 and of IPv6 that it came across
	entry Entry
	show  Show
}

// walk goes through one table.
type walk interface {
	// next shows the next chunk, and tells whether more may come.
	next(p *Pass) (more bool, err error)
}

// Pass begins a pass through both tables.
func (d *Datapath) Pass(want Wanted) *Pass {
	p := &Pass{d: d, want: want, left: []walk{&folding{}}}
	if d.iter != nil {
		p.left = append(p.left, &iteration{family: 4}, &iteration{family: 6})
	} else {
		p.left = append(p.left, newBatch[weirKey4, weirConn4](d.objs.Conns4, 4, &d.batch4),
			newBatch[weirKey6, weirConn6](d.objs.Conns6, 6, &d.batch6))
	}
	return p
}

// Next shows the connections of the next slice, not many more than WorkItems, and tells whether
// more may come. Each is read without stopping the packet path: its counters are what they were at
// some moment. Connections that begin or end during the pass may be missed; of those that last, each
// is shown once.
func (p *Pass) Next(show Show) (more bool, err error) {
	p.show = show
	for p.shown = 0; len(p.left) > 0 && p.shown+chunk <= WorkItems; {
		if err := p.read(); err != nil {
			return false, err
		}
	}
	return len(p.left) > 0, nil
}

// read shows what one system call reads.
func (p *Pass) read() error {
	more, err := p.left[0].next(p)
	if err != nil {
		return fmt.Errorf("walk the connections: %w", err)
	}
	if !more {
		p.left = p.left[1:]
	}
	return nil
}

// Held tells how many connections of a family (4 or 6) the pass has come across, wanted or not.
func (p *Pass) Held(family uint8) int { return p.held[family/6] }

// Walk calls fn for every connection in both tables, as Pass.Next does.
func (d *Datapath) Walk(fn func(*Entry) error) error {
	p := d.Pass(Wanted{All: true})
	for {
		if more, err := p.Next(Show{Entry: fn}); err != nil || !more {
			return err
		}
	}
}

// Held is how many connections the tables hold, those included that have expired or are retired.
type Held struct{ IPv4, IPv6 int }

func (h Held) of(family uint8) int {
	if family == 4 {
		return h.IPv4
	}
	return h.IPv6
}

// Held counts them by a pass of its own.
func (d *Datapath) Held() (Held, error) {
	p := d.Pass(Wanted{Active: math.MaxInt64})
	for {
		more, err := p.Next(Show{Entry: func(*Entry) error { return nil }})
		if err != nil || !more {
			return Held{p.Held(4), p.Held(6)}, err
		}
	}
}

// Of enum conn_life in conn.h.
const (
	lifeDead   = 2
	lifeEnding = 3
	lifeBorn   = 4
)

// connOf returns the connection in an entry, which stands behind its key.
func connOf(family uint8, entry unsafe.Pointer) *weirConn {
	if family == 6 {
		return (*weirConn)(unsafe.Add(entry, unsafe.Sizeof(weirKey6{})))
	}
	return (*weirConn)(unsafe.Add(entry, unsafe.Sizeof(weirKey4{})))
}

// shows tells whether an entry holds a connection that can be shown. Else it is nobody's, or a packet that
// opens or ends it is not through yet.
func shows(c *weirConn) bool {
	return c.Life != lifeDead && c.Life != lifeBorn && c.Life != lifeEnding
}

// one shows the connection of an entry if it is wanted; most of a table is not.
func (p *Pass) one(family uint8, entry unsafe.Pointer) error {
	key, c := entry, connOf(family, entry)
	expired := p.expired(c)
	switch {
	case !shows(c):
		return nil
	case expired && p.show.Expired != nil:
		p.shown++
		p.show.Expired(keyOf(family, key, c.Id))
		return nil
	case expired || p.want.All || p.due(c):
		p.shown++
		p.entry.set(family, key, c)
		return p.show.Entry(&p.entry)
	}
	return nil
}

func (p *Pass) expired(c *weirConn) bool {
	last := max(int64(c.Leg[0].Last), int64(c.Leg[1].Last))
	return p.want.Now-last > int64(p.d.opts.Lifetimes[c.State%States])
}

func (p *Pass) due(c *weirConn) bool {
	news := c.Leg[0].Packets != c.Reported[0].Packets || c.Leg[1].Packets != c.Reported[1].Packets
	return news && ticksSince(c.ReportedAt, p.want.Now) >= p.want.Active>>tickShift
}

// batch walks a table by BPF_MAP_LOOKUP_BATCH, which takes the lock of one hash bucket after
// the other. On kernels from 5.11 to 6.6 a packet that comes in on the same CPU just when one is
// given back may fail to open a connection: its bucket may share the mark that says so.
type batch[K, V any] struct {
	m      *ebpf.Map
	family uint8
	buf    *buffers[K, V]
	cursor ebpf.MapBatchCursor
	read   int
}

// buffers hold one chunk, from one pass to the next.
type buffers[K, V any] struct {
	keys   []K
	values []V
}

func (b *buffers[K, V]) grow(n int) { b.keys, b.values = make([]K, n), make([]V, n) }

func newBatch[K, V any](m *ebpf.Map, family uint8, buf *buffers[K, V]) *batch[K, V] {
	if buf.keys == nil {
		buf.grow(min(chunk, int(m.MaxEntries())))
	}
	return &batch[K, V]{m: m, family: family, buf: buf}
}

// whole takes each entry's lock while it is copied, so that it is of one connection.
var whole = &ebpf.BatchOptions{ElemFlags: uint64(ebpf.LookupLock)}

func (b *batch[K, V]) next(p *Pass) (more bool, err error) {
	n, end, err := b.fill()
	if err != nil {
		return false, err
	}
	for i := range n {
		if connOf(b.family, unsafe.Pointer(&b.buf.values[i])).Life != lifeDead {
			p.held[b.family/6]++
		}
		if err := p.one(b.family, unsafe.Pointer(&b.buf.values[i])); err != nil {
			return false, err
		}
	}
	return !end && !b.endless(), nil
}

// fill reads the next chunk into the buffer, and tells whether it was the last one.
func (b *batch[K, V]) fill() (n int, end bool, err error) {
	n, err = b.m.BatchLookup(&b.cursor, b.buf.keys, b.buf.values, whole)
	if errors.Is(err, unix.ENOSPC) {
		// One hash bucket holds more than the buffer; the cursor has not moved.
		b.buf.grow(2 * len(b.buf.keys))
		return 0, false, nil
	}
	end = errors.Is(err, ebpf.ErrKeyNotExist)
	if err != nil && !end {
		return 0, false, err
	}
	b.read += n
	return n, end, nil
}

// endless tells whether to give up: a table that grows as fast as it is read would be read for ever.
func (b *batch[K, V]) endless() bool { return b.read > 2*int(b.m.MaxEntries()) }
