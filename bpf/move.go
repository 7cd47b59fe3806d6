package bpf

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Of enum move_result and flowEndReason in move.h and conn.h.
const (
	moveDone  uint8 = 2
	moveEnded uint8 = 3
	moveFull  uint8 = 4
	moveBusy  uint8 = 5

	moveItems = 1024 // MOVE_ITEMS
	moveRun   = 32   // MOVE_RUN

	endNoRoom uint8 = 5 // END_NO_ROOM
)

// Of enum conn_life in conn.h; see also walk.go.
const (
	lifeLive    = 0
	lifeRetired = 1
)

// source is a table in which no packet counts any more, and how its entries are read.
type source struct {
	family uint8
	table  *ebpf.Map
	reader reader
	pin    string // removed when the table is empty; "" when there is none
}

// reader reads the entries of a table that may be of another layout.
type reader struct {
	key  plan // from the beginning of its key to that of ours
	conn plan // from the beginning of its value, which repeats the key, to our weirConn
}

// sameLayout reads a table of a family that is as ours.
func sameLayout(family uint8) reader {
	size := keySize(family)
	return reader{key: plan{{0, 0, size}},
		conn: plan{{0, size, int(unsafe.Sizeof(weirConn{}))}}}
}

func keySize(family uint8) int {
	if family == 4 {
		return int(unsafe.Sizeof(weirKey4{}))
	}
	return int(unsafe.Sizeof(weirKey6{}))
}

// image is the item's key and connection as they stand in our table.
func (m *moveMove) image() (key []byte, c *weirConn) {
	size := keySize(m.Family)
	c = (*weirConn)(unsafe.Pointer(&m.Conn))
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(c), -size)), size), c
}

// set reads an entry of the source into the item.
func (m *moveMove) set(s *source, key, value []byte) {
	*m = moveMove{Family: s.family}
	copy(m.From[:], key)
	to, c := m.image()
	s.reader.key.apply(to, key)
	s.reader.conn.apply(bytesOf(c), value)
	m.Proto, m.Cites = to[len(to)-2], to[len(to)-1]
	if c.Life != lifeRetired && c.Life != lifeDead {
		c.Life = lifeLive // nobody is writing to it any more
	}
}

// mover moves the entries of one source into the tables of a datapath.
type mover struct {
	d      *Datapath
	source *source
	objs   moveObjects
	items  shared[moveMove]
	rows   rows
}

func (d *Datapath) mover(s *source) (*mover, error) {
	spec, err := loadMove()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	replace := map[string]*ebpf.Map{"conns4": d.objs.Conns4, "conns6": d.objs.Conns6, "old": s.table}
	for name, m := range replace {
		to := spec.Maps[name]
		to.KeySize, to.ValueSize, to.MaxEntries, to.Flags = m.KeySize(), m.ValueSize(), m.MaxEntries(), m.Flags()
	}
	m := &mover{d: d, source: s, rows: newRows(s.table)}
	options := &ebpf.CollectionOptions{MapReplacements: replace,
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}}
	if err := spec.LoadAndAssign(&m.objs, options); err != nil {
		return nil, loadError(err, "")
	}
	if m.items, err = share[moveMove](m.objs.Moves); err != nil {
		return nil, errors.Join(err, m.objs.Close())
	}
	return m, nil
}

func (m *mover) close() error { return errors.Join(m.items.close(), m.objs.Close()) }

// rows are buffers for entries of any size.
type rows struct {
	keySize, valueSize int
	keys, values       reflect.Value // slices of arrays of bytes
}

func newRows(table *ebpf.Map) rows {
	r := rows{keySize: int(table.KeySize()), valueSize: int(table.ValueSize())}
	r.grow(min(moveItems, int(table.MaxEntries())))
	return r
}

func (r *rows) grow(n int) {
	make := func(size int) reflect.Value {
		return reflect.MakeSlice(reflect.SliceOf(reflect.ArrayOf(size, reflect.TypeFor[byte]())), n, n)
	}
	r.keys, r.values = make(r.keySize), make(r.valueSize)
}

func (r *rows) row(i int) (key, value []byte) {
	return r.keys.Index(i).Slice(0, r.keySize).Bytes(), r.values.Index(i).Slice(0, r.valueSize).Bytes()
}

// each shows the entries of a table, some at a time: how many are in the buffers. They may be deleted
// meanwhile.
func (r *rows) each(table *ebpf.Map, fn func(n int) error) error {
	var cursor ebpf.MapBatchCursor
	for {
		n, err := table.BatchLookup(&cursor, r.keys.Interface(), r.values.Interface(), nil)
		if errors.Is(err, unix.ENOSPC) { // a bucket holds more than the buffers; the cursor has not moved
			r.grow(2 * r.keys.Len())
			continue
		}
		end := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !end {
			return fmt.Errorf("read %v: %w", table, err)
		}
		if err := fn(n); err != nil || end {
			return err
		}
	}
}

// all moves everything that there is. Where there is too little room, those that were idle for the
// longest time come last.
func (m *mover) all(to Migration) error {
	limit, tight, err := m.limit()
	if err != nil {
		return err
	}
	if tight {
		for _, since := range []int64{limit + 1, limit} {
			if err := m.move(since, to); err != nil {
				return err
			}
		}
	}
	return m.move(math.MinInt64, to)
}

// limit tells whether room is tight, and then the time of the last packet of the last connection that
// finds room.
func (m *mover) limit() (at int64, tight bool, err error) {
	target := m.d.table(m.source.family)
	if sizeOf(m.source.table) <= sizeOf(target) {
		return 0, false, nil
	}
	var times []int64
	err = m.rows.each(m.source.table, func(n int) error {
		for i := range n {
			var it moveMove
			key, value := m.rows.row(i)
			it.set(m.source, key, value)
			if _, c := it.image(); c.Life != lifeDead {
				times = append(times, lastOf(c))
			}
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	held, err := m.d.Held()
	room := sizeOf(target) - held.of(m.source.family)
	if err != nil || room >= len(times) || room <= 0 {
		return 0, false, err
	}
	slices.Sort(times)
	return times[len(times)-room], true, nil
}

func lastOf(c *weirConn) int64 { return max(int64(c.Leg[0].Last), int64(c.Leg[1].Last)) }

// move moves the connections whose last packet is not older than that.
func (m *mover) move(since int64, to Migration) error {
	return m.rows.each(m.source.table, func(rows int) error {
		for row := 0; row < rows; {
			n := 0
			for ; row < rows && n < moveItems; row++ {
				it := &m.items.items[n]
				key, value := m.rows.row(row)
				it.set(m.source, key, value)
				_, c := it.image()
				it.Lifetime = uint64(m.d.opts.Lifetimes[c.State%States])
				if lastOf(c) >= since {
					n++
				}
			}
			if err := m.part(n, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// part moves the first items, and lets what does not go on be reported before it is deleted.
func (m *mover) part(n int, to Migration) error {
	if err := m.run(n); err != nil {
		return err
	}
	var over []*moveMove
	var e Entry
	for i := range n {
		it := &m.items.items[i]
		if it.Result != moveEnded && it.Result != moveFull {
			continue
		}
		over = append(over, it)
		key, c := it.image()
		if c.Life == lifeDead {
			continue // its last record was written before
		}
		e.set(it.Family, unsafe.Pointer(&key[0]), c)
		why := it.End
		if it.Result == moveFull {
			why = endNoRoom
		}
		if err := to.Ended(&e, why); err != nil {
			return err
		}
	}
	if over == nil {
		return nil
	}
	if err := to.Flush(); err != nil {
		return err
	}
	for _, it := range over {
		if err := m.source.table.Delete(it.From[:m.rows.keySize]); err != nil {
			return fmt.Errorf("delete from the old table: %w", err)
		}
	}
	return nil
}

// run has the first items moved. One whose tuple's entry is just being written comes again: that
// takes another CPU no longer than a packet.
func (m *mover) run(n int) error {
	for left := n; left > 0; {
		if err := errors.Join(m.objs.MoveCount.Set(uint32(n)), m.objs.MoveNext.Set(uint32(0))); err != nil {
			return fmt.Errorf("set the items to move: %w", err)
		}
		_, err := m.objs.WeirMove.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32((n + moveRun - 1) / moveRun)})
		if err != nil {
			return fmt.Errorf("run the move program: %w", err)
		}
		left = 0
		for i := range n {
			if m.items.items[i].Result == moveBusy {
				left++
			}
		}
		runtime.Gosched()
	}
	return nil
}
