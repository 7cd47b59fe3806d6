package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// older is what an agent of an older layout has left, read as its maps describe themselves.
type older struct {
	folder string
	maps   map[string]*ebpf.Map // by name; some are missing when its agent was killed early
	tables map[uint8]reader     // by family
	plans  map[string]entryPlan // by name of the map, of the others
	events *Ring
}

// entryPlan says how key and value of an entry become ours.
type entryPlan struct{ key, value plan }

// eventHeader is the size of what stands before the entry in struct event: kind, family and end, the
// same in all layouts. The entry is one of conns6, for IPv4 with the key of conns4.
const eventHeader = 8

// openOlder opens and understands everything, and changes nothing.
func openOlder(pin string, number int) (*older, error) {
	o := &older{folder: filepath.Join(pin, folderOf(number)), maps: map[string]*ebpf.Map{},
		tables: map[uint8]reader{}, plans: map[string]entryPlan{}}
	if err := o.open(layouts[number].reasons); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrLayout, o.folder, err), o.close())
	}
	return o, nil
}

func (o *older) open(reasons []string) error {
	for _, name := range append([]string{"conns4" + asideSuffix, "conns6" + asideSuffix}, pinned...) {
		m, err := ebpf.LoadPinnedMap(filepath.Join(o.folder, name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open map %s: %w", name, err)
		}
		o.maps[name] = m
	}
	spec, err := loadWeir()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	for name, m := range o.maps {
		ours := strings.TrimSuffix(name, asideSuffix)
		if !slices.Contains(described, ours) {
			continue
		}
		if err := o.understand(m, spec.Maps[ours], reasons); err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
	}
	if m := o.maps["events"]; m != nil {
		if o.events, err = OpenRing(m); err != nil {
			return fmt.Errorf("open the ring buffer: %w", err)
		}
	}
	return nil
}

// described are the maps that are read as they describe themselves. Of the others, those that are read
// are the same in all layouts.
var described = []string{"conns4", "conns6", "hooks", "stats", "past", "fragments"}

func (o *older) close() error {
	var errs []error
	if o.events != nil {
		errs = append(errs, o.events.Close())
	}
	for _, m := range o.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// understand plans how a map's entries become those of ours, whose types have the same names.
func (o *older) understand(m *ebpf.Map, ours *ebpf.MapSpec, reasons []string) (err error) {
	handle, err := m.Handle()
	if err != nil {
		return fmt.Errorf("ask for its types: %w", err)
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return fmt.Errorf("read its types: %w", err)
	}
	value, err := typeLike(types, ours.Value, m.ValueSize())
	if err != nil {
		return err
	}
	switch ours.Name {
	case "stats", "past":
		p, err := planStats(ours.Value.(*btf.Struct), value, reasons)
		o.plans[ours.Name] = entryPlan{value: p}
		return err
	case "hooks":
		p, err := planOf(ours.Value, value)
		o.plans[ours.Name] = entryPlan{value: p}
		return err
	}
	key, err := typeLike(types, ours.Key, m.KeySize())
	if err != nil {
		return err
	}
	var p entryPlan
	if p.key, err = planOf(ours.Key, key); err != nil {
		return err
	}
	if ours.Name == "fragments" {
		p.value, err = planOf(ours.Value, value)
		o.plans[ours.Name] = p
		return err
	}
	return o.understandTable(ours, key, value, p.key)
}

// typeLike finds the type by its name, which several copies of it may have, and checks that it describes
// all of what there is.
func typeLike(types *btf.Spec, ours btf.Type, size uint32) (*btf.Struct, error) {
	all, err := types.AnyTypesByName(ours.TypeName())
	if err != nil {
		return nil, fmt.Errorf("find type %s: %w", ours.TypeName(), err)
	}
	for _, t := range all {
		if s, ok := t.(*btf.Struct); ok && s.Size == size {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no type %s has %d bytes, as what is stored", ours.TypeName(), size)
}

// needed are the fields without which a connection means nothing; the others begin at zero.
var needed = []string{"key.addr", "key.port", "key.proto", "id", "state", "life", "leg.packets",
	"leg.bytes", "leg.first", "leg.last", "leg.owner", "reported.packets", "reported.bytes"}

func (o *older) understandTable(ours *ebpf.MapSpec, key, value *btf.Struct, keys plan) error {
	if key.Size > uint32(len(moveMove{}.From)) {
		return fmt.Errorf("type %s has %d bytes, more than %d", key.Name, key.Size, len(moveMove{}.From))
	}
	for _, path := range needed {
		if err := need(value, strings.Split(path, ".")); err != nil {
			return err
		}
	}
	family := uint8(4)
	if ours.Name == "conns6" {
		family = 6
	}
	conn := *ours.Value.(*btf.Struct)
	conn.Members = slices.DeleteFunc(slices.Clone(conn.Members), func(m btf.Member) bool { return m.Name == "key" })
	conns, err := planOf(&conn, value)
	if err != nil {
		return err
	}
	o.tables[family] = reader{key: keys, conn: conns.moved(-keySize(family), 0)}
	return nil
}

// planStats plans struct hook_stats, whose reasons of loss the types do not tell.
func planStats(ours, theirs *btf.Struct, names []string) (plan, error) {
	counts := *ours
	counts.Members = slices.DeleteFunc(slices.Clone(ours.Members), func(m btf.Member) bool { return m.Name == "lost" })
	p, err := planOf(&counts, theirs)
	if err != nil {
		return nil, err
	}
	to, from := member(ours, "lost"), member(theirs, "lost")
	if from == nil {
		return nil, fmt.Errorf("type %s has no lost", theirs.Name)
	}
	array, ok := btf.UnderlyingType(from.Type).(*btf.Array)
	if !ok || int(array.Nelems) != len(names) {
		return nil, fmt.Errorf("type %s: lost is %v; want %d reasons", theirs.Name, from.Type, len(names))
	}
	each, err := planOf(btf.UnderlyingType(to.Type).(*btf.Array).Type, array.Type)
	if err != nil {
		return nil, err
	}
	size, err := btf.Sizeof(array.Type)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		at := slices.Index(reasons[:], name)
		if at < 0 {
			return nil, fmt.Errorf("no counter for packets lost by %q", name)
		}
		p = append(p, each.moved(int(to.Offset.Bytes())+at*int(unsafe.Sizeof(weirCount{})),
			int(from.Offset.Bytes())+i*size)...)
	}
	return p, nil
}

// event reads one that the older packet path has handed over.
func (o *older) event(e *Event, raw []byte) error {
	m := o.maps["conns6"]
	if m == nil || len(raw) != eventHeader+int(m.ValueSize()) {
		return fmt.Errorf("event of %d bytes in %s", len(raw), o.folder)
	}
	var w weirEvent
	w.Kind, w.Family, w.End = raw[0], raw[1], raw[2]
	keys, ok := o.tables[w.Family]
	if !ok {
		return fmt.Errorf("event with family %d, want 4 or 6", w.Family)
	}
	keys.key.apply(bytesOf(&w.Key), raw[eventHeader:])
	o.tables[6].conn.apply(bytesOf(&w.Conn), raw[eventHeader:])
	return e.decode(bytesOf(&w))
}

// bytesOf is the memory of a value.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

// remove removes what is pinned, once nothing is left to take over. The folder gets another name
// first: an agent that is killed in between leaves none that is half there.
func (o *older) remove() error {
	done := o.folder + doneSuffix
	if err := os.RemoveAll(done); err != nil {
		return fmt.Errorf("remove an older layout: %w", err)
	}
	if err := os.Rename(o.folder, done); err != nil {
		return fmt.Errorf("remove an older layout: %w", err)
	}
	if err := os.RemoveAll(done); err != nil {
		return fmt.Errorf("remove an older layout: %w", err)
	}
	return nil
}
