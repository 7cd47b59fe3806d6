package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf"
)

// Discover says which interfaces are watched as they come and go, beside those of Interfaces.
type Discover struct {
	// Mode is how the agent notices: watch (the kernel tells it at once) or poll. Empty: watch.
	Mode string `yaml:"mode"`
	// Every is how often everything is looked at, also with mode watch; 0: 10s.
	Every time.Duration `yaml:"every"`
	// Namespaces are the network namespaces to look in: own is the agent's, others are names or patterns
	// below /run/netns, like "*", or paths. Empty: own.
	Namespaces []string `yaml:"namespaces"`
	// Allow chooses interfaces by name, by regular expression between slashes, like /^veth/, or by a prefix in
	// which they have an address, like 10.0.0.0/8. Empty: all.
	Allow []string `yaml:"allow"`
	// Deny takes some out again. Left out: lo; an empty list takes none out.
	Deny []string `yaml:"deny"`
	// Zone keeps overlapping networks apart.
	Zone uint16 `yaml:"zone"`
	// Hook is tcx, tc, netkit (for the primary end of a netkit pair), or empty for the best of tcx
	// and tc that the kernel has.
	Hook string `yaml:"hook"`
	// Anchor is where a link (tcx, netkit) stands among those that others have made before: head or tail. Empty:
	// head.
	Anchor string `yaml:"anchor"`
}

// defaultEvery is how often everything is looked at.
const defaultEvery = 10 * time.Second

// withDefaults fills in what is left out.
func (d Discover) withDefaults() Discover {
	d.Mode, d.Every, d.Namespaces = cmp.Or(d.Mode, ifaces.Watch), cmp.Or(d.Every, defaultEvery), d.namespaces()
	if d.Deny == nil {
		d.Deny = []string{"lo"}
	}
	return d
}

// MarshalYAML writes what is left out as what it stands for: a list that is empty is another thing.
func (d Discover) MarshalYAML() (any, error) {
	type plain Discover
	return plain(d.withDefaults()), nil
}

// options are those of the finder. Errors begin with the key.
func (d *Discover) options() (ifaces.Options, error) {
	full := d.withDefaults()
	o := ifaces.Options{Mode: full.Mode, Every: full.Every, Namespaces: full.Namespaces}
	if o.Mode != ifaces.Watch && o.Mode != ifaces.Poll {
		return o, fmt.Errorf("mode: %q; want %s or %s", d.Mode, ifaces.Watch, ifaces.Poll)
	}
	if o.Every < minEvery {
		return o, fmt.Errorf("every: %v; want at least %v", d.Every, minEvery)
	}
	for i, n := range o.Namespaces {
		if err := ifaces.CheckNamespace(n); err != nil {
			return o, fmt.Errorf("namespaces[%d]: %w", i, err)
		}
	}
	if !knownHook(d.Hook) {
		return o, fmt.Errorf("hook: %q; want tcx, tc or netkit, or leave it out", d.Hook)
	}
	if err := checkAnchor(d.Anchor, d.Hook); err != nil {
		return o, err
	}
	var err error
	o.Selector, err = ifaces.NewSelector(d.Allow, full.Deny)
	return o, err
}

func (d *Discover) namespaces() []string {
	if len(d.Namespaces) == 0 {
		return []string{ifaces.Own}
	}
	return d.Namespaces
}

// foreign tells whether it looks into namespaces other than the agent's.
func (d *Discover) foreign() bool {
	return d != nil && slices.ContainsFunc(d.namespaces(), func(n string) bool { return n != ifaces.Own })
}

// search is a finder and what it has found at first.
type search struct {
	finder *ifaces.Finder // nil: nothing is discovered
	sight  ifaces.Sight
}

// newSearch begins to notice interfaces, and looks which there are. discover may be nil.
func newSearch(discover *Discover) (*search, error) {
	if discover == nil {
		return &search{}, nil
	}
	opts, err := discover.options()
	if err != nil {
		return nil, fmt.Errorf("discover.%w", err)
	}
	f, err := ifaces.NewFinder(opts)
	if err != nil {
		return nil, err
	}
	sight, err := f.Look()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sight.Unsure = true // of what was deleted before it began
	return &search{f, sight}, nil
}

// abandon ends a search that nobody follows. It may be nil.
func (s *search) abandon() error {
	if s == nil || s.finder == nil {
		return nil
	}
	return s.finder.Close()
}

// startDiscovery puts all interfaces in place that there are, and begins to notice others.
func (a *Agent) startDiscovery() error {
	if a.cfg.Discover == nil {
		return nil
	}
	s, err := newSearch(a.cfg.Discover)
	if err != nil {
		return err
	}
	return a.adopt(s)
}

// searchAgain begins the search of another configuration; nil when it is that of now.
func (a *Agent) searchAgain(cfg *Config) (*search, error) {
	if reflect.DeepEqual(a.cfg.Discover, cfg.Discover) {
		return nil, nil
	}
	return newSearch(cfg.Discover)
}

// adopt follows a search, unless it is nil, in place of the former one.
func (a *Agent) adopt(s *search) error {
	if s == nil {
		return nil
	}
	err := a.stopDiscovery()
	a.finder = s.finder
	a.follow(&s.sight)
	return err
}

func (a *Agent) stopDiscovery() error {
	if a.finder == nil {
		return nil
	}
	return a.finder.Close()
}

// looks gets a value when interfaces may have come or gone.
func (a *Agent) looks() <-chan struct{} {
	a.looking.Lock()
	defer a.looking.Unlock()
	if a.finder == nil {
		return nil
	}
	return a.finder.C()
}

// discover looks which interfaces there are now.
func (a *Agent) discover() {
	a.looking.Lock()
	defer a.looking.Unlock()
	if a.finder == nil { // it was switched off meanwhile
		return
	}
	s, err := a.finder.Look()
	if err != nil {
		a.log.Error("discover", "error", err) // it is tried again
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped {
		a.follow(&s)
	}
}

// follow takes off what has gone, and puts in place what has come.
func (a *Agent) follow(s *ifaces.Sight) {
	if s.Deaf != nil {
		a.log.Warn("discover", "error", s.Deaf)
	}
	for inode, err := range s.Unseen {
		a.log.Warn("discover", "namespace", inode, "error", err)
	}
	wanted := map[ifaces.Key]*ifaces.Interface{}
	for i := range s.Interfaces {
		wanted[s.Interfaces[i].Key()] = &s.Interfaces[i]
	}
	a.takeOffGone(s, wanted)
	a.placeNew(wanted)
}

// takeOffGone takes off the hooks of interfaces that are gone or not wanted any more, and renames others.
// Those that the configuration names stay while they are there.
func (a *Agent) takeOffGone(s *ifaces.Sight, wanted map[ifaces.Key]*ifaces.Interface) {
	gone := map[ifaces.Key]bool{}
	for _, k := range s.Deleted {
		gone[k] = true
		a.forgetSlots(k)
	}
	for i := range a.placed {
		p := &a.placed[i]
		if gone[p.key()] || s.Unseen[p.at.Namespace] != nil {
			continue
		}
		if w := wanted[p.key()]; a.stays(p, w, s.Unsure) {
			a.rename(p, w)
		} else {
			gone[p.key()] = true
			a.forgetGone(p)
		}
	}
	a.placed = slices.DeleteFunc(a.placed, func(p placed) bool {
		if !gone[p.key()] {
			return false
		}
		a.retire(p)
		return true
	})
	a.leaveNamespaces()
}

// leaveNamespaces lets features go from namespaces of which nothing is watched any more.
func (a *Agent) leaveNamespaces() {
	if a.features == nil || a.features.nat == nil {
		return
	}
	names := map[string]bool{}
	for i := range a.placed {
		names[a.hook(a.placed[i].at.Number).Namespace] = true
	}
	if err := a.features.nat.keepOnly(names); err != nil {
		a.log.Error("feature", "name", FeatureNAT, "error", err)
	}
}

// stays tells whether a hook stays where it is; found is its interface, if that is wanted.
func (a *Agent) stays(p *placed, found *ifaces.Interface, unsure bool) bool {
	switch {
	case found == nil && !p.named:
		return false
	case found != nil && ifaces.Path(found.Namespace) != ifaces.Path(p.namespace):
		return false // another namespace has got the inode
	case found == nil || unsure:
		return a.inPlace(p)
	}
	return true
}

// inPlace tells whether a hook is still there. When that cannot be found out, it may be.
func (a *Agent) inPlace(p *placed) (there bool) {
	look := func() (err error) {
		there, err = a.dp.InPlace(p.at)
		return err
	}
	var err error
	if !p.at.Linked() {
		err = ifaces.Enter(ifaces.Namespace{Name: p.namespace, Inode: p.at.Namespace}, look)
	} else {
		err = look()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.Error("discover", "hook", a.hook(p.at.Number).String(), "error", err)
		return true
	}
	return there
}

// rename gives a hook its interface's name of now.
func (a *Agent) rename(p *placed, found *ifaces.Interface) {
	h := a.hooks[p.at.Number]
	if found == nil || h.Interface == found.Name {
		return
	}
	a.log.Info("renamed", "hook", h.String(), "to", found.Name)
	h.Interface = found.Name
	a.name(p.at.Number, h)
}

// retire takes a hook off. What it has counted stays in the books.
func (a *Agent) retire(p placed) {
	hook := a.hook(p.at.Number).String()
	if err := a.takeOff(p); err != nil {
		a.log.Error("take off", "hook", hook, "error", err)
	} else {
		a.log.Info("taken off", "hook", hook, "mode", p.at.Mode)
	}
	a.left = append(a.left, p)
}

// placeNew puts in place what is wanted and is not yet. When hook numbers run out, those of hooks that
// were taken off are given back.
func (a *Agent) placeNew(wanted map[ifaces.Key]*ifaces.Interface) {
	for i := range a.placed {
		delete(wanted, a.placed[i].key())
	}
	failed := a.placeAll(wanted)
	short := 0
	for _, err := range failed {
		if errors.Is(err, bpf.ErrHooks) {
			short++
		}
	}
	if short > 0 {
		if err := a.reclaim(2 * short); err != nil { // both directions
			a.log.Error("give hook numbers back", "error", err)
		}
		failed = a.placeAll(wanted)
	}
	a.tell(wanted, failed)
}

// placeAll puts interfaces in place, and takes those that are from the list. It returns why others are not.
func (a *Agent) placeAll(wanted map[ifaces.Key]*ifaces.Interface) map[ifaces.Key]error {
	failed := map[ifaces.Key]error{}
	for key, found := range wanted {
		ns := ifaces.Namespace{Name: found.Namespace, Inode: found.Inode}
		n := a.settingsOf(found)
		err := ifaces.Enter(ns, func() error { return a.place(n, *found) })
		if err == nil {
			a.features.also(&n, a.log)
			delete(wanted, key)
		} else if !errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrNotExist) { // else it has just gone
			failed[key] = err
		}
	}
	return failed
}

// settingsOf is how an interface is watched: as the configuration says where it names the interface.
func (a *Agent) settingsOf(found *ifaces.Interface) Interface {
	for _, n := range a.cfg.Interfaces {
		if n.Name == found.Name && ifaces.Path(n.Namespace) == ifaces.Path(found.Namespace) {
			return n
		}
	}
	d := a.cfg.Discover
	return Interface{Name: found.Name, Namespace: found.Namespace, Zone: d.Zone, Hook: d.Hook, Anchor: d.Anchor}
}

// tell remembers and logs what cannot be watched.
func (a *Agent) tell(wanted map[ifaces.Key]*ifaces.Interface, failed map[ifaces.Key]error) {
	now := map[ifaces.Key]control.Unwatched{}
	for key, err := range failed {
		u := control.Unwatched{Namespace: wanted[key].Namespace, Interface: wanted[key].Name, Reason: err.Error()}
		now[key] = u
		if a.unplaced[key] != u {
			a.log.Error("attach", "namespace", u.Namespace, "interface", u.Interface, "error", err)
		}
	}
	a.unplaced = now
}

// unwatched lists what cannot be watched, in order.
func (a *Agent) unwatched() []control.Unwatched {
	return slices.SortedFunc(maps.Values(a.unplaced), func(x, y control.Unwatched) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Interface, y.Interface))
	})
}

// reclaim gives back numbers of hooks that were taken off. First those that no connection names; when they
// are too few, connections end that name such hooks: the interfaces through which they went are gone.
func (a *Agent) reclaim(need int) error {
	if err := a.sweep(a.time(), false); err != nil {
		return err
	}
	free, err := a.giveBack()
	if err != nil || free >= need {
		return err
	}
	if err := a.sweeper.cut(a.time(), func(e *bpf.Entry) bool { return e.Names(a.dp.Off) },
		func(k bpf.Key) bpf.Candidate { return bpf.Candidate{Key: k, Force: true, Evict: true} }); err != nil {
		return err
	}
	_, err = a.giveBack()
	return err
}

// giveBack gives back those numbers that nothing names any more, and counts them.
func (a *Agent) giveBack() (int, error) {
	free, err := a.dp.Reclaim(a.sweeper.events)
	for _, number := range free {
		delete(a.hooks, number)
	}
	a.left = slices.DeleteFunc(a.left, func(p placed) bool { return slices.Contains(free, p.at.Number) })
	return len(free), err
}
