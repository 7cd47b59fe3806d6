package nat

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"sync"
)

// Table holds the translations of all namespaces that are listened to. Its methods are safe for
// concurrent use.
type Table struct {
	mu    sync.Mutex
	room  int
	index [2]map[key]*entry // by Side; each entry is in the first, for the other see put
	// gone are those that the kernel has let go: a last record of theirs may still come.
	gone   map[*entry]struct{}
	sweeps uint64
	full   bool // since the last sweep
	stats  Stats
}

// Stats is what became of what the kernel told.
type Stats struct {
	Translations int    `json:"translations"` // in the table
	Lost         uint64 `json:"lost"`         // translations that found no room
	Overruns     uint64 `json:"overruns"`     // times that events were lost, and all was read anew
	Malformed    uint64 `json:"malformed"`    // messages that could not be read
	// Purges adds up what Sweep did under pressure.
	Purges Purge `json:"purges"`
}

// Purge is what a search for orphans found. A translation counts twice, under each of its two
// names: egress is the one before the translation, ingress the one to which replies come.
type Purge struct {
	IngressAlive   uint64 `json:"ingress_alive"`
	IngressDeleted uint64 `json:"ingress_deleted"`
	EgressAlive    uint64 `json:"egress_alive"`
	EgressDeleted  uint64 `json:"egress_deleted"`
}

type key struct {
	namespace string
	tuple     Tuple
}

type entry struct {
	Translation
	namespace string
	zone      uint16
	id        uint32
	epoch     uint64 // of the listener's last dump that showed it
	goneAt    uint64 // number of the sweep before which the kernel let it go
}

// NewTable makes a table for so many translations.
func NewTable(room int) *Table {
	return &Table{room: room, index: [2]map[key]*entry{{}, {}}, gone: map[*entry]struct{}{}}
}

// add takes what the kernel tells of a connection that is there.
func (t *Table) add(namespace string, epoch uint64, c *tracked) {
	if c.dying || portsUnread(c.tuple[Before].Protocol) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{namespace, c.tuple[Before]}
	old := t.index[Before][k]
	if old != nil {
		if old.is(c) {
			old.epoch = epoch
			t.alive(old)
			return
		}
		if old.zone == c.zone || c.translated() {
			t.drop(old) // a new connection has taken its tuple
		}
	}
	if !c.translated() {
		return
	}
	if len(t.index[Before]) >= t.room {
		t.stats.Lost++
		t.full = true
		return
	}
	t.put(&entry{Translation: Translation{ID: identify(namespace, c), Tuple: c.tuple},
		namespace: namespace, zone: c.zone, id: c.id, epoch: epoch})
}

// is tells whether the kernel speaks of this very connection.
func (e *entry) is(c *tracked) bool {
	return e.id == c.id && e.zone == c.zone && e.Tuple == c.tuple
}

// put adds an entry. Two connections can have one name after the translation, in different zones of
// the kernel: it stands for the later one.
func (t *Table) put(e *entry) {
	for side := range t.index {
		t.index[side][key{e.namespace, e.Tuple[side]}] = e
	}
}

func (t *Table) drop(e *entry) {
	for side := range t.index {
		if k := (key{e.namespace, e.Tuple[side]}); t.index[side][k] == e {
			delete(t.index[side], k)
		}
	}
	delete(t.gone, e)
}

func (t *Table) alive(e *entry) {
	e.goneAt = 0
	delete(t.gone, e)
}

// remove takes what the kernel tells of a connection that has ended.
func (t *Table) remove(namespace string, c *tracked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.index[Before][key{namespace, c.tuple[Before]}]; e != nil && e.is(c) {
		t.leave(e)
	}
}

func (t *Table) leave(e *entry) {
	e.goneAt = t.sweeps
	t.gone[e] = struct{}{}
}

// retain lets all translations of a namespace go that the dump of an epoch has not shown.
func (t *Table) retain(namespace string, epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.index[Before] {
		if _, gone := t.gone[e]; e.namespace == namespace && e.epoch < epoch && !gone {
			t.leave(e)
		}
	}
}

// Find looks for the translation of which one side is the tuple, and notes that side's flow id,
// unless that is 0.
func (t *Table) Find(namespace string, side Side, tuple Tuple, flow uint64) (Translation, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.index[side][key{namespace, tuple}]
	if e == nil {
		return Translation{}, false
	}
	if flow != 0 {
		e.Flow[side] = flow
	}
	return e.Translation, true
}

// Empty tells whether there is nothing to find.
func (t *Table) Empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.index[Before]) == 0
}

// Alive tells whether a connection is still to be reported.
type Alive func(namespace string, tuple Tuple) bool

// Sweep forgets the translations that the kernel let go before the sweep before this one, once their
// connections are gone. When one has found no room since the last sweep, it also forgets those whose
// connections are gone although the kernel still holds them: orphans.
func (t *Table) Sweep(alive Alive) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweeps++
	for e := range t.gone {
		if t.sweeps-e.goneAt > 1 && !e.used(alive) {
			t.drop(e)
		}
	}
	if t.full {
		t.full = false
		t.purge(alive)
	}
}

func (e *entry) used(alive Alive) bool {
	return alive(e.namespace, e.Tuple[Before]) || alive(e.namespace, e.Tuple[After])
}

func (t *Table) purge(alive Alive) {
	p := &t.stats.Purges
	for _, e := range t.index[Before] {
		replies := t.index[After][key{e.namespace, e.Tuple[After]}] == e
		if e.used(alive) {
			p.EgressAlive++
			if replies {
				p.IngressAlive++
			}
			continue
		}
		p.EgressDeleted++
		if replies {
			p.IngressDeleted++
		}
		t.drop(e)
	}
}

// Stats tells what became of what the kernel told.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Translations = len(t.index[Before])
	return s
}

// List shows all translations, with the names of their namespaces, in no order.
func (t *Table) List(show func(namespace string, tr Translation)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.index[Before] {
		show(e.namespace, e.Translation)
	}
}

func (t *Table) count(what func(*Stats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	what(&t.stats)
}

// identify makes the id that both sides of a translation share.
func identify(namespace string, c *tracked) string {
	b := []byte(namespace)
	b = binary.BigEndian.AppendUint16(b, c.zone)
	b = binary.BigEndian.AppendUint32(b, c.id)
	before := &c.tuple[Before]
	b = append(append(b, before.Src.AsSlice()...), before.Dst.AsSlice()...)
	for _, v := range []uint16{before.SrcPort, before.DstPort, uint16(before.Protocol), before.ICMPID} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	h := fnv.New64a()
	_, _ = h.Write(b) // never fails
	return hex.EncodeToString(h.Sum(nil))
}
