package program

import (
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
)

// tailCalls are wires by a program array. It must be held as long as packets may be in its programs:
// the kernel empties it when nobody does.
type tailCalls struct {
	kind    hook.Kind
	members []Member // nil when it was opened
	array   *ebpf.Map
}

const arrayPin = "array"

func newTailCalls(kind hook.Kind, members []Member) (wires, error) {
	array, err := ebpf.NewMap(&ebpf.MapSpec{Name: "weir_chain", Type: ebpf.ProgramArray,
		KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(members))})
	if err != nil {
		return nil, fmt.Errorf("make the program array: %w", err)
	}
	return &tailCalls{kind, members, array}, nil
}

func openTailCalls(dir string) (wires, error) {
	array, err := ebpf.LoadPinnedMap(filepath.Join(dir, arrayPin), nil)
	if err != nil {
		return nil, err
	}
	return &tailCalls{array: array}, nil
}

func (t *tailCalls) wiring() Wiring { return TailCalls }

func (t *tailCalls) forms(index int) []form {
	to := next{array: t.array.FD(), index: index + 1, last: index == len(t.members)-1}
	return wraps(t.kind, &t.members[index], to)
}

func (t *tailCalls) connect(index int, p *ebpf.Program) error {
	if err := t.array.Put(uint32(index), p); err != nil {
		return fmt.Errorf("put it into the program array, with the members before it: %w", err)
	}
	return nil
}

func (t *tailCalls) heads(members []*ebpf.Program) []*ebpf.Program { return members[:1] }

func (t *tailCalls) verify(want []ebpf.ProgramID) error {
	for i, id := range want {
		var got uint32 // what the kernel tells of a program array's slot is the program's id
		if err := t.array.Lookup(uint32(i), &got); err != nil {
			return fmt.Errorf("read slot %d of the program array: %w", i, err)
		}
		if ebpf.ProgramID(got) != id {
			return fmt.Errorf("slot %d of the program array holds program %d, not %d", i, got, id)
		}
	}
	return nil
}

func (t *tailCalls) pins() map[string]pinner { return map[string]pinner{arrayPin: t.array} }

func (t *tailCalls) Close() error { return t.array.Close() }
