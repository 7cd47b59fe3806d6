package chain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/program"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf"
)

// Change is what an apply does to a chain, or would do.
type Change struct {
	Key
	Backend string `json:"backend"`
	// Fallback is why it is not a better one.
	Fallback string `json:"fallback,omitempty"`
	// From and To are generations; 0 is none.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Drift is what is repaired.
	Drift Drift       `json:"drift,omitempty"`
	Steps []plan.Step `json:"steps"`
	// Processes are what is done to processes of members.
	Processes []ProcessStep `json:"processes,omitempty"`
}

// Unchanged tells that there is nothing to do.
func (c *Change) Unchanged() bool {
	return c.From == c.To && c.Drift == None && len(c.Processes) == 0
}

// ApplyOptions say how far an apply may go.
type ApplyOptions struct {
	// Prune deletes the chains that the spec does not name.
	Prune bool `json:"prune,omitempty"`
	// Force takes a chain's place back where another program has taken it.
	Force bool `json:"force,omitempty"`
}

var (
	// ErrReplaced is returned for a chain whose place another program has taken.
	ErrReplaced = errors.New("another program has taken the chain's place")
	// ErrUnknown is returned for a chain that was never applied.
	ErrUnknown = errors.New("there is no such chain")
)

// ChainError says why a chain cannot be what it shall be. An apply can fail for several.
type ChainError struct {
	Key Key
	Err error
}

func (e *ChainError) Error() string { return fmt.Sprintf("chain %s: %v", e.Key, e.Err) }
func (e *ChainError) Unwrap() error { return e.Err }

// Plan tells what Apply would do, and changes nothing.
func (m *Manager) Plan(s *Spec, opts ApplyOptions) ([]Change, error) {
	t, err := m.prepareAll(s, opts)
	defer t.close()
	if err != nil {
		return nil, err
	}
	return summary(t.changes), nil
}

// Apply makes the chains of the spec what they shall be, all or none: when it fails, all chains
// are as they were before.
func (m *Manager) Apply(s *Spec, opts ApplyOptions) ([]Change, error) {
	t, err := m.prepareAll(s, opts)
	defer t.close()
	if err != nil {
		return nil, err
	}
	return t.execute()
}

// Delete takes chains off, all or none.
func (m *Manager) Delete(opts ApplyOptions, keys ...Key) ([]Change, error) {
	t := &transaction{m: m}
	defer t.close()
	var errs []error
	for _, k := range keys {
		if m.record(k) == nil {
			errs = append(errs, &ChainError{k, ErrUnknown})
		} else if err := t.remove(k, opts); err != nil {
			errs = append(errs, &ChainError{k, err})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := t.prepareProcesses(); err != nil {
		return nil, err
	}
	return t.execute()
}

// transaction changes chains, all or none.
type transaction struct {
	m       *Manager
	changes []*change
}

// prepareAll is prepare, for stages and processes too. The transaction is to be closed also when there is an error.
func (m *Manager) prepareAll(s *Spec, opts ApplyOptions) (*transaction, error) {
	t, err := m.prepare(s, opts)
	if err == nil {
		err = t.checkStages()
	}
	if err == nil {
		err = t.prepareProcesses()
	}
	return t, err
}

// prepare looks at everything and finds out what is to be done. The error tells of each chain for which
// that fails.
func (m *Manager) prepare(s *Spec, opts ApplyOptions) (*transaction, error) {
	t := &transaction{m: m}
	if err := s.Check(); err != nil {
		return t, err
	}
	named := map[Key]bool{}
	var errs []error
	for i := range s.Chains {
		c := &s.Chains[i]
		named[c.Key] = true
		if err := t.add(c, opts); err != nil {
			errs = append(errs, &ChainError{c.Key, err})
		}
	}
	if opts.Prune {
		for _, r := range m.state.Chains {
			if named[r.Key] {
				continue
			}
			if err := t.remove(r.Key, opts); err != nil {
				errs = append(errs, &ChainError{r.Key, err})
			}
		}
	}
	return t, errors.Join(errs...)
}

func summary(changes []*change) []Change {
	all := []Change{}
	for _, x := range changes {
		if x.Steps == nil {
			x.Steps = []plan.Step{}
		}
		all = append(all, x.Change)
	}
	return all
}

// work are the changes with something to do.
func (t *transaction) work() []*change {
	return slices.DeleteFunc(slices.Clone(t.changes), func(x *change) bool {
		r := t.m.record(x.Key)
		return !x.forget && x.Unchanged() && r != nil && len(r.Generations) < 2 && // else it was not ended
			reflect.DeepEqual(r.Chain, x.want)
	})
}

// execute does everything, and tells what has become of each chain.
func (t *transaction) execute() ([]Change, error) {
	all := t.changes
	err := t.run()
	return summary(all), err
}

// run does everything: build beside, swap, retire.
func (t *transaction) run() error {
	t.changes = t.work()
	if len(t.changes) == 0 {
		return nil
	}
	if err := t.build(); err != nil {
		return err
	}
	t.m.progress(Built)
	before := t.m.state
	if err := t.intend(); err != nil {
		return err
	}
	t.m.progress(Intended)
	err := t.pin()
	if err == nil {
		t.m.progress(Pinned)
		err = t.moveStages()
	}
	if err == nil {
		err = t.swap()
	}
	if err == nil {
		return t.conclude()
	}
	if back := t.takeBack(); back != nil {
		// Both generations stay where they are: the next apply finds out which one runs.
		return errors.Join(err, back)
	}
	t.m.state = before
	return errors.Join(err, t.m.save())
}

// build loads all new generations into the kernel, beside the running ones.
func (t *transaction) build() error {
	for _, x := range t.changes {
		if err := x.build(); err != nil {
			return &ChainError{x.Key, err}
		}
	}
	return nil
}

// builds tells whether there is a new generation.
func (x *change) builds() bool { return x.To != x.From && x.To != 0 }

// swaps tells whether the hook changes.
func (x *change) swaps() bool {
	return x.view != nil && (x.builds() || x.To == 0 && len(x.view.state.Own) > 0)
}

func (x *change) build() (err error) {
	if x.view != nil && x.view.running != nil {
		if x.before, err = program.Open(generationDir(x.view.folder, x.From)); err != nil {
			return err
		}
	}
	if err := x.hold(); err != nil || !x.builds() {
		return err
	}
	return x.load()
}

// hold holds what is attached, to be able to swap back.
func (x *change) hold() error {
	if x.view == nil {
		return nil
	}
	for _, id := range x.view.state.Own {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			return fmt.Errorf("hold the program that is attached: %w", err)
		}
		x.was = append(x.was, p)
	}
	return nil
}

// intend writes down which generations may be found in the kernel from now on.
func (t *transaction) intend() error {
	state := state{Revision: t.m.state.Revision, Chains: slices.Clone(t.m.state.Chains)}
	for _, x := range t.changes {
		at := slices.IndexFunc(state.Chains, func(r *record) bool { return r.Key == x.Key })
		r := record{Chain: x.want}
		if at >= 0 {
			r = *state.Chains[at]
		}
		r.Generations = x.known()
		if x.next != nil {
			r.Inode, r.Index = x.view.iface.Inode, x.view.iface.Index
			r.Generations = append(r.Generations, x.generation())
		}
		if at >= 0 {
			state.Chains[at] = &r
		} else {
			state.Chains = append(state.Chains, &r)
		}
	}
	before := t.m.state
	t.m.state = state
	if err := t.m.save(); err != nil {
		t.m.state = before
		return err
	}
	return nil
}

// generation is the one that the change leads to.
func (x *change) generation() generation {
	return generation{Number: x.To, Members: x.want.Members, Items: x.items, Fallback: x.Fallback, Processes: x.digests}
}

// known are the generations in the kernel before the change.
func (x *change) known() []generation {
	if x.view == nil || x.view.running == nil {
		return nil
	}
	return []generation{*x.view.running}
}

// pin makes the new generations outlive this process. What a killed one has left goes first.
func (t *transaction) pin() error {
	if err := bpffs.Ensure(t.m.opts.Pin); err != nil {
		return err
	}
	for _, x := range t.changes {
		if x.view == nil {
			continue
		}
		if err := retire(x.view.folder, x.From); err != nil {
			return &ChainError{x.Key, err}
		}
		if x.next == nil {
			continue
		}
		if err := x.next.Pin(generationDir(x.view.folder, x.To)); err != nil {
			return &ChainError{x.Key, err}
		}
	}
	return nil
}

// takeBack takes back what swap and pin have done. When it fails, it lets everything stay.
func (t *transaction) takeBack() error {
	swapped := false
	for _, x := range t.changes {
		if !x.swapped {
			continue
		}
		swapped = true
		if err := ifaces.Do(x.Namespace, x.swapBack); err != nil {
			return fmt.Errorf("swap chain %s back: %w", x.Key, err)
		}
	}
	if swapped {
		if err := bpf.Grace(); err != nil {
			return err
		}
	}
	errs := []error{t.endMoves(Move.Undo)}
	for _, x := range t.changes {
		if x.view != nil {
			errs = append(errs, retire(x.view.folder, x.From))
		}
	}
	return errors.Join(errs...)
}

// swap puts all new generations in place.
func (t *transaction) swap() error {
	for _, x := range t.changes {
		if !x.swaps() {
			continue
		}
		if err := ifaces.Do(x.Namespace, x.swap); err != nil {
			return &ChainError{x.Key, err}
		}
		t.m.progress(Swapped)
	}
	return nil
}

// swap must be called in the namespace.
func (x *change) swap() error {
	next := x.nextHeads()
	if err := x.exchange(x.view.state.Own, next); err != nil {
		return err
	}
	x.swapped = true
	want, err := hook.ProgramIDs(next)
	if err != nil {
		return err
	}
	s, err := x.point.State()
	if err == nil && !slices.Equal(s.Own, want) {
		err = fmt.Errorf("%w: program %v is there, not %v", hook.ErrChanged, s.Own, want)
	}
	return err
}

// exchange puts programs on the hook in the place of others, none for none.
func (x *change) exchange(was []ebpf.ProgramID, to []*ebpf.Program) error {
	if len(to) == 0 {
		return x.point.Remove(was)
	}
	if x.anew && len(was) > 0 {
		if err := x.point.Remove(was); err != nil {
			return err
		}
		was = nil
	}
	return x.point.Swap(was, to)
}

// nextHeads are the programs that the change attaches.
func (x *change) nextHeads() []*ebpf.Program {
	if x.next == nil {
		return nil
	}
	return x.next.Heads()
}

// swapBack must be called in the namespace.
func (x *change) swapBack() error {
	now, err := hook.ProgramIDs(x.nextHeads())
	if err != nil {
		return err
	}
	return x.exchange(now, x.was)
}

// conclude lets go of what ran before, and writes down what runs now. The change is done: what fails here
// is put right by the next apply.
func (t *transaction) conclude() error {
	defer t.startProcesses() // whatever fails from here on, packets meet their members
	if err := t.retire(); err != nil {
		return fmt.Errorf("the chains are changed, but: %w", err)
	}
	t.m.progress(Retired)
	state := state{Revision: t.m.state.Revision + 1}
	for _, r := range t.m.state.Chains {
		at := slices.IndexFunc(t.changes, func(x *change) bool { return x.Key == r.Key })
		if at < 0 {
			state.Chains = append(state.Chains, r)
			continue
		}
		if x := t.changes[at]; !x.forget {
			state.Chains = append(state.Chains, x.record(r))
		}
	}
	t.m.state = state
	if err := t.m.save(); err != nil {
		return fmt.Errorf("the chains are changed, but: %w", err)
	}
	t.m.progress(Committed)
	return nil
}

// record is what is remembered of a chain after the change.
func (x *change) record(was *record) *record {
	r := *was
	r.Chain, r.Generations = x.want, nil
	if x.To != 0 {
		r.Generations = []generation{x.generation()}
	}
	return &r
}

// retire lets go of the generations that were replaced, after every packet has left them, and after their processes
// have ended: these may still read what the last packets have left in maps.
func (t *transaction) retire() error {
	if err := bpf.Grace(); err != nil {
		return err
	}
	errs := []error{t.endMoves(Move.Conclude), t.stopProcesses()}
	for _, x := range t.changes {
		if x.stale != "" {
			errs = append(errs, os.RemoveAll(x.stale))
		}
		switch {
		case x.view == nil:
		case x.To == 0:
			errs = append(errs, os.RemoveAll(x.view.folder))
		default:
			errs = append(errs, retire(x.view.folder, x.To))
		}
	}
	return errors.Join(errs...)
}

// retire removes all pinned generations of a hook but one.
func retire(folder string, but uint64) error {
	files, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	keep := filepath.Base(generationDir(folder, but))
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), generationPrefix) || f.Name() == keep {
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, f.Name())); err != nil {
			return err
		}
	}
	if but == 0 {
		_ = os.Remove(folder) // when nothing else is in it
	}
	return nil
}

func (t *transaction) close() {
	for _, x := range t.changes {
		x.dropMoves()
		x.closePrograms()
		for _, g := range []*program.Generation{x.next, x.before} {
			if g != nil {
				g.Close()
			}
		}
		for _, p := range x.was {
			p.Close()
		}
	}
}
