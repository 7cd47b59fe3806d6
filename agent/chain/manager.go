package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/chain/artifact"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/chain/program"
	"github.com/weirnet/weir/agent/chain/store"
	"github.com/weirnet/weir/agent/ifaces"
)

// Where chains are kept when nothing else is said.
const (
	DefaultState = "/var/lib/weir/chains"    // on disk: what they are
	DefaultPin   = "/sys/fs/bpf/weir-chains" // on a bpffs: the kernel's part
)

// Options say where a Manager keeps chains.
type Options struct {
	State string // a folder; DefaultState when empty
	Pin   string // a folder on a bpffs; DefaultPin when empty
	// Keys, if there are any, must have signed the objects of members.
	Keys []artifact.Key
	// Processes say what the user-space parts of members may be; zero: there are none. They end with the manager.
	Processes process.Rules
	// Log is told what becomes of processes; nil: nobody is.
	Log *slog.Logger
	// Stages runs weir's own programs as members; nil: nobody does.
	Stages Stager
	// Progress, when it is set, is told each step of an apply after it was done.
	Progress func(Stage)
}

// Stage is a step of an apply.
type Stage string

// The stages of an apply, in their order. Packets see nothing of it before Swapped.
const (
	Built     Stage = "built"     // the new generations are in the kernel
	Intended  Stage = "intended"  // the store knows of them
	Pinned    Stage = "pinned"    // they outlive this process
	Swapped   Stage = "swapped"   // packets see one of them; told for each chain
	Retired   Stage = "retired"   // the ones before are gone
	Committed Stage = "committed" // the store knows that they are
)

// Manager changes the chains of a host. It holds the lock on its folders: there is one at a time.
// Its methods must not be called concurrently.
type Manager struct {
	opts    Options
	fetcher artifact.Fetcher
	lock    *os.File
	state   state
	// processes are those of members.
	processes *process.Supervisor
}

// state is what is in the store.
type state struct {
	// Revision goes up with each change.
	Revision uint64    `json:"revision"`
	Chains   []*record `json:"chains"`
}

// record is a chain that was applied.
type record struct {
	Chain
	// Namespace's inode and the interface's index when it was applied.
	Inode uint64 `json:"inode"`
	Index int    `json:"index"`
	// Generations are those that can be in the kernel: one, and during an apply two.
	Generations []generation `json:"generations"`
}

// generation says what is in a generation.
type generation struct {
	Number  uint64      `json:"number"`
	Members []Member    `json:"members"`
	Items   []plan.Item `json:"items"` // of the enabled ones, in their order
	// Fallback is why it has not a better backend.
	Fallback string `json:"fallback,omitempty"`
	// Processes are the digests of the processes of the enabled ones, by member.
	Processes map[string]string `json:"processes,omitempty"`
}

// ErrBusy is returned by Open when another process holds the lock.
var ErrBusy = errors.New("another weir is changing chains")

// Open takes the lock and reads the store. A damaged store is an error: chains in the kernel go on
// running, and nothing is changed on its word.
func Open(opts Options) (*Manager, error) {
	if opts.State == "" {
		opts.State = DefaultState
	}
	if opts.Pin == "" {
		opts.Pin = DefaultPin
	}
	m := &Manager{opts: opts,
		fetcher: artifact.Fetcher{Cache: filepath.Join(opts.State, "objects"), Keys: opts.Keys}}
	if err := os.MkdirAll(opts.State, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for the store: %w", err)
	}
	var err error
	if m.lock, err = os.Open(opts.State); err != nil {
		return nil, fmt.Errorf("open the folder of the store: %w", err)
	}
	if err := unix.Flock(int(m.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", opts.State, err), m.Close())
	}
	if err := store.Load(m.storePath(), &m.state); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%w; chains in the kernel go on running; move the file "+
			"away and apply the chains again", err), m.Close())
	}
	group, err := groupOf(opts.State)
	if err == nil { // with the lock: another manager's processes are not ours to end
		m.processes, err = process.New(process.Options{Rules: opts.Processes, Group: group, Log: opts.Log})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("processes: %w", err), m.Close())
	}
	return m, nil
}

// Close ends processes and gives the lock back. Chains stay in place.
func (m *Manager) Close() error {
	var ending error
	if m.processes != nil {
		ending = m.processes.Close()
	}
	// A child of this process that has not become another program yet has a copy of the file, and would keep
	// a lock that is only closed.
	err := unix.Flock(int(m.lock.Fd()), unix.LOCK_UN)
	return errors.Join(ending, err, m.lock.Close())
}

// Applied are the chains as they were asked for, members with all that was said of them.
func (m *Manager) Applied() []Chain {
	all := []Chain{}
	for _, r := range m.state.Chains {
		all = append(all, r.Chain)
	}
	return all
}

// Revision is a number that goes up with each change: what was read at a revision is what there is, as
// long as that is the revision.
func (m *Manager) Revision() uint64 { return m.state.Revision }

func (m *Manager) storePath() string { return filepath.Join(m.opts.State, "chains.json") }

func (m *Manager) save() error { return store.Save(m.storePath(), m.state) }

func (m *Manager) progress(s Stage) {
	if m.opts.Progress != nil {
		m.opts.Progress(s)
	}
}

// record finds a chain's record, nil when there is none.
func (m *Manager) record(k Key) *record {
	for _, r := range m.state.Chains {
		if r.Key == k {
			return r
		}
	}
	return nil
}

// folder is where a hook's pins are. The kernel's own names are in it: what is pinned belongs to
// this very interface, whatever its name is.
func (m *Manager) folder(inode uint64, index int, kind hook.Kind) string {
	return filepath.Join(m.opts.Pin, fmt.Sprintf("%d-%d-%s", inode, index, kind))
}

// The names in a folder of pins.
const (
	linkPin          = "link"
	linksPin         = "links"
	generationPrefix = "generation-"
)

func generationDir(folder string, number uint64) string {
	return filepath.Join(folder, fmt.Sprintf("%s%d", generationPrefix, number))
}

// view is a chain as it is in the kernel.
type view struct {
	iface    ifaces.Interface
	folder   string
	attached string // by what, as package hook names it; "" when nothing is attached
	point    hook.Point
	state    hook.State
	// running is the generation that is attached, nil when there is none or Own is not of ours; wiring is
	// how its members are wired.
	running *generation
	wiring  program.Wiring
	// partial tells that some programs of a generation are attached, and not all of them.
	partial bool
}

// backend is the name of what the chain is attached by, "" when it is not.
func (v *view) backend(k hook.Kind) string {
	return backendOf(k, v.attached, v.wiring)
}

// Drift is how the kernel differs from what was applied.
type Drift string

// The kinds of drift.
const (
	None       Drift = ""
	Gone       Drift = "interface gone" // the interface, or another one has its name
	Detached   Drift = "detached"       // the chain is not on its hook
	Replaced   Drift = "replaced"       // another program is where the chain was
	Incomplete Drift = "incomplete"     // a part of the chain is on its hook; with links only
)

// look finds out what runs at a hook. It must be called in the namespace.
func (m *Manager) look(c *Chain) (*view, error) {
	found, err := ifaces.Find(c.Namespace, c.Interface)
	if err != nil {
		return nil, err
	}
	v := &view{iface: found, folder: m.folder(found.Inode, found.Index, c.Hook)}
	var reasons []error
	for _, b := range hook.Backends(c.Hook) {
		p, err := hook.New(b, m.target(v, c, b))
		if err != nil {
			return nil, err
		}
		s, err := p.State()
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s: %w", b, err))
			continue
		}
		if v.point == nil || len(s.Own) > 0 {
			v.point, v.state = p, s
		}
		if len(s.Own) > 0 {
			v.attached = b
			break
		}
	}
	if v.point == nil {
		return nil, errors.Join(reasons...)
	}
	return v, m.findRunning(v, m.record(c.Key))
}

func (m *Manager) target(v *view, c *Chain, point string) hook.Target {
	pin := linkPin
	if point == hook.TCXLinks {
		pin = linksPin
	}
	return hook.Target{Interface: v.iface.Index, Kind: c.Hook, Place: c.Place, Pin: filepath.Join(v.folder, pin)}
}

// findRunning finds the generation whose programs are attached.
func (m *Manager) findRunning(v *view, r *record) error {
	if len(v.state.Own) == 0 {
		return nil
	}
	files, err := os.ReadDir(v.folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list the pins: %w", err)
	}
	for _, f := range files {
		var number uint64
		if n, _ := fmt.Sscanf(f.Name(), generationPrefix+"%d", &number); n != 1 {
			continue
		}
		dir := filepath.Join(v.folder, f.Name())
		heads, err := program.HeadIDs(dir)
		if err != nil {
			continue // what a killed manager has left unfinished
		}
		if !slices.Equal(heads, v.state.Own) {
			v.partial = v.partial || !slices.ContainsFunc(v.state.Own, func(id ebpf.ProgramID) bool {
				return !slices.Contains(heads, id)
			})
			continue
		}
		if v.wiring, err = program.WiringOf(dir); err != nil {
			return err
		}
		found := &generation{Number: number}
		if r != nil && r.Inode == v.iface.Inode && r.Index == v.iface.Index {
			at := slices.IndexFunc(r.Generations, func(g generation) bool { return g.Number == number })
			if at >= 0 {
				found = &r.Generations[at]
			}
		}
		if v.wiring == program.Links && len(found.Items) > 0 && len(found.Items) != len(heads) {
			continue // a killed manager has not pinned all of it
		}
		v.running = found
	}
	return nil
}

// drift compares what is there with what was applied.
func (v *view) drift(r *record) Drift {
	switch {
	case v.partial && v.running == nil:
		return Incomplete
	case len(v.state.Own) > 0 && v.running == nil:
		return Replaced
	case r == nil || len(r.enabled()) == 0 && len(v.state.Own) == 0:
		return None
	case r.Inode != v.iface.Inode || r.Index != v.iface.Index:
		return Gone
	case len(v.state.Own) == 0:
		return Detached
	}
	return None
}

// gone tells whether an error of looking for a chain means that its interface is not there any more,
// and not merely that its namespace has lost its name.
func (r *record) gone(err error) bool {
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return true
	}
	if !errors.Is(err, os.ErrNotExist) {
		return false
	}
	_, err = ifaces.ByInode(r.Inode)
	return errors.Is(err, os.ErrNotExist)
}
