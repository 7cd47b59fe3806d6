package chain

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/rlimit"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/program"
)

// backend is a way to attach a chain and to wire its members.
type backend struct {
	name   string
	point  string // as package hook names it
	wiring program.Wiring
	asked  bool // only for chains that ask for it
}

// backends are those of each kind of hook, the best first. The ones of XDP differ in nothing that is seen from outside:
// a chain goes from one to the other in one swap.
var backends = map[hook.Kind][]backend{
	hook.XDP: {
		{"xdp-dispatcher", hook.XDPLink, program.Dispatcher, false},
		{"xdp-link", hook.XDPLink, program.TailCalls, false},
	},
	hook.Ingress: tcBackends,
	hook.Egress:  tcBackends,
}

var tcBackends = []backend{
	{"tcx", hook.TCX, program.TailCalls, false},
	{"tc", hook.TC, program.TailCalls, false},
	{"tcx-links", hook.TCXLinks, program.Links, true},
}

// Backends are the names of the backends of a kind of hook, the best first.
func Backends(k hook.Kind) (names []string) {
	for _, b := range backends[k] {
		names = append(names, b.name)
	}
	return names
}

// backends are those that the chain may have: the one that it names, or all.
func (c *Chain) backends() []backend {
	return slices.DeleteFunc(slices.Clone(backends[c.Hook]), func(b backend) bool {
		return c.Backend == "" && b.asked || c.Backend != "" && b.name != c.Backend
	})
}

// maxMembers is how many members the chain can have.
func (c *Chain) maxMembers() (n int) {
	for _, b := range c.backends() {
		n = max(n, b.wiring.MaxMembers())
	}
	return n
}

// backendOf is the name of a backend, whatever the wiring when it is not known.
func backendOf(k hook.Kind, point string, wiring program.Wiring) (name string) {
	for _, b := range backends[k] {
		if b.point == point && (b.wiring == wiring || wiring == "") {
			name = b.name
		}
	}
	return name
}

// choose decides how the chain is attached: as it is, or by the first of its backends that this kernel has. What
// is left to decide is the wiring. It must be called in the namespace.
func (x *change) choose(m *Manager) error {
	candidates := x.want.backends()
	if v := x.view; v.attached != "" {
		x.point, x.Backend = v.point, v.backend(x.Hook)
		x.backends = by(v.attached, candidates)
		if len(x.backends) == 0 {
			return fmt.Errorf("it is attached by %s; to attach it by %s, delete it first", x.Backend, x.want.Backend)
		}
		return nil
	}
	var reasons []error
	for _, b := range candidates {
		target := m.target(x.view, &x.want, b.point)
		err := hook.Probe(b.point, target)
		if err == nil {
			x.Backend, x.backends = b.name, by(b.point, candidates)
			x.point, err = hook.New(b.point, target)
			return err
		}
		reasons = append(reasons, err)
	}
	return errors.Join(reasons...)
}

// by are the backends that attach in one way.
func by(point string, all []backend) (some []backend) {
	for _, b := range all {
		if b.point == point {
			some = append(some, b)
		}
	}
	return some
}

// rewires tells whether the chain is wired in another way than the one that it asks for.
func (x *change) rewires() bool {
	return x.want.Backend != "" && x.view.running != nil && x.view.wiring != x.backends[0].wiring
}

// wire chooses the best wiring that the members and this kernel allow.
func (x *change) wire() error {
	if err := rlimit.RemoveMemlock(); err != nil { // to ask the kernel
		return fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	x.Fallback = ""
	var reasons []error
	for i, b := range x.backends {
		err := b.wiring.Suits(x.members)
		if err == nil {
			err = b.wiring.Probe()
		}
		if err == nil && b.wiring == program.Links {
			err = x.link()
		}
		if err == nil {
			x.backends, x.Backend = x.backends[i:], b.name
			return nil
		}
		err = fmt.Errorf("%s: %w", b.name, err)
		x.fallBack(err)
		reasons = append(reasons, err)
	}
	return errors.Join(reasons...)
}

// link finds out which programs stay as they are when each has a link of its own, and refuses what would have packets
// meet a part of the change.
func (x *change) link() error {
	running := x.view.running
	if x.anew = len(x.view.state.Own) > 0 && (running == nil || len(running.Items) == 0); x.anew || running == nil {
		return nil
	}
	if len(x.Steps) != 1 || x.Steps[0].Op == plan.Move {
		return fmt.Errorf("%w; this change takes %d steps: %v", hook.ErrSteps, len(x.Steps), x.Steps)
	}
	for i := range x.members {
		x.members[i].Kept = slices.Index(running.Items, x.items[i]) + 1
	}
	return nil
}

// fallBack remembers why a backend is not taken.
func (x *change) fallBack(reason error) {
	if x.Fallback == "" {
		x.Fallback, _, _ = strings.Cut(reason.Error(), "\n")
	}
}

// load loads the new generation. What the verifier refuses in one wiring it may accept in the next.
func (x *change) load() (err error) {
	for i, b := range x.backends {
		x.next, err = program.Build(x.Hook, b.wiring, x.members, x.before)
		if err == nil {
			x.Backend = b.name
			return x.next.Verify()
		}
		if i < len(x.backends)-1 {
			x.fallBack(fmt.Errorf("%s: %w", b.name, err))
		}
	}
	return err
}
