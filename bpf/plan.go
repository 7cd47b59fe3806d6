package bpf

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// plan says how a value of one layout becomes one of another: which bytes go where. The rest of the
// target stays as it is.
type plan []span

// span is a run of bytes that is copied.
type span struct{ to, from, size int }

func (p plan) apply(to, from []byte) {
	for _, s := range p {
		copy(to[s.to:s.to+s.size], from[s.from:s.from+s.size])
	}
}

// moved is the plan for a target and a source that begin somewhere else.
func (p plan) moved(to, from int) plan {
	out := make(plan, len(p))
	for i, s := range p {
		out[i] = span{s.to + to, s.from + from, s.size}
	}
	return out
}

// planOf plans a value of one type out of one of another, field by field, by their names. What the
// source does not have is left out, what the target does not have is dropped. A number may become a
// wider one; anything else that differs in kind is an error.
func planOf(to, from btf.Type) (plan, error) {
	var p plan
	err := p.add("", to, 0, from, 0)
	return p, err
}

func (p *plan) add(path string, to btf.Type, toAt int, from btf.Type, fromAt int) error {
	to, from = btf.UnderlyingType(to), btf.UnderlyingType(from)
	switch to := to.(type) {
	case *btf.Struct:
		if from, ok := from.(*btf.Struct); ok {
			return p.addStruct(path, to, toAt, from, fromAt)
		}
	case *btf.Array:
		if from, ok := from.(*btf.Array); ok {
			return p.addArray(path, to, toAt, from, fromAt)
		}
	case *btf.Int:
		if from, ok := from.(*btf.Int); ok && from.Size <= to.Size && (from.Size == to.Size || from.Encoding == btf.Unsigned) {
			p.copy(span{toAt, fromAt, int(from.Size)})
			return nil
		}
	}
	return fmt.Errorf("%s: %v cannot become %v", path, from, to)
}

func (p *plan) addStruct(path string, to *btf.Struct, toAt int, from *btf.Struct, fromAt int) error {
	if to.Name == spinLock {
		return nil
	}
	for _, field := range to.Members {
		had := member(from, field.Name)
		if had == nil {
			continue
		}
		at := path + "." + field.Name
		if field.BitfieldSize != 0 || had.BitfieldSize != 0 {
			return fmt.Errorf("%s: is a bit field", at)
		}
		err := p.add(at, field.Type, toAt+int(field.Offset.Bytes()), had.Type, fromAt+int(had.Offset.Bytes()))
		if err != nil {
			return err
		}
	}
	return nil
}

// spinLock is the kernel's type of an entry's lock, which nobody may copy.
const spinLock = "bpf_spin_lock"

func member(s *btf.Struct, name string) *btf.Member {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

func (p *plan) addArray(path string, to *btf.Array, toAt int, from *btf.Array, fromAt int) error {
	toSize, err := btf.Sizeof(to.Type)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fromSize, err := btf.Sizeof(from.Type)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for i := range int(min(to.Nelems, from.Nelems)) {
		err := p.add(fmt.Sprintf("%s[%d]", path, i), to.Type, toAt+i*toSize, from.Type, fromAt+i*fromSize)
		if err != nil {
			return err
		}
	}
	return nil
}

// copy adds a span, to the one before where it goes on.
func (p *plan) copy(s span) {
	if n := len(*p); n > 0 {
		if last := &(*p)[n-1]; last.to+last.size == s.to && last.from+last.size == s.from {
			last.size += s.size
			return
		}
	}
	*p = append(*p, s)
}

// need tells whether a type lacks a field: its name, and those of fields in it. Of an array the
// elements' fields are meant.
func need(t btf.Type, path []string) error {
	for at := t; len(path) > 0; path = path[1:] {
		at = btf.UnderlyingType(at)
		if a, ok := at.(*btf.Array); ok {
			at = btf.UnderlyingType(a.Type)
		}
		s, ok := at.(*btf.Struct)
		if !ok {
			return fmt.Errorf("%v has no %s", at, path[0])
		}
		m := member(s, path[0])
		if m == nil {
			return fmt.Errorf("type %s has no %s", s.Name, path[0])
		}
		at = m.Type
	}
	return nil
}
