package chain

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/chain/program"
	"github.com/weirnet/weir/agent/ifaces"
)

// change is what happens to one chain.
type change struct {
	Change
	want  Chain
	view  *view // nil when the interface is gone
	point hook.Point
	// backends are those that attach by the point and may be tried, the best first.
	backends []backend
	items    []plan.Item
	members  []program.Member // of the generation that is to be built
	forget   bool             // the record is dropped
	stale    string           // folder of pins of an interface that is gone, or ""
	next     *program.Generation
	before   *program.Generation
	was      []*ebpf.Program // what is attached before the change
	moves    []Move          // of stages, that are not ended yet
	anew     bool            // what is attached is taken off first: links that are no whole chain
	swapped  bool
	// digests are those of the processes that there shall be, by member; programs are those that are to be started.
	digests  map[string]string
	programs map[string]*process.Program
}

// add finds out what is to be done to a chain.
func (t *transaction) add(c *Chain, opts ApplyOptions) error {
	x := &change{Change: Change{Key: c.Key}, want: *c}
	err := ifaces.Do(c.Namespace, func() (err error) {
		if x.view, err = t.m.look(c); err != nil {
			return err
		}
		return x.choose(t.m)
	})
	if err != nil {
		return err
	}
	objects, err := x.read(t.m)
	if err != nil {
		return err
	}
	r := t.m.record(c.Key)
	if err := t.alone(x); err != nil {
		return err
	}
	if r != nil && r.Place != c.Place && x.view.running != nil {
		return errors.New("place: a chain stays where it is; delete it first")
	}
	if x.Drift = x.view.drift(r); x.Drift == Replaced && !opts.Force {
		return fmt.Errorf("%w: program %v", ErrReplaced, x.view.state.Own)
	}
	if r != nil && x.view.folder != t.m.folder(r.Inode, r.Index, r.Hook) {
		x.stale = t.m.folder(r.Inode, r.Index, r.Hook)
	}
	t.changes = append(t.changes, x)
	if err := x.diff(r); err != nil || !x.builds() {
		return err
	}
	if err := x.parse(objects); err != nil {
		return err
	}
	return x.wire()
}

// read reads the objects of the members that shall run.
func (x *change) read(m *Manager) (all []*object, err error) {
	for _, member := range x.want.enabled() {
		o, err := m.object(member)
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", member.Name, err)
		}
		item, err := o.item(x.want.Hook)
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", member.Name, err)
		}
		all, x.items = append(all, o), append(x.items, item)
	}
	return all, nil
}

// parse makes members of their objects.
func (x *change) parse(objects []*object) error {
	for _, o := range objects {
		m, err := o.parse(x.want.Hook)
		if err != nil {
			return fmt.Errorf("member %s: %w", o.member.Name, err)
		}
		x.members = append(x.members, m)
	}
	return nil
}

// alone makes sure that no other chain has the same hook under another name of its namespace.
func (t *transaction) alone(x *change) error {
	for _, r := range t.m.state.Chains {
		if r.Key != x.Key && t.m.folder(r.Inode, r.Index, r.Hook) == x.view.folder {
			return fmt.Errorf("it is the same as chain %s", r.Key)
		}
	}
	for _, other := range t.changes {
		if other.view != nil && other.view.folder == x.view.folder {
			return fmt.Errorf("it is the same as chain %s", other.Key)
		}
	}
	return nil
}

// diff plans the steps, and the generation that they lead to.
func (x *change) diff(r *record) error {
	var have []plan.Item
	if g := x.view.running; g != nil {
		have, x.From, x.To, x.Fallback = g.Items, g.Number, g.Number, g.Fallback
	}
	var err error
	if x.Steps, err = plan.Diff(have, x.items); err != nil {
		return err
	}
	unknown := x.view.running != nil && len(have) == 0 // its record is lost
	if len(x.Steps) == 0 && x.Drift == None && !unknown && !x.rewires() {
		return nil
	}
	x.To = 0
	if len(x.items) > 0 {
		x.To = x.From + 1
		if r != nil { // numbers go up, also when nothing runs
			for _, g := range r.Generations {
				x.To = max(x.To, g.Number+1)
			}
		}
	}
	return nil
}

// remove plans the end of a chain.
func (t *transaction) remove(k Key, opts ApplyOptions) error {
	r := t.m.record(k)
	x := &change{Change: Change{Key: k}, want: r.Chain, forget: true}
	t.changes = append(t.changes, x)
	err := ifaces.Do(k.Namespace, func() (err error) {
		x.view, err = t.m.look(&r.Chain)
		return err
	})
	if r.gone(err) {
		x.Drift, x.view, x.stale = Gone, nil, t.m.folder(r.Inode, r.Index, r.Hook)
		return nil
	}
	if err != nil {
		return err
	}
	x.Drift, x.Backend, x.point = x.view.drift(r), x.view.backend(k.Hook), x.view.point
	if x.Drift == Replaced && !opts.Force {
		return fmt.Errorf("%w: program %v", ErrReplaced, x.view.state.Own)
	}
	if x.view.running != nil {
		x.From = x.view.running.Number
		x.Steps, err = plan.Diff(x.view.running.Items, nil)
	}
	return err
}
