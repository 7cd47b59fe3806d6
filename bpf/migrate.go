package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Migration takes what does not go on in the new tables (README section 11).
type Migration struct {
	// Ended takes a connection that has ended, as it ended, and why (IPFIX flowEndReason). What it
	// has not reported is in no other record. The entry is valid during the call.
	Ended func(e *Entry, why uint8) error
	// Flush returns when all that Ended was given is safe.
	Flush func() error
	// Drain reads the events and releases them.
	Drain func() error
}

// asideSuffix marks the pin of a table whose connections are to be moved into the one of its name.
const asideSuffix = "-old"

// tableNames are the connection tables by their families.
var tableNames = map[uint8]string{4: "conns4", 6: "conns6"}

func (d *Datapath) table(family uint8) *ebpf.Map {
	if family == 4 {
		return d.objs.Conns4
	}
	return d.objs.Conns6
}

// Resize gives the tables another size, in entries each, while traffic flows: connections go on as
// they are. Shrunk tables keep those that were used last. When it fails before the packet path uses
// the new tables, the old ones stay; later, Migrate goes on with it.
func (d *Datapath) Resize(entries int, to Migration) error {
	if err := d.complete(to); err != nil {
		return err
	}
	fit, err := d.fits(entries)
	if err != nil || fit {
		return err
	}
	r, err := d.renew(entries)
	if err != nil {
		return err
	}
	if err := r.swap(); err != nil {
		return err
	}
	d.wanted = entries
	return d.complete(to)
}

// Migrate brings what an earlier agent has left under another layout or in tables of another size
// into those in use, and gives these the wanted size. It must have returned before the tables are
// swept. All hooks must be attached by now. It does nothing when there is nothing left to do.
func (d *Datapath) Migrate(to Migration) error { return d.Resize(d.wanted, to) }

// fits tells whether the tables have that size, and the fast path the slots that go with it.
func (d *Datapath) fits(entries int) (bool, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return false, fmt.Errorf("count the possible CPUs: %w", err)
	}
	opts := d.opts
	opts.Table = entries
	slots, err := slotsFor(&opts, cpus)
	return slots == d.slots && sizeOf(d.objs.Conns4) == entries && sizeOf(d.objs.Conns6) == entries, err
}

// sizeOf is how many connections a table has room for.
func sizeOf(table *ebpf.Map) int { return withoutMilestones(int(table.MaxEntries())) }

// pending tells whether there are old tables to move from.
func (d *Datapath) pending() bool { return len(d.sources) > 0 || d.older != nil }

// resume lets the packet path be as the settings say when nothing is left in old tables. Until then the
// fast path stands still, for its slots would count for entries that are not yet what they are to be, and
// a packet of a connection that is still in an old table seems to be one in mid-stream.
func (d *Datapath) resume() error {
	if d.pending() {
		return nil
	}
	if err := d.objs.MidStream.Set(bit(d.opts.MidStream)); err != nil {
		return fmt.Errorf("set the datapath's settings: %w", err)
	}
	return d.setSlots(slotTime(&d.opts.Settings))
}

// complete moves what is in old tables. No packet path but ours is in place.
func (d *Datapath) complete(to Migration) error {
	if !d.pending() {
		return nil
	}
	if err := d.Grace(); err != nil {
		return err
	}
	for ; len(d.sources) > 0; d.sources = d.sources[1:] {
		if err := d.exhaust(d.sources[0], to); err != nil {
			return fmt.Errorf("move connections into the new tables: %w", err)
		}
	}
	if d.older != nil {
		if err := d.succeed(to); err != nil {
			return fmt.Errorf("take over %s: %w", d.older.folder, err)
		}
		if err := d.older.close(); err != nil {
			return err
		}
		d.older = nil
	}
	return d.resume()
}

// exhaust moves all connections of a table and forgets it.
func (d *Datapath) exhaust(s *source, to Migration) error {
	m, err := d.mover(s)
	if err != nil {
		return err
	}
	if err := errors.Join(m.all(to), m.close()); err != nil {
		return err
	}
	return errors.Join(removePin(s.pin), s.table.Close())
}

// renewal is a packet path with tables of another size that is to follow the one in place.
type renewal struct {
	d, next *Datapath
	aside   []uint8 // families whose table in use has the other name
}

// renew loads it. Nothing is changed yet.
func (d *Datapath) renew(entries int) (*renewal, error) {
	next := &Datapath{opts: d.opts, wanted: d.wanted, now: d.now, stubs: d.stubs, hooks: d.hooks,
		claimed: d.claimed, left: d.left, events: d.events, attached: d.attached, Adopted: d.Adopted, Probes: d.Probes}
	next.opts.Table = entries
	for _, family := range []uint8{4, 6} {
		table, err := d.table(family).Clone()
		if err != nil {
			return nil, errors.Join(err, next.closeSources())
		}
		next.sources = append(next.sources, &source{family, table, sameLayout(family), d.asidePin(family)})
	}
	if err := next.loadBeside(d); err != nil {
		return nil, errors.Join(err, next.closeSources())
	}
	return &renewal{d: d, next: next}, nil
}

// loadBeside loads the packet path, with the maps of another one but for those that go with the size.
func (d *Datapath) loadBeside(other *Datapath) error {
	spec, err := d.spec()
	if err != nil {
		return err
	}
	o := &other.objs
	kept := map[string]*ebpf.Map{"hooks": o.Hooks, "stats": o.Stats, "past": o.Past, "events": o.Events,
		"flow_ids": o.FlowIds, "jump": o.Jump, "scratch": o.Scratch, "fragments": o.Fragments}
	if err := d.load(spec, &ebpf.CollectionOptions{MapReplacements: kept}); err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return errors.Join(err, d.closeObjects())
	}
	return nil
}

// swap puts it in place of the other one, whose tables become sources. Their entries have all that was
// counted in slots by then, whoever goes on.
func (r *renewal) swap() error {
	for _, step := range []func() error{r.d.drainSlots, r.arm, r.putAside, r.pin, r.next.put} {
		if err := step(); err != nil {
			return errors.Join(err, r.putBack(), r.d.resume(), r.next.closeSources(), r.next.closeObjects())
		}
	}
	err := r.d.closeObjects()
	*r.d = *r.next
	return err
}

// arm carries the alarm for full tables over.
func (r *renewal) arm() error {
	on, err := r.d.Alarm()
	if err != nil {
		return err
	}
	return r.next.SetAlarm(on)
}

// putAside gives the pins of the tables in use another name. Slots have no pin to keep: they are empty.
func (r *renewal) putAside() error {
	if r.d.opts.Pin == "" {
		return nil
	}
	for _, name := range []string{"cache4", "cache6"} {
		if err := removePin(filepath.Join(r.d.pinPath(), name)); err != nil {
			return fmt.Errorf("put slots aside: %w", err)
		}
	}
	for family, name := range tableNames {
		if err := os.Rename(filepath.Join(r.d.pinPath(), name), r.d.asidePin(family)); err != nil {
			return fmt.Errorf("put a table aside: %w", err)
		}
		r.aside = append(r.aside, family)
	}
	return nil
}

// putBack gives the pins of what is in use their names back.
func (r *renewal) putBack() error {
	if r.d.opts.Pin == "" {
		return nil
	}
	for _, family := range r.aside {
		pin := filepath.Join(r.d.pinPath(), tableNames[family])
		if err := os.Rename(r.d.asidePin(family), pin); err != nil {
			return fmt.Errorf("put a table back: %w", err)
		}
	}
	for name, m := range map[string]*ebpf.Map{"cache4": r.d.objs.Cache4, "cache6": r.d.objs.Cache6} {
		if err := pinAgain(m, filepath.Join(r.d.pinPath(), name)); err != nil {
			return fmt.Errorf("put slots back: %w", err)
		}
	}
	return nil
}

// pinAgain pins a map whose pin somebody has removed, or replaced.
func pinAgain(m *ebpf.Map, pin string) error {
	if err := removePin(pin); err != nil {
		return err
	}
	m, err := m.Clone() // which knows of no pin
	if err != nil {
		return err
	}
	return errors.Join(m.Pin(pin), m.Close())
}

// pin pins what is new.
func (r *renewal) pin() error {
	if r.d.opts.Pin == "" {
		return nil
	}
	o := &r.next.objs
	for name, m := range map[string]*ebpf.Map{"conns4": o.Conns4, "conns6": o.Conns6, "cache4": o.Cache4, "cache6": o.Cache6} {
		if err := m.Pin(filepath.Join(r.d.pinPath(), name)); err != nil {
			return fmt.Errorf("pin the new %s: %w", name, err)
		}
	}
	return nil
}

func (d *Datapath) asidePin(family uint8) string {
	if d.opts.Pin == "" {
		return ""
	}
	return filepath.Join(d.pinPath(), tableNames[family]+asideSuffix)
}

// findSources finds the tables that an earlier agent has put aside, and what is left of an older
// layout.
func (d *Datapath) findSources() error {
	for _, family := range []uint8{4, 6} {
		pin := d.asidePin(family)
		table, err := ebpf.LoadPinnedMap(pin, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open a table that was put aside: %w", err)
		}
		d.sources = append(d.sources, &source{family, table, sameLayout(family), pin})
	}
	if d.older == nil {
		return nil
	}
	for _, aside := range []string{"", asideSuffix} { // what goes on first comes first
		for family, name := range tableNames {
			m := d.older.maps[name+aside]
			if m == nil {
				continue
			}
			table, err := m.Clone()
			if err != nil {
				return err
			}
			d.sources = append(d.sources, &source{family, table, d.older.tables[family], ""})
		}
	}
	return nil
}

// inherit brings the older layout's hooks, flow ids and fragments to ours, before the packet path
// looks for them there. An agent that was killed may have done so.
func (d *Datapath) inherit() error {
	o := d.older
	if err := errors.Join(d.inheritHooks(), d.inheritNames(), d.inheritFlowIDs(), d.inheritFragments()); err != nil {
		return err
	}
	links, err := filepath.Glob(filepath.Join(o.folder, "link-*"))
	if err != nil {
		return err
	}
	for _, link := range links {
		if err := os.Rename(link, filepath.Join(d.pinPath(), filepath.Base(link))); err != nil {
			return fmt.Errorf("take over a link: %w", err)
		}
	}
	return nil
}

// inheritHooks gives hooks the numbers that they had: their stubs tell them.
func (d *Datapath) inheritHooks() error {
	from := d.older.maps["hooks"]
	if from == nil {
		return nil
	}
	value := make([]byte, from.ValueSize())
	for n := range min(from.MaxEntries(), d.objs.Hooks.MaxEntries()) {
		var had, have weirHook
		if err := errors.Join(from.Lookup(n, &value), d.objs.Hooks.Lookup(n, &have)); err != nil {
			return fmt.Errorf("read hook %d: %w", n, err)
		}
		d.older.plans["hooks"].value.apply(bytesOf(&had), value)
		if had.Flags&hookOn == 0 {
			continue
		}
		if have.Flags&hookOn != 0 && (have.Ifindex != had.Ifindex || have.Netns != had.Netns || have.Egress != had.Egress) {
			return fmt.Errorf("%w: hook %d is one in %s and another in %s: remove one of the folders", ErrLayout, n,
				d.older.folder, d.pinPath())
		}
		if have.Flags&hookOn == 0 {
			if err := d.objs.Hooks.Put(n, had); err != nil {
				return fmt.Errorf("write hook %d: %w", n, err)
			}
		}
	}
	return nil
}

// flowIDsAhead is how many flow ids per CPU are left to the older packet path, which goes on drawing
// them until ours is in its place.
const flowIDsAhead = 1 << 32

func (d *Datapath) inheritFlowIDs() error {
	from := d.older.maps["flow_ids"]
	if from == nil {
		return nil
	}
	var had, have []uint64
	if err := errors.Join(from.Lookup(uint32(0), &had), d.objs.FlowIds.Lookup(uint32(0), &have)); err != nil {
		return fmt.Errorf("read the flow ids: %w", err)
	}
	if slices.Max(have) > 0 {
		return nil // they were set by an agent that was killed, and are in use
	}
	for i := range had {
		had[i] += flowIDsAhead
	}
	if err := d.objs.FlowIds.Put(uint32(0), had); err != nil {
		return fmt.Errorf("write the flow ids: %w", err)
	}
	return nil
}

// inheritFragments copies what is remembered of first fragments, unless it is remembered already.
func (d *Datapath) inheritFragments() error {
	from := d.older.maps["fragments"]
	if from == nil {
		return nil
	}
	p, rows := d.older.plans["fragments"], newRows(from)
	err := rows.each(from, func(n int) error {
		for i := range n {
			var k weirFragmentKey
			var v weirFragmentTuple
			key, value := rows.row(i)
			p.key.apply(bytesOf(&k), key)
			p.value.apply(bytesOf(&v), value)
			err := d.objs.Fragments.Update(&k, &v, ebpf.UpdateNoExist)
			if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy the fragments: %w", err)
	}
	return nil
}

// succeed takes over what is left of the older layout when its connections are moved.
func (d *Datapath) succeed(to Migration) error {
	if err := errors.Join(d.inheritFragments(), d.inheritCounters(), to.Drain()); err != nil {
		return err
	}
	return d.older.remove()
}

// inheritCounters writes down what hooks had counted. Nobody counts there any more, so doing it once
// again changes nothing.
func (d *Datapath) inheritCounters() error {
	for n := range d.objs.Past.MaxEntries() {
		sum, err := d.older.counters(n)
		if err != nil {
			return fmt.Errorf("read the counters of hook %d: %w", n, err)
		}
		if sum == (weirHookStats{}) {
			continue
		}
		if err := d.objs.Past.Put(n, sum); err != nil {
			return fmt.Errorf("write the counters of hook %d: %w", n, err)
		}
	}
	return nil
}

// counters sums what a hook had counted on all CPUs, and under layouts before.
func (o *older) counters(hook uint32) (sum weirHookStats, err error) {
	for _, name := range []string{"stats", "past"} {
		m := o.maps[name]
		if m == nil || hook >= m.MaxEntries() {
			continue
		}
		perCPU, err := m.LookupBytes(hook)
		if err != nil {
			return sum, err
		}
		for value := range slices.Chunk(perCPU, int(m.ValueSize())) {
			var s weirHookStats
			o.plans[name].value.apply(bytesOf(&s), value)
			sum.add(&s)
		}
	}
	return sum, nil
}

// add adds word by word: all of it is counters.
func (s *weirHookStats) add(o *weirHookStats) {
	const words = unsafe.Sizeof(*s) / 8
	to, from := (*[words]uint64)(unsafe.Pointer(s)), (*[words]uint64)(unsafe.Pointer(o))
	for i := range to {
		to[i] += from[i]
	}
}
