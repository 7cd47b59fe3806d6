package bpf

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

// States is the number of connection states that have a lifetime (enum conn_state).
const States = 16

// Settings can change while traffic flows.
type Settings struct {
	Lifetimes [States]time.Duration // by enum conn_state
	Takeover  time.Duration         // README section 4
	Overflow  bool                  // table-full policy: overflow to the ring buffer, else reject
	MidStream bool                  // TCP and SCTP connections are picked up in mid-stream
	Tunnels   Tunnels               // kinds that are opened
	Sample    uint32                // 1 in so many connections is counted; 0 and 1: all
	Filter    Filter
}

// Options say how a datapath is loaded.
type Options struct {
	// Pin is a folder on a bpffs. Maps, links and programs are pinned below it and adopted by
	// the next agent. Empty: nothing outlives the process.
	Pin string
	// Table is the size of each of the two connection tables, in entries; 0 means 65536. Tables
	// that are adopted keep theirs until Migrate.
	Table int
	// Ring is the size of the ring buffer in bytes, a power of two; 0 means 4 MiB. One that is
	// adopted keeps its size.
	Ring int
	// Virtual makes the datapath read its time from SetNow instead of the kernel's clock.
	Virtual bool
	// Slots is how many slots the fast path has on each CPU for a family, a power of two up to
	// 2^20; 0 means as many as fit the table and the number of CPUs, below 0 there are none.
	Slots int
	// SlotAfter is how many packets of a leg the table counts before the leg is given slots; 0
	// means 16. Short flows shall not take them.
	SlotAfter uint32
	// Sweep is how the tables are gone through: SweepIter, SweepBatch, or empty for the best.
	Sweep string
	Settings

	// patch changes the programs before they are loaded; for tests.
	patch func(*ebpf.CollectionSpec)
}

// Datapath is the loaded datapath. Its methods may not be called concurrently.
type Datapath struct {
	opts    Options
	objs    weirObjects
	stubs   map[uint16]*ebpf.Program
	hooks   map[uint16]weirHook       // numbers in use
	claimed map[uint16]bool           // those of them that this agent has attached
	left    map[uint16]ebpf.ProgramID // those whose tc filter, with this program, may still be there
	guards  map[uint16]*net.UnixConn  // of those with a tc filter
	names   *ebpf.Map                 // of hooks; nil: they are not remembered
	events  *Ring
	rules   int   // where the filter's list begins
	now     int64 // the virtual clock

	wanted  int               // entries of each table, when Migrate is done
	pinned  map[string]uint32 // sizes of the maps that an earlier agent has pinned
	sources []*source         // tables whose connections are to be moved
	older   *older            // what is left of an older layout

	iter    *iterator // nil: batches
	counter *counter  // nil: the kernel has none
	works   shared[weirWork]
	answers shared[weirAnswer]
	batch4  buffers[weirKey4, weirConn4]
	batch6  buffers[weirKey6, weirConn6]
	slots   uint32 // of each CPU and family
	cache4  slots[weirSlot4]
	cache6  slots[weirSlot6]
	picked  []slotWork // its memory is used again
	closed  int        // slots, at the last pass

	attached int // hooks that are in place

	// Adopted tells that an earlier agent's pinned tables go on in this datapath.
	Adopted bool
	Probes  Probes
}

// Probes holds what was found out about the kernel.
type Probes struct {
	CoarseClock bool // bpf_ktime_get_coarse_ns, 5.11
	// NoIterator is why the tables are gone through by SweepBatch; nil when they are not, or when
	// that was asked for.
	NoIterator error
	// NoCounter is why Count cannot tell how many connections there are; nil when it can.
	NoCounter error
}

func probe() Probes {
	return Probes{CoarseClock: features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs) == nil}
}

// Load loads the programs and creates the maps, or adopts the maps that are pinned.
// It needs CAP_BPF and CAP_NET_ADMIN, before 5.11 also the right to lift RLIMIT_MEMLOCK.
func Load(opts Options) (*Datapath, error) {
	if opts.Table == 0 {
		opts.Table = 65536
	}
	if opts.Ring == 0 {
		opts.Ring = 4 << 20
	}
	if opts.SlotAfter == 0 {
		opts.SlotAfter = defaultAfter
	}
	if err := checkSweep(opts.Sweep); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	d := &Datapath{opts: opts, wanted: opts.Table, now: 1, stubs: map[uint16]*ebpf.Program{},
		hooks: map[uint16]weirHook{}, claimed: map[uint16]bool{},
		left: map[uint16]ebpf.ProgramID{}, guards: map[uint16]*net.UnixConn{}, Probes: probe()}
	if opts.Pin != "" {
		if err := d.lookAround(); err != nil {
			return nil, err
		}
	}
	if err := d.adopt(); err != nil {
		return nil, errors.Join(err, d.closeSources())
	}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// lookAround finds out what is pinned. It changes nothing.
func (d *Datapath) lookAround() error {
	number, err := olderLayout(d.opts.Pin)
	if err != nil {
		return err
	}
	if number > 0 {
		if d.older, err = openOlder(d.opts.Pin, number); err != nil {
			return err
		}
	}
	if err := d.findSources(); err != nil {
		return errors.Join(err, d.closeSources())
	}
	d.Adopted = d.older != nil || len(d.sources) > 0
	d.pinned = map[string]uint32{}
	for _, name := range pinned {
		m, err := ebpf.LoadPinnedMap(filepath.Join(d.pinPath(), name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return errors.Join(fmt.Errorf("open what is pinned: %w", err), d.closeSources())
		}
		d.Adopted = true
		d.pinned[name] = m.MaxEntries()
		if name == "conns4" || name == "conns6" {
			d.opts.Table = sizeOf(m) // should they differ, Migrate makes them alike
		}
		m.Close()
	}
	if bytes := d.pinned["events"]; bytes > 0 {
		d.opts.Ring = int(bytes)
	}
	return nil
}

// adopt loads the programs and creates the maps that are not pinned.
func (d *Datapath) adopt() error {
	spec, err := d.spec()
	if err != nil {
		return err
	}
	if d.opts.Pin != "" {
		if err := os.MkdirAll(d.pinPath(), 0o700); err != nil {
			return fmt.Errorf("make the pin folder: %w", err)
		}
		for _, name := range pinned {
			spec.Maps[name].Pinning = ebpf.PinByName
			if entries, ok := d.pinned[name]; ok && sized[name] {
				spec.Maps[name].MaxEntries = entries
			}
		}
	}
	return d.load(spec, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.pinPath()}})
}

// load loads the packet path, and the programs of the sweep beside it: these need the kernel's types,
// whose reading takes as long as the verifier does.
func (d *Datapath) load(spec *ebpf.CollectionSpec, options *ebpf.CollectionOptions) error {
	types := btf.NewCache()
	var noIterator error
	beside := make(chan struct{})
	go func() {
		defer close(beside)
		d.iter, noIterator = loadIterator(d.opts.Sweep, types)
	}()
	options.Programs.LogLevel = ebpf.LogLevelStats
	err := spec.LoadAndAssign(&d.objs, options)
	<-beside
	if err != nil {
		return errors.Join(loadError(err, d.pinPath()), d.iter.close())
	}
	if noIterator == nil {
		noIterator = d.iter.attach(d.objs.Conns4, d.objs.Conns6)
	}
	if err := d.orBatches(noIterator); err != nil {
		return errors.Join(err, d.iter.close(), d.objs.Close())
	}
	d.counter, d.Probes.NoCounter = openCounter(types, d.objs.Conns4, d.objs.Conns6)
	return nil
}

// orBatches lets the tables be read in batches when there is no iterator, unless one was asked for.
func (d *Datapath) orBatches(noIterator error) error {
	if noIterator == nil || d.opts.Sweep == SweepIter {
		return noIterator
	}
	d.Probes.NoIterator = errors.Join(noIterator, d.iter.close())
	d.iter = nil
	return nil
}

func loadError(err error, pin string) error {
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		return fmt.Errorf("the kernel's verifier refuses the datapath: %+v", ve)
	}
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return fmt.Errorf("adopt the maps in %s: %w: another program has made them; remove the folder", pin, err)
	}
	return fmt.Errorf("load the datapath: %w", err)
}

// pinned lists the maps that hold state or are held by attachments. Scratch is one of them because a
// packet may be handed from an earlier agent's program to ours.
var pinned = []string{"conns4", "conns6", "hooks", "stats", "past", "events", "flow_ids", "jump",
	"scratch", "fragments", "cache4", "cache6"}

// sized are those whose size is a matter of options: pinned ones keep it.
var sized = map[string]bool{"conns4": true, "conns6": true, "events": true, "cache4": true, "cache6": true}

func (d *Datapath) spec() (*ebpf.CollectionSpec, error) {
	spec, err := loadWeir()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	for _, name := range []string{"conns4", "conns6"} {
		spec.Maps[name].MaxEntries = uint32(d.opts.Table + milestones(d.opts.Table))
	}
	spec.Maps["events"].MaxEntries = uint32(d.opts.Ring)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the possible CPUs: %w", err)
	}
	if entries, adopted := d.pinned["cache4"]; adopted {
		d.slots = entries / uint32(cpus) // of a table with one entry: none
	} else if d.slots, err = slotsFor(&d.opts, cpus); err != nil {
		return nil, err
	}
	for _, name := range []string{"cache4", "cache6"} {
		spec.Maps[name].MaxEntries = max(1, d.slots*uint32(cpus))
	}
	source := weirClockSourceExact
	if d.Probes.CoarseClock {
		source = weirClockSourceCoarse
	}
	if d.opts.Virtual {
		source = weirClockSourceVirtual
	}
	if err := errors.Join(
		spec.Variables["clock_source"].Set(source),
		spec.Variables["possible_cpus"].Set(uint32(cpus)),
		spec.Variables["slots"].Set(d.slots),
		spec.Variables["slot_shift"].Set(uint32(64-bits.TrailingZeros32(d.slots))),
		spec.Variables["slot_after"].Set(d.opts.SlotAfter),
		spec.Variables["wake_at"].Set(uint32(d.opts.Ring/8)),
	); err != nil {
		return nil, fmt.Errorf("set the object's constants: %w", err)
	}
	if d.opts.patch != nil {
		d.opts.patch(spec)
	}
	return spec, nil
}

// The values of enum clock_source in maps.h.
const (
	weirClockSourceExact uint8 = iota
	weirClockSourceCoarse
	weirClockSourceVirtual
)

func (d *Datapath) pinPath() string {
	if d.opts.Pin == "" {
		return ""
	}
	return filepath.Join(d.opts.Pin, folderOf(layout))
}

func (d *Datapath) start() error {
	if err := d.prepare(); err != nil {
		return err
	}
	if d.older != nil {
		if err := d.inherit(); err != nil {
			return err
		}
	}
	if d.opts.Pin != "" {
		if err := d.adoptHooks(); err != nil {
			return err
		}
	}
	if err := d.openNames(); err != nil {
		return err
	}
	var err error
	if d.events, err = OpenRing(d.objs.Events); err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	if err := d.put(); err != nil {
		return fmt.Errorf("put the packet path in place: %w", err)
	}
	if d.Adopted {
		// An earlier agent's program has opened them, with other settings perhaps.
		if err := d.drainSlots(); err != nil {
			return err
		}
	}
	return d.resume()
}

// prepare makes a packet path that was loaded fit for use.
func (d *Datapath) prepare() error {
	if err := d.share(); err != nil {
		return err
	}
	if err := d.placeMilestones(); err != nil {
		return err
	}
	if err := d.set(d.opts.Settings); err != nil {
		return err
	}
	return d.SetNow(d.now)
}

// put puts the packet path in the place of an earlier one. The first program comes last: it jumps to
// the others. Stubs of an older layout jump to the first one, which leads to our others; what is on
// its way between the older ones goes on there.
func (d *Datapath) put() error {
	err := errors.Join(
		d.objs.Jump.Put(uint32(weirProgramPROGRAM_TRACK), d.objs.WeirTrack),
		d.objs.Jump.Put(uint32(weirProgramPROGRAM_FILTER), d.objs.WeirFilter),
		d.objs.Jump.Put(uint32(weirProgramPROGRAM_PARSE), d.objs.WeirParse),
		d.objs.Jump.Put(uint32(weirProgramPROGRAM_PACKET), d.objs.WeirPacket),
	)
	if err != nil || d.older == nil || d.older.maps["jump"] == nil {
		return err
	}
	return d.older.maps["jump"].Put(uint32(weirProgramPROGRAM_PACKET), d.objs.WeirPacket)
}

// share maps the arrays through which user space and the programs of the sweep talk.
func (d *Datapath) share() (err error) {
	if d.works, err = share[weirWork](d.objs.Works); err != nil {
		return err
	}
	if d.answers, err = share[weirAnswer](d.objs.Answers); err != nil {
		return err
	}
	if d.cache4, err = shareSlots[weirSlot4](d.objs.Cache4); err != nil {
		return err
	}
	d.cache6, err = shareSlots[weirSlot6](d.objs.Cache6)
	return err
}

// Configure changes the settings. When it returns, all packets see them.
func (d *Datapath) Configure(s Settings) error {
	if err := d.drainSlots(); err != nil {
		return err
	}
	if err := d.set(s); err != nil {
		return err
	}
	return d.resume()
}

func (d *Datapath) set(s Settings) error {
	var lifetimes [States]uint64
	for i, l := range s.Lifetimes {
		lifetimes[i] = uint64(l)
	}
	if err := d.setFilter(&s.Filter); err != nil {
		return err
	}
	sample := max(s.Sample, 1)
	if err := errors.Join(
		d.objs.LifetimeNs.Set(lifetimes),
		d.objs.TakeoverNs.Set(uint64(s.Takeover)),
		d.objs.OverflowToRing.Set(bit(s.Overflow)),
		d.objs.MidStream.Set(bit(s.MidStream || d.pending())),
		d.objs.Tunnels.Set(uint8(s.Tunnels)),
		d.objs.SampleMax.Set(uint32(math.MaxUint32)/sample),
		d.objs.Gates.Set(bit(!s.Filter.empty())*gateFilter|bit(sample > 1)*gateSample),
	); err != nil {
		return fmt.Errorf("set the datapath's settings: %w", err)
	}
	d.opts.Settings = s
	return nil
}

// Of enum gate in maps.h.
const (
	gateFilter = 1
	gateSample = 2
)

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// SetNow sets the virtual clock, in nanoseconds. Without Options.Virtual nothing reads it.
func (d *Datapath) SetNow(ns int64) error {
	if err := d.objs.VirtualNow.Set(uint64(ns)); err != nil {
		return fmt.Errorf("set the virtual clock: %w", err)
	}
	d.now = ns
	return nil
}

// Options returns what the datapath was loaded with, its settings as they are now.
func (d *Datapath) Options() Options { return d.opts }

// Close lets go of the datapath. What is pinned goes on.
func (d *Datapath) Close() error {
	errs := []error{d.closeSources(), d.names.Close()}
	if d.events != nil {
		errs = append(errs, d.events.Close())
	}
	for _, p := range d.stubs {
		errs = append(errs, p.Close())
	}
	for number := range d.guards {
		errs = append(errs, d.unguard(number))
	}
	return errors.Join(append(errs, d.closeObjects())...)
}

func (d *Datapath) closeObjects() error {
	return errors.Join(d.works.close(), d.answers.close(), d.iter.close(), d.counter.close(),
		d.cache4.close(), d.cache6.close(), d.objs.Close())
}

func (d *Datapath) closeSources() error {
	var errs []error
	for _, s := range d.sources {
		errs = append(errs, s.table.Close())
	}
	if d.older != nil {
		errs = append(errs, d.older.close())
	}
	return errors.Join(errs...)
}

// Unpin removes everything that Load and Attach pinned. Attachments that nothing else holds
// end with it.
func (d *Datapath) Unpin() error {
	if d.opts.Pin == "" {
		return nil
	}
	if err := os.RemoveAll(d.pinPath()); err != nil {
		return fmt.Errorf("remove the pin folder: %w", err)
	}
	_ = os.Remove(d.opts.Pin) // when it is empty; another version's pins may be there
	return nil
}
