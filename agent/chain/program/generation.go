// Package program makes the programs of a chain: it takes members from their objects and wires
// them together, so that each one's verdict decides whether the packet goes on to the next. The result is a
// generation: complete before a packet sees it, and never changed.
package program

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
)

// Member is a member to be built.
type Member struct {
	Name    string
	Object  *ebpf.CollectionSpec // it is not changed
	Program string               // in the object; "" when there is but one
	// Data tells versions of the object apart: what its variables hold is kept for the same
	// version only.
	Data string
	// Filled are the maps that start with contents of the object's, and what tells contents apart: such a
	// map is kept for the same contents only.
	Filled map[string]string
	// Measured are maps that the program must have, beside those that are filled.
	Measured []string
	// Kept is the place, from 1 on, of the very same member in the generation before, whose program it keeps; 0: it
	// is loaded. Links only.
	Kept int
	// Jumps is how many tail calls a packet takes at most from the member's program on, and comes back: those programs give
	// the member's verdict. 0: it makes none, or does not come back from them.
	Jumps      int
	Proceed    []hook.Verdict // verdicts with which the packet goes on to the next member
	FailClosed bool           // a broken chain drops the packet, else it passes
}

// program finds the member's program in its object.
func (m *Member) program(kind hook.Kind) (*ebpf.ProgramSpec, error) {
	name, err := entry(m.Object, kind, m.Program)
	if err != nil {
		return nil, err
	}
	return m.Object.Programs[name], nil
}

// Generation is a complete set of programs. Close lets go of it; what is pinned or attached stays
// in the kernel.
type Generation struct {
	wires    wires
	programs []*ebpf.Program
	maps     map[string]*ebpf.Map // by the name of their pin
}

// The pins of a generation.
const (
	programPin = "program-"
	mapPin     = "map-"
)

// Build loads members into the kernel, in their order. Maps of the generation before, which may be
// nil, go on being used where they fit: a member that is loaded anew keeps its state.
func Build(kind hook.Kind, wiring Wiring, members []Member, before *Generation) (*Generation, error) {
	if n := wiring.MaxMembers(); len(members) == 0 || len(members) > n {
		return nil, fmt.Errorf("a chain has 1 to %d members, not %d", n, len(members))
	}
	wires, err := wiring.make(kind, members)
	if err != nil {
		return nil, err
	}
	g := &Generation{wires: wires, maps: map[string]*ebpf.Map{}}
	for i := range members {
		if err := g.add(kind, &members[i], before); err != nil {
			return nil, errors.Join(fmt.Errorf("member %s: %w", members[i].Name, err), g.Close())
		}
	}
	return g, nil
}

// add loads the next member and wires it.
func (g *Generation) add(kind hook.Kind, m *Member, before *Generation) error {
	name, err := entry(m.Object, kind, m.Program)
	if err != nil {
		return err
	}
	used := only(m.Object, name).Maps
	for _, named := range slices.AppendSeq(slices.Clone(m.Measured), maps.Keys(m.Filled)) {
		if used[named] == nil {
			return fmt.Errorf("program %s does not use map %s", name, named)
		}
	}
	index := len(g.programs)
	if m.Kept > 0 {
		return g.keep(m, only(m.Object, name), before)
	}
	coll, pins, err := g.load(name, m, before)
	if err != nil {
		return fmt.Errorf("load program %s: %w", name, err)
	}
	defer coll.Close()
	for mapName, pin := range pins {
		if g.maps[pin] == nil {
			g.maps[pin] = coll.DetachMap(mapName)
		}
	}
	p := coll.DetachProgram(name)
	g.programs = append(g.programs, p)
	return g.wires.connect(index, p)
}

// load loads the next member's program in the best form that the verifier accepts. It also returns the pins of its maps.
func (g *Generation) load(name string, m *Member, before *Generation) (*ebpf.Collection, map[string]string, error) {
	var unsuitable []error
	var err error
	forms := g.wires.forms(len(g.programs))
	for _, as := range forms {
		spec := only(m.Object, name)
		if err = prepare(spec.Programs[name], m, as); err != nil {
			unsuitable = append(unsuitable, err)
			continue
		}
		pins := pinNames(spec, m)
		coll, failed := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: g.known(spec, pins, before)})
		if failed == nil {
			return coll, pins, nil
		}
		err = told(failed)
	}
	if n := len(unsuitable); n > 0 && n == len(forms)-1 {
		err = fmt.Errorf("as a function of another one, because %s: %w", because(unsuitable), err)
	}
	return nil, nil, err
}

// because is one line of reasons.
func because(reasons []error) string {
	var all []string
	for _, r := range reasons {
		all = append(all, r.Error())
	}
	return strings.Join(all, " and ")
}

// keep takes a member's program and maps over from the generation before.
func (g *Generation) keep(m *Member, spec *ebpf.CollectionSpec, before *Generation) error {
	p, err := before.programs[m.Kept-1].Clone()
	if err != nil {
		return err
	}
	g.programs = append(g.programs, p)
	for _, pin := range pinNames(spec, m) {
		if g.maps[pin] != nil || before.maps[pin] == nil {
			continue
		}
		if g.maps[pin], err = before.maps[pin].Clone(); err != nil {
			return err
		}
	}
	return nil
}

// told adds the end of what the verifier says to its error.
func told(err error) error {
	var v *ebpf.VerifierError
	if !errors.As(err, &v) {
		return err
	}
	const lines = 20
	log := slices.DeleteFunc(slices.Clone(v.Log), func(line string) bool { return strings.TrimSpace(line) == "" })
	return fmt.Errorf("%w; the verifier's last words:\n%s", v.Cause,
		strings.Join(log[max(0, len(log)-lines):], "\n"))
}

// known are the maps that a member shares with members before it, or has from the generation
// before.
func (g *Generation) known(spec *ebpf.CollectionSpec, pins map[string]string,
	before *Generation) map[string]*ebpf.Map {
	all := map[string]*ebpf.Map{}
	for name, pin := range pins {
		m := g.maps[pin]
		if m == nil && before != nil && before.maps[pin] != nil && fits(spec.Maps[name], before.maps[pin]) {
			m = before.maps[pin]
		}
		if m != nil {
			all[name] = m
		}
	}
	return all
}

// fits tells whether a map is laid out as a member wants it.
func fits(spec *ebpf.MapSpec, m *ebpf.Map) bool {
	const mmapable = 1 << 10 // BPF_F_MMAPABLE, which data sections get where the kernel has it
	return spec.Type == m.Type() && spec.KeySize == m.KeySize() && spec.ValueSize == m.ValueSize() &&
		spec.MaxEntries == m.MaxEntries() && spec.Flags|mmapable == m.Flags()|mmapable
}

// pinNames gives the maps of a member that outlive a generation their names in the folder of
// pins: those that the object wants pinned by name are shared by all members. Constants are
// made anew each time. The spec is told to pin nothing by itself.
func pinNames(spec *ebpf.CollectionSpec, m *Member) map[string]string {
	pins := map[string]string{}
	for name, s := range spec.Maps {
		switch {
		case strings.HasPrefix(name, ".rodata"), strings.HasPrefix(name, ".kconfig"):
		case strings.HasPrefix(name, "."):
			pins[name] = mapPin + m.Name + "-" + m.Data + "-" + plainName(name)
		case s.Pinning == ebpf.PinByName:
			pins[name] = sharedPin(name)
		default:
			pins[name] = ownPin(m.Name, m.Filled[name], name)
		}
		s.Pinning = ebpf.PinNone
	}
	return pins
}

// sharedPin is the pin of a map that all members share.
func sharedPin(name string) string { return mapPin + "-" + plainName(name) }

// ownPin is the pin of a member's own map.
func ownPin(member, filled, name string) string {
	return mapPin + member + "-" + filled + "-" + plainName(name)
}

// plainName is a name for a bpffs, which has no dots.
func plainName(name string) string { return strings.ReplaceAll(name, ".", "") }

// only copies what a program needs: itself, its maps, and the programs in its program arrays.
func only(spec *ebpf.CollectionSpec, name string) *ebpf.CollectionSpec {
	spec = spec.Copy()
	programs, maps := map[string]*ebpf.ProgramSpec{}, map[string]*ebpf.MapSpec{}
	var need func(string)
	need = func(name string) {
		p := spec.Programs[name]
		if p == nil || programs[name] != nil {
			return
		}
		programs[name] = p
		for _, ins := range p.Instructions {
			m := spec.Maps[ins.Reference()]
			if !ins.IsLoadFromMap() || m == nil || maps[ins.Reference()] != nil {
				continue
			}
			maps[ins.Reference()] = m
			for _, kv := range m.Contents {
				if inner, ok := kv.Value.(string); ok {
					need(inner)
				}
			}
		}
	}
	need(name)
	spec.Programs, spec.Maps = programs, maps
	for n, v := range spec.Variables {
		if maps[v.SectionName] == nil {
			delete(spec.Variables, n)
		}
	}
	return spec
}

// Heads are the programs for the hook: one, but with Links.
func (g *Generation) Heads() []*ebpf.Program { return g.wires.heads(g.programs) }

// Wiring is how the generation's members are wired.
func (g *Generation) Wiring() Wiring { return g.wires.wiring() }

// HeadIDs are the ids of the programs for the hook.
func (g *Generation) HeadIDs() ([]ebpf.ProgramID, error) { return hook.ProgramIDs(g.Heads()) }

// IDs are the ids of the members' programs, in their order.
func (g *Generation) IDs() ([]ebpf.ProgramID, error) { return hook.ProgramIDs(g.programs) }

// Verify asks the kernel whether every member is at its place.
func (g *Generation) Verify() error {
	want, err := g.IDs()
	if err != nil {
		return err
	}
	return g.wires.verify(want)
}

// pinner is an object of the kernel that can be pinned.
type pinner interface{ Pin(string) error }

// Pin makes the generation outlive the process, in a new folder on a bpffs.
func (g *Generation) Pin(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	pins := g.wires.pins()
	for i, p := range g.programs {
		clone, err := p.Clone() // as maps
		if err != nil {
			return err
		}
		defer clone.Close()
		pins[numbered(programPin, i)] = clone
	}
	for name, m := range g.maps {
		clone, err := m.Clone() // it may be pinned in the folder before, and is to stay there
		if err != nil {
			return err
		}
		defer clone.Close()
		pins[name] = clone
	}
	for name, p := range pins {
		if err := p.Pin(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// numbered is the name of a pin; names sort as numbers do.
func numbered(prefix string, number int) string { return fmt.Sprintf("%s%02d", prefix, number) }

// Open opens a generation that was pinned.
func Open(dir string) (*Generation, error) {
	g := &Generation{maps: map[string]*ebpf.Map{}}
	if err := g.open(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open the pinned generation %s: %w", dir, err), g.Close())
	}
	return g, nil
}

func (g *Generation) open(dir string) (err error) {
	if g.wires, err = openWires(dir); err != nil {
		return err
	}
	files, err := os.ReadDir(dir) // sorted, and so are the numbers of programs
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch {
		case strings.HasPrefix(f.Name(), programPin):
			p, err := ebpf.LoadPinnedProgram(path, nil)
			if err != nil {
				return err
			}
			g.programs = append(g.programs, p)
		case strings.HasPrefix(f.Name(), mapPin):
			if g.maps[f.Name()], err = ebpf.LoadPinnedMap(path, nil); err != nil {
				return err
			}
		}
	}
	if len(g.programs) == 0 {
		return errors.New("there are no programs")
	}
	return nil
}

// Close closes the file descriptors.
func (g *Generation) Close() error {
	var errs []error
	if g.wires != nil {
		errs = append(errs, g.wires.Close())
	}
	for _, p := range g.programs {
		errs = append(errs, p.Close())
	}
	for _, m := range g.maps {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
