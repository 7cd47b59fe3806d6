package differ

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/model"
)

const (
	// bpfFolder is where a datapath is pinned for a moment, to get hold of its parts.
	bpfFolder = "/sys/fs/bpf"
	// ringBytes holds the events of a long case, and can be filled in a short time.
	ringBytes = 512 << 10
	// noHook is the number of a program behind no hook.
	noHook = Hooks + 1
)

// kernel is the datapath's side: the real programs and maps, with a virtual clock.
type kernel struct {
	dp       *bpf.Datapath
	entry    *ebpf.Program // leads to the programs behind the hooks
	programs *ebpf.Map     // those, by number

	c       *Case
	now     int64                   // of the case
	ahead   int64                   // of it is the datapath's clock
	base    [Hooks + 1]bpf.Counters // what the counters were when the case began
	filled  int                     // events that were put into the ring buffer to fill it
	retired []model.Flow            // by sweeps
	context entryContext
}

// slots is how many slots the fast path has: few, so that flows compete for them.
const slots = 64

// load loads a datapath with tables of so many entries.
func load(table int) (k *kernel, err error) {
	pin, err := os.MkdirTemp(bpfFolder, "weir-differ-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for pins: %w", err)
	}
	k = &kernel{}
	k.dp, err = bpf.Load(bpf.Options{Pin: pin, Table: table, Ring: ringBytes, Virtual: true,
		Slots: slots, SlotAfter: 1})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(pin))
	}
	// What is held needs no pin, and a process that is killed leaves nothing behind.
	if err := errors.Join(k.hook(pin), k.dp.Unpin(), os.RemoveAll(pin)); err != nil {
		return nil, errors.Join(fmt.Errorf("make hooks: %w", err), k.close())
	}
	return k, nil
}

// hook makes the programs behind the hooks, and the entry that leads to them. The last one is
// configured and then taken back: what comes from it comes from no hook.
func (k *kernel) hook(pin string) error {
	programs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4,
		MaxEntries: noHook + 1})
	if err != nil {
		return err
	}
	k.programs = programs
	for n := 1; n <= noHook; n++ {
		p, err := k.dp.Stub(bpf.Hook{Interface: n})
		if err != nil {
			return err
		}
		if err := programs.Put(uint32(n), p); err != nil {
			return err
		}
	}
	if k.entry, err = loadEntry(programs); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(pin, "*", "hooks"))
	if err != nil || len(found) != 1 {
		return errors.Join(err, fmt.Errorf("%d pinned maps of hooks, want 1", len(found)))
	}
	hooks, err := ebpf.LoadPinnedMap(found[0], nil)
	if err != nil {
		return err
	}
	defer hooks.Close()
	return hooks.Put(uint32(noHook), make([]byte, hooks.ValueSize()))
}

func (k *kernel) close() error {
	var errs []error
	if k.entry != nil {
		errs = append(errs, k.entry.Close())
	}
	if k.programs != nil {
		errs = append(errs, k.programs.Close())
	}
	return errors.Join(append(errs, k.dp.Close())...)
}

// start makes everything ready for a case.
func (k *kernel) start(c *Case) error {
	// What an earlier case has left of fragments is too old to be taken up.
	k.ahead += k.now + int64(fragmentTime)
	k.c, k.now, k.filled, k.retired = c, begin, 0, nil
	tunnels, err := bpf.ParseTunnels(c.Tunnels)
	if err != nil {
		return err
	}
	filter, err := c.Filters.Compile()
	if err != nil {
		return err
	}
	settings := bpf.Settings{Takeover: c.takeover(), Overflow: c.Overflow,
		MidStream: !c.NoMidStream, Tunnels: tunnels, Sample: c.Sample, Filter: filter}
	for state, d := range c.lifetimes() {
		settings.Lifetimes[state] = d
	}
	err = errors.Join(k.empty(), k.drain(), k.dp.Configure(settings), k.setClock())
	for n := 1; n <= Hooks && err == nil; n++ {
		_, err = k.dp.Stub(bpf.Hook{Interface: n, Zone: c.Zones[n], L3: c.L3})
	}
	if err == nil && c.RingFull {
		plain := settings // nothing that fills the ring is left out
		plain.Filter, plain.Sample = bpf.Filter{}, 0
		err = errors.Join(k.dp.Configure(plain), k.fillRing(), k.dp.Configure(settings))
	}
	for n := 0; n <= Hooks && err == nil; n++ {
		k.base[n], err = k.dp.Counters(uint16(n))
	}
	if err != nil {
		return fmt.Errorf("begin a case: %w", err)
	}
	return nil
}

// fragmentTime is longer than first fragments are remembered.
const fragmentTime = time.Minute

// setClock makes the datapath's clock what it is in the case.
func (k *kernel) setClock() error { return k.dp.SetNow(k.now + k.ahead) }

// shift makes the times of an entry what they are in the case.
func (k *kernel) shift(e *bpf.Entry) *bpf.Entry {
	for i := range e.Legs {
		for _, t := range []*int64{&e.Legs[i].First, &e.Legs[i].Last} {
			if *t != 0 {
				*t -= k.ahead
			}
		}
	}
	return e
}

// fillRing fills the ring buffer with connections that replace each other, and removes what
// else they leave.
func (k *kernel) fillRing() error {
	frame := filler(k.c.L3)
	s := Step{Hook: 1, Frame: frame}
	before, err := k.lostToRing()
	for full := false; !full && err == nil; k.filled++ {
		frame[len(frame)-14]++ // of the sequence number: another connection
		if k.filled%256 == 0 {
			frame[len(frame)-15]++
		}
		if err := k.send(&s); err != nil {
			return err
		}
		var now uint64
		now, err = k.lostToRing()
		full = now > before
	}
	if err != nil {
		return err
	}
	return k.dp.Empty()
}

// lostToRing is how many packets the first hook has lost to a full ring buffer.
func (k *kernel) lostToRing() (uint64, error) {
	c, err := k.dp.Counters(1)
	return c.Lost[string(model.ReasonRingFull)].Packets, err
}

// filler is a SYN from 127.0.0.1:1 to 127.0.0.1:2.
func filler(l3 bool) []byte {
	frame := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
		0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0}
	if l3 {
		return frame
	}
	return slices.Concat(linkHeader(frame), frame)
}

// empty removes all connections from the tables.
func (k *kernel) empty() error {
	return errors.Join(k.dp.ClearSlots(), k.dp.Empty())
}

// drain forgets the events that were not read.
func (k *kernel) drain() error {
	return errors.Join(k.dp.Events(func(*bpf.Event) error { return nil }), k.dp.ReleaseEvents())
}

// step carries out one step.
func (k *kernel) step(s *Step) error {
	if s.Wait > 0 {
		k.now += int64(s.Wait)
		if err := k.setClock(); err != nil {
			return err
		}
	}
	switch s.Kind {
	case Sweep:
		return k.sweep()
	case Report:
		return k.report()
	}
	return k.send(s)
}

// report acknowledges everything that the table holds.
func (k *kernel) report() error {
	var marks []bpf.Mark
	err := k.dp.Walk(func(e *bpf.Entry) error {
		marks = append(marks, bpf.Mark{Key: e.Key(), At: k.now + k.ahead,
			Reported: [2]bpf.Count{e.Legs[0].Count, e.Legs[1].Count}})
		return nil
	})
	return errors.Join(err, k.dp.Acknowledge(marks))
}

// sweep is one pass of garbage collection.
func (k *kernel) sweep() error {
	lifetimes := k.dp.Options().Lifetimes
	return k.collect(func(e *bpf.Entry) bool {
		return k.now+k.ahead-e.Last() > int64(lifetimes[e.State])
	})
}

// collect ends the connections that are chosen. The datapath must agree that each has expired.
func (k *kernel) collect(chosen func(*bpf.Entry) bool) error {
	var cs []bpf.Candidate
	err := k.dp.Walk(func(e *bpf.Entry) error {
		if chosen(e) {
			cs = append(cs, bpf.Candidate{Key: e.Key()})
		}
		return nil
	})
	if err != nil || len(cs) == 0 {
		return err
	}
	for _, do := range []func([]bpf.Candidate) error{k.dp.Retire, k.settle, k.read, k.dp.Delete} {
		if err := do(cs); err != nil {
			return err
		}
		if i := slices.IndexFunc(cs, func(c bpf.Candidate) bool { return !c.Done }); i >= 0 {
			return fmt.Errorf("the datapath does not collect flow %d", cs[i].Key.Flow)
		}
	}
	return nil
}

func (k *kernel) settle([]bpf.Candidate) error { return k.dp.Settle() }

// read notes what the connections that have ended were.
func (k *kernel) read(cs []bpf.Candidate) error {
	return k.dp.Read(cs, func(c *bpf.Candidate, e *bpf.Entry) error {
		k.retired = append(k.retired, k.flows(k.shift(e), flow.EndReason(c.End))...)
		return nil
	})
}

// state tells what the datapath says.
func (k *kernel) state() (*State, error) {
	s := &State{Ended: k.retired}
	var err error
	if s.Counters, err = k.counters(); err != nil {
		return nil, err
	}
	view := conntrack.View{Hooks: func(n uint16) flow.Hook { return Hook(int(n)) },
		Lifetimes: k.dp.Options().Lifetimes, Now: k.now}
	err = k.dp.Walk(func(e *bpf.Entry) error {
		s.Connections = append(s.Connections, view.Of(k.shift(e)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.Connections, func(a, b conntrack.Entry) int { return int(int64(a.Flow - b.Flow)) })
	ended, err := k.events()
	s.Ended = append(s.Ended, ended...)
	return s, err
}

// counters are those of all hooks since the case began.
func (k *kernel) counters() (map[flow.Hook]model.Counters, error) {
	all := map[flow.Hook]model.Counters{}
	for n := range Hooks + 1 {
		now, err := k.dp.Counters(uint16(n))
		if err != nil {
			return nil, err
		}
		base := &k.base[n]
		c := model.Counters{Seen: grown(base.Seen, now.Seen),
			Accounted: grown(base.Accounted, now.Accounted),
			Observed:  grown(base.Observed, now.Observed),
			LeftOut:   grownBy(base.LeftOut, now.LeftOut), Lost: grownBy(base.Lost, now.Lost)}
		all[Hook(n)] = c
	}
	return all, nil
}

func grownBy(from, to map[string]bpf.Count) map[model.Reason]model.Count {
	all := map[model.Reason]model.Count{}
	for reason, n := range to {
		if more := grown(from[reason], n); more != (model.Count{}) {
			all[model.Reason(reason)] = more
		}
	}
	return all
}

func grown(from, to bpf.Count) model.Count {
	return model.Count{Packets: to.Packets - from.Packets, Bytes: to.Bytes - from.Bytes}
}
