package program

import (
	"errors"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
)

// linked are no wires: the kernel's list of programs leads packets from one member to the next.
type linked struct {
	kind    hook.Kind
	members []Member // nil when it was opened
}

func (l *linked) wiring() Wiring { return Links }

// forms are those of a last member, for all: the kernel goes on with one verdict only, to whatever comes next in its
// list. So a member is the same program wherever it is.
func (l *linked) forms(index int) []form {
	return wraps(l.kind, &l.members[index], next{last: true})
}

func (l *linked) connect(int, *ebpf.Program) error { return nil }

func (l *linked) heads(members []*ebpf.Program) []*ebpf.Program { return members }

func (l *linked) verify([]ebpf.ProgramID) error { return nil }

func (l *linked) pins() map[string]pinner { return map[string]pinner{} }

func (l *linked) Close() error { return nil }

// linkable tells why a member cannot be called by the kernel's list.
func (m *Member) linkable() error {
	if !slices.Contains(m.Proceed, hook.TCNext) {
		return errors.New("proceed_on lacks next: with it, the kernel always goes on to the next program in its list")
	}
	for _, v := range m.Proceed {
		if hook.Ingress.End(v) != hook.TCNext {
			return errors.New("proceed_on: a packet can go on with next, ok and pipe only")
		}
	}
	return nil
}
