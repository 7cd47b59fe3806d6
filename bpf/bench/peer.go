package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// Peer is a program of another object, which is sent the same packets in the same run.
type Peer struct {
	Object  string // file; an ELF object with BTF map definitions
	Program string // name of a tc program in it
	// Set holds values of the object's global variables, by name.
	Set map[string]uint64
}

// String names the program, its object and what was set.
func (p *Peer) String() string {
	text := p.Program + " of " + filepath.Base(p.Object)
	for _, name := range slices.Sorted(maps.Keys(p.Set)) {
		text += fmt.Sprintf(" %s=%d", name, p.Set[name])
	}
	return text
}

// loadPeer loads the program and the maps that it uses. Nothing is pinned or adopted, and every
// hash map gets the size of weir's table: its own agent would size them too.
func loadPeer(p *Peer, table int) (*subject, error) {
	spec, err := ebpf.LoadCollectionSpec(p.Object)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.Object, err)
	}
	program, err := narrow(spec, p.Program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Object, err)
	}
	if err := p.configure(spec); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Object, err)
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if isHash(m.Type) {
			m.MaxEntries = uint32(table)
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", p.Object, err)
	}
	s := &subject{program: c.Programs[p.Program], kind: program.AttachType,
		close: func() error { c.Close(); return nil }}
	for _, m := range c.Maps {
		if isHash(m.Type()) {
			s.tables = append(s.tables, m)
		}
	}
	return s, nil
}

func isHash(t ebpf.MapType) bool {
	return slices.Contains([]ebpf.MapType{ebpf.Hash, ebpf.LRUHash, ebpf.PerCPUHash, ebpf.LRUCPUHash}, t)
}

// narrow leaves nothing in the object but the program, the programs that its maps call, and the
// maps and variables that they use.
func narrow(spec *ebpf.CollectionSpec, name string) (*ebpf.ProgramSpec, error) {
	program := spec.Programs[name]
	if program == nil {
		return nil, fmt.Errorf("no program %q; there are %s", name,
			strings.Join(slices.Sorted(maps.Keys(spec.Programs)), ", "))
	}
	if program.Type != ebpf.SchedCLS {
		return nil, fmt.Errorf("program %s is a %s; want a tc program", name, program.Type)
	}
	programs, used := map[string]*ebpf.ProgramSpec{}, map[string]*ebpf.MapSpec{}
	for left := []string{name}; len(left) > 0; left = left[1:] {
		p := spec.Programs[left[0]]
		if p == nil || programs[left[0]] != nil {
			continue
		}
		programs[left[0]] = p
		for _, ins := range p.Instructions {
			m := spec.Maps[ins.Reference()]
			if m == nil || !ins.IsLoadFromMap() {
				continue
			}
			used[ins.Reference()] = m
			left = append(left, called(m)...)
		}
	}
	spec.Programs, spec.Maps = programs, used
	maps.DeleteFunc(spec.Variables, func(_ string, v *ebpf.VariableSpec) bool {
		return used[v.SectionName] == nil
	})
	return program, nil
}

// called are the programs that an object puts into a program array.
func called(m *ebpf.MapSpec) (names []string) {
	for _, kv := range m.Contents {
		if s, ok := kv.Value.(string); ok {
			names = append(names, s)
		}
	}
	return names
}

func (p *Peer) configure(spec *ebpf.CollectionSpec) error {
	for _, name := range slices.Sorted(maps.Keys(p.Set)) {
		v := spec.Variables[name]
		if v == nil {
			return fmt.Errorf("the program uses no variable %q; there are %s", name,
				strings.Join(slices.Sorted(maps.Keys(spec.Variables)), ", "))
		}
		size := v.Size()
		if size > 8 || size < 8 && p.Set[name]>>(8*size) != 0 {
			return fmt.Errorf("variable %s has %d bytes; %d cannot be its value", name, size, p.Set[name])
		}
		value := binary.LittleEndian.AppendUint64(nil, p.Set[name])
		if err := v.Set(value[:size]); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// parseSet reads "name=value" settings.
func parseSet(settings []string) (map[string]uint64, error) {
	set := map[string]uint64{}
	for _, s := range settings {
		name, text, ok := strings.Cut(s, "=")
		value, err := strconv.ParseUint(text, 0, 64)
		if !ok || name == "" || err != nil {
			return nil, errors.Join(fmt.Errorf("--set %q: want name=number", s), err)
		}
		set[name] = value
	}
	return set, nil
}
