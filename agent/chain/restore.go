package chain

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/ifaces"
)

// Restored is what Restore has made of a chain.
type Restored struct {
	Change
	Err error // nil: the chain runs
	// Processes is why processes of its members do not run; nil: they do.
	Processes error
}

// errOther is why a member is not restored.
var errOther = errors.New("its object is another than the one that was applied; apply it again")

// Restore puts chains back in place that are not, as after a boot, and ends what a manager that was
// killed has left unfinished. It does so one by one, so that one that fails does not stop the others;
// such a chain stays as it is. Only what was applied before is loaded: not an object that has changed
// since.
func (m *Manager) Restore() []Restored {
	all := []Restored{}
	for _, r := range slices.Clone(m.state.Chains) {
		x, err := m.restore(r)
		if now := m.record(r.Key); now != nil {
			err = errors.Join(err, m.tellStages(now))
		}
		all = append(all, Restored{x, err, m.restoreProcesses(r.Key)})
	}
	return all
}

func (m *Manager) restore(r *record) (Change, error) {
	want, digests := r.Chain, map[string]string(nil)
	if len(r.Generations) > 0 {
		digests = r.Generations[0].Processes
	}
	if v := m.glance(r); v != nil && v.running != nil && len(v.running.Members) > 0 {
		if len(r.Generations) == 1 && v.drift(r) == None { // it needs no objects to go on
			return Change{Key: r.Key, Backend: v.backend(r.Hook), From: v.running.Number, To: v.running.Number}, nil
		}
		want.Members, digests = v.running.Members, v.running.Processes // an apply that was killed after it has swapped is done
	}
	t, err := m.prepare(&Spec{Chains: []Chain{want}}, ApplyOptions{})
	defer t.close()
	if err != nil {
		return Change{Key: r.Key}, err
	}
	x := t.changes[0]
	x.digests = digests
	if err := r.had(x.items); err != nil {
		return x.Change, &ChainError{r.Key, err}
	}
	err = t.run()
	return x.Change, err
}

// glance looks at a chain, and returns nil when that cannot be done.
func (m *Manager) glance(r *record) (v *view) {
	_ = ifaces.Do(r.Namespace, func() (err error) {
		v, err = m.look(&r.Chain)
		return err
	})
	return v
}

// had tells whether all items are of one of the generations that were applied.
func (r *record) had(items []plan.Item) error {
	for _, item := range items {
		known := slices.ContainsFunc(r.Generations, func(g generation) bool { return slices.Contains(g.Items, item) })
		if !known {
			return fmt.Errorf("member %s: %w", item.Name, errOther)
		}
	}
	return nil
}
