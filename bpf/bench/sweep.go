package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// sweepCase is the state in which a sweep finds the table.
type sweepCase struct {
	suffix, what string
	// percent of the entries have counted packets since they were reported, or have expired.
	percent int
	expire  bool
}

var sweepCases = []sweepCase{
	{suffix: "unchanged", what: "nothing to report"},
	{suffix: "changed-50", what: "50 % have new packets", percent: 50},
	{suffix: "changed-100", what: "100 % have new packets", percent: 100},
	{suffix: "expired-50", what: "50 % have expired, the others are unchanged", percent: 50, expire: true},
	{suffix: "expired-100", what: "100 % have expired", percent: 100, expire: true},
}

// sweeping is an agent whose table is filled by a driver, on a clock of its own.
type sweeping struct {
	b       *bench
	entries int
	leave   func() // its network namespace
	lane    *lane
	dp      *bpf.Datapath
	agent   *agent.Agent
	sink    counter
	now     int64 // ns
	active  int64 // ns between two reports of a connection
	life    int64 // ns until a connection expires
}

// counter takes records, and hands them on if there is somebody to take them.
type counter struct {
	records int
	to      *export.Exporter // nil: they are forgotten, as writing them is not part of the sweep
}

func (c *counter) Write(r *flow.Record) error {
	c.records++
	if c.to == nil {
		return nil
	}
	return c.to.Write(r)
}

func (c *counter) Flush() error {
	if c.to == nil {
		return nil
	}
	return c.to.Flush()
}

// sweeps measures the agent's sweep of a table that is full: the walk, the records (not their
// writing), the acknowledgements, and the collection of what has expired.
func (b *bench) sweeps(ctx context.Context, entries int) (fs []Figure, err error) {
	if ok, err := b.fits(entries); !ok {
		return missingSweeps(entries, "needs more memory than is free"), err
	}
	s, err := b.newSweeping(entries)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	slice := sliceFigure(entries)
	for _, c := range sweepCases {
		if b.wants(slice.Name) {
			if err := s.slice(&c, &slice); err != nil {
				return fs, fmt.Errorf("%s: %w", slice.Name, err)
			}
		}
		if !b.wants(sweepName(entries, &c)) {
			continue
		}
		f := Figure{Name: sweepName(entries, &c), Unit: PerEntry, What: sweepWhat(entries, &c)}
		if f.Ours, err = s.measure(ctx, &c); err != nil {
			return fs, fmt.Errorf("%s: %w", f.Name, err)
		}
		if b.opts.Peer != nil && c.percent == 100 && !c.expire { // it takes all, whatever has changed
			if f.Peer, err = b.drain(ctx, entries); err != nil {
				return fs, fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		fs = append(fs, f.compare())
	}
	if slice.Ours != nil {
		fs = append(fs, slice)
	}
	return fs, nil
}

func sliceFigure(entries int) Figure {
	return Figure{Name: fmt.Sprintf("sweep/%d/slice", entries), Unit: Micros,
		What: fmt.Sprintf("the longest time without a pause in sweeps of %d entries", entries)}
}

func sweepName(entries int, c *sweepCase) string {
	return fmt.Sprintf("sweep/%d/%s", entries, c.suffix)
}

func sweepWhat(entries int, c *sweepCase) string {
	return fmt.Sprintf("a sweep of %d entries, %s", entries, c.what)
}

func missingSweeps(entries int, why string) (fs []Figure) {
	for _, c := range sweepCases {
		fs = append(fs, Figure{Name: sweepName(entries, &c), Unit: PerEntry,
			What: sweepWhat(entries, &c), Missing: why})
	}
	slice := sliceFigure(entries)
	slice.Missing = why
	return append(fs, slice)
}

// perSwept is the memory in bytes that an entry takes in both tables and in the agent, roughly.
const perSwept = 2000

// fits tells whether the machine has the memory for a sweep.
func (b *bench) fits(entries int) (bool, error) {
	free, err := freeMemory()
	return free > uint64(entries)*perSwept, err
}

// emptyNamespace makes a network namespace that lives until leave, and returns a path to it. No
// packet comes there but those that are sent on purpose.
func emptyNamespace() (path string, leave func(), err error) {
	made, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", unix.Getpid(), unix.Gettid())
		made <- unix.Unshare(unix.CLONE_NEWNET)
		<-done
	}()
	leave = func() { close(done) }
	if err := <-made; err != nil {
		leave()
		return "", nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return path, leave, nil
}

// newSweeping starts an agent that watches nothing but an empty network namespace.
func (b *bench) newSweeping(entries int) (s *sweeping, err error) {
	space, leave, err := emptyNamespace()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	c := agent.DefaultConfig()
	c.Interfaces = []agent.Interface{{Name: "lo", Namespace: space, As: "bench"}}
	c.Table.Size = entries
	c.Clock.Virtual = true
	opts, err := c.DatapathOptions()
	if err != nil {
		return nil, err
	}
	s = &sweeping{b: b, entries: entries, leave: leave, now: c.Clock.Start, active: int64(c.Active)}
	for _, l := range opts.Lifetimes {
		s.life = max(s.life, int64(l))
	}
	if s.dp, err = bpf.Load(opts); err != nil {
		return nil, err
	}
	if s.agent, err = agent.New(c, agent.Options{Datapath: s.dp, Sink: &s.sink}); err != nil {
		return nil, errors.Join(err, s.dp.Close())
	}
	err = s.open()
	if err == nil {
		err = s.fill()
	}
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// open puts a driver in front of a hook that is not attached.
func (s *sweeping) open() error {
	stub, err := s.dp.Stub(bpf.Hook{Interface: 1 << 30})
	if err != nil {
		return err
	}
	v4, _ := s.dp.Tables()
	s.lane = &lane{packetCase: &packetCase{packet: tcp4(ack)}, subject: &subject{program: stub,
		tables: []*ebpf.Map{v4}, close: func() error { return nil }}}
	s.lane.driver, err = newDriver(s.lane.packet, stub, 0)
	return err
}

func (s *sweeping) close() error {
	defer s.leave()
	return s.end()
}

// end takes the agent off.
func (s *sweeping) end() error {
	var errs []error
	if s.lane != nil && s.lane.driver != nil {
		errs = append(errs, s.lane.close())
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel() // the agent takes itself off at once
	return errors.Join(append(errs, s.agent.Run(stopped), s.dp.Close())...)
}

// send sends a packet of each of the first n flows.
func (s *sweeping) send(n int) error {
	if n == 0 {
		return nil
	}
	if err := s.lane.driver.set(n, false); err != nil {
		return err
	}
	_, err := s.b.run(s.lane, n)
	return err
}

// sweep moves the clock, which makes the agent sweep, and returns the CPU time that it took. It is
// an error when it does not write as many records as it should.
func (s *sweeping) sweep(after int64, records int) (time.Duration, error) {
	runtime.GC() // what came before does not pay for what comes now, and leaves no garbage to it
	s.now += after
	begin, err := cpuTime()
	if err != nil {
		return 0, err
	}
	before := s.sink.records
	if err := s.agent.SetClock(s.now); err != nil {
		return 0, err
	}
	end, err := cpuTime()
	if got := s.sink.records - before; err == nil && got != records {
		err = fmt.Errorf("the sweep wrote %d records, not %d", got, records)
	}
	return end - begin, err
}

// cpuTime is the CPU time of this process, in the kernel and outside.
func cpuTime() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), err
}

// sweepRounds is how often a sweep is measured: large ones are steady, and take long.
func (b *bench) sweepRounds(entries int) int { return max(1, min(b.opts.Rounds/3, 500000/entries)) }

func (s *sweeping) measure(ctx context.Context, c *sweepCase) (*Value, error) {
	var ns []float64
	for range s.b.sweepRounds(s.entries) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		after, err := s.arrange(c)
		if err != nil {
			return nil, err
		}
		took, err := s.sweep(after, s.entries*c.percent/100)
		if err != nil {
			return nil, err
		}
		ns = append(ns, float64(took)/float64(s.entries))
	}
	return netOf(ns, make([]float64, len(ns))), nil
}

// slice measures the longest read of a sweep of the case, and puts it into the figure if it is
// longer than those of other cases.
func (s *sweeping) slice(c *sweepCase, f *Figure) error {
	after, err := s.arrange(c)
	if err != nil {
		return err
	}
	longest, err := s.dp.LongestRead(bpf.Wanted{Now: s.now + after, Active: s.active})
	if err != nil {
		return err
	}
	us := float64(longest) / float64(time.Microsecond)
	if f.Ours == nil || f.Ours.Median < us {
		f.Ours = &Value{Median: us, Best: us}
	}
	_, err = s.sweep(after, s.entries*c.percent/100)
	return err
}

// fill makes the table full, with everything in it reported. That it is full shows in the number
// of records.
func (s *sweeping) fill() error {
	if err := s.send(s.entries); err != nil {
		return err
	}
	_, err := s.sweep(s.active, s.entries)
	return err
}

// arrange brings the table into the state of the case, which it has when the clock has moved on by
// what is returned, in ns. Cases in which nothing expires begin with a table that is full and
// reported, and leave it so: they come first.
func (s *sweeping) arrange(c *sweepCase) (after int64, err error) {
	part := s.entries * c.percent / 100
	if !c.expire {
		return s.active, s.send(part)
	}
	if part == s.entries {
		return s.life + 1, s.send(s.entries)
	}
	// Some send again, half their life later, and are reported once more.
	if err := s.fill(); err != nil {
		return 0, err
	}
	s.now += s.life / 2
	if err := s.dp.SetNow(s.now); err != nil {
		return 0, err
	}
	if err := s.send(s.entries - part); err != nil {
		return 0, err
	}
	_, err = s.sweep(s.active, s.entries-part)
	return s.life / 2, err
}
