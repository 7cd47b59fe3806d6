package matrix

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/wire"
)

// Config says what runs where.
type Config struct {
	Cache   string         // folder for snapshots and what is remembered between runs
	Binary  string         // static binary that becomes the guest's init
	Kernels []kernel.Found // a line without a kernel is in the result as unavailable
	Jobs    []runner.Job   // scenarios, run on every kernel; names are unique
	// Files are those of the host that a job needs in its guest; it may be nil.
	Files  []initramfs.File // of the host, that jobs need in the agent's place
	Faults bool             // Jobs named fault/... are the harness's own faults
	Accel  qemu.Accel       // empty: Auto
	VMs    int              // at a time; 0: as many as there are CPUs for, which was measured to be best
	CPUs   int              // of a machine; 0: one
	// Exact makes the results of every run the same, byte for byte: see qemu.Machine.Exact. Each kernel
	// is booted, for a snapshot would have to be told what to do.
	Exact bool
	// Count counts instructions per packet on each kernel, in an exact machine beside the others.
	Count  bool
	Limits Limits // zero: DefaultLimits
	// Progress is called when a kernel or a part of it is done, by one goroutine at a time. It
	// may be nil.
	Progress func(Progress)
}

// Progress is a step of a run.
type Progress struct {
	Line    string // kernel line
	Version string // uname -r, once known
	Event   string // Booted, Record or Done
	Done    int    // scenarios of the kernel that have a verdict, or at least a record
	Total   int
	Red     int           // of those with a verdict
	Took    time.Duration // by the step
}

// The events of a Progress.
const (
	Booted = "booted" // the kernel has booted, and there is a snapshot now
	Record = "record" // a scenario's record has come
	Done   = "done"   // all scenarios of the kernel have a verdict
)

// Run runs every job on every kernel. The result holds each of them once, whatever happens. The
// error is about the run as a whole, such as a binary that is not static: no scenario ran then.
func Run(ctx context.Context, c Config) ([]result.Kernel, error) {
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	if c.VMs <= 0 {
		c.VMs = max(1, runtime.NumCPU()/max(c.CPUs, 1))
	}
	if c.Exact {
		c.Limits = c.Limits.exact()
	}
	snaps, err := newSnapshots(c.Cache, c.Binary, c.Files, c.Limits)
	if err != nil {
		return nil, err
	}
	on, err := decide(ctx, c, snaps)
	if err != nil {
		return nil, err
	}
	m := &matrix{Config: c, snaps: snaps, on: on, costs: loadCosts(c.Cache)}
	for _, f := range c.Kernels {
		m.kernels = append(m.kernels, m.newLane(f))
	}
	m.queue = newQueue()
	for _, l := range m.kernels {
		if l.out.Unavailable == "" {
			m.queue.push(task{lane: l, cost: l.cost(nil), boot: true})
		}
	}
	var wg sync.WaitGroup
	for range c.VMs {
		wg.Go(func() { m.queue.work(func(t task) { m.do(ctx, t) }) })
	}
	wg.Wait()
	out := make([]result.Kernel, len(m.kernels))
	for i, l := range m.kernels {
		out[i] = l.out
	}
	if !c.Faults {
		m.costs.save(out)
	}
	return out, nil
}

// matrix is a run.
type matrix struct {
	Config
	snaps   *snapshots
	on      platform
	costs   *costs
	kernels []*lane
	queue   *queue

	progress sync.Mutex
}

// lane is one kernel of a run.
type lane struct {
	m      *matrix
	kernel kernel.Kernel
	snap   *snapshot

	mu   sync.Mutex
	out  result.Kernel
	done int // scenarios whose verdict is final
	live int // records that have come
	red  int
}

func (m *matrix) newLane(f kernel.Found) *lane {
	l := &lane{m: m, kernel: f.Kernel, out: result.Kernel{
		Line: f.Line, Version: f.Kernel.Release, Package: f.Kernel.Package,
		SHA256: f.Kernel.SHA256, Accel: string(m.on.accel), Lane: m.laneName(),
	}}
	if f.Err != nil {
		l.out.Unavailable, l.out.Accel = f.Err.Error(), ""
		return l
	}
	l.out.Scenarios = make([]result.Scenario, len(m.Jobs))
	for i, j := range m.Jobs {
		l.out.Scenarios[i] = result.Scenario{Name: j.Name, Verdict: result.Error,
			Reason: "it did not run", Reproduce: Reproduce(f.Line, j.Name)}
	}
	return l
}

// laneName is what sets the run's machines apart from those of a usual run; "" if nothing does.
func (m *matrix) laneName() string {
	switch {
	case m.Exact:
		return "exact"
	case m.on.cpus > 1:
		return fmt.Sprintf("smp %d", m.on.cpus)
	}
	return ""
}

// Reproduce is the command that runs one scenario on one kernel.
func Reproduce(line, scenario string) string {
	return fmt.Sprintf("weir vm run --kernel %s --run '^%s$'", line, regexp.QuoteMeta(scenario))
}

// cost is how long jobs, all when nil, are expected to take on the kernel.
func (l *lane) cost(jobs []int) time.Duration {
	if jobs == nil {
		jobs = l.m.all()
	}
	var sum time.Duration
	for _, i := range jobs {
		sum += l.m.costs.of(l.m.Jobs[i].Name)
	}
	return sum
}

// all are the numbers of all jobs.
func (m *matrix) all() []int {
	n := make([]int, len(m.Jobs))
	for i := range n {
		n[i] = i
	}
	return n
}

// do carries out a task.
func (m *matrix) do(ctx context.Context, t task) {
	start := time.Now()
	defer func() {
		t.lane.mu.Lock()
		t.lane.out.Millis += time.Since(start).Milliseconds()
		t.lane.mu.Unlock()
	}()
	if m.Exact {
		t.lane.run(ctx, m.all(), start)
		return
	}
	if !t.boot {
		t.lane.run(ctx, t.jobs, start)
		return
	}
	snap, err := m.snaps.get(ctx, t.lane.kernel, m.on)
	if err != nil {
		t.lane.finish(m.all(), nil, fmt.Sprintf("prepare guest: %v", err), start)
		return
	}
	if m.Count {
		if t.lane.out.Instructions, err = m.snaps.instructions(ctx, snap); err != nil {
			t.lane.finish(m.all(), nil, fmt.Sprintf("count instructions: %v", err), start)
			return
		}
	}
	t.lane.snap = snap
	t.lane.out.BootMillis = snap.facts.BootMillis
	t.lane.out.BootCrashes = snap.facts.Crashes
	t.lane.learn(snap.facts.Ready)
	if snap.created {
		m.report(t.lane, Booted, start)
	}
	parts := m.split()
	for _, p := range parts[1:] {
		m.queue.push(task{lane: t.lane, jobs: p, cost: t.lane.cost(p)})
	}
	t.lane.run(ctx, parts[0], start)
}

// learn takes down what a guest has said of itself.
func (l *lane) learn(r wire.Ready) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.Version, l.out.Verified, l.out.Memory, l.out.LoadMillis = r.Release, r.Verified, r.Memory, r.LoadMs
}

// split divides the jobs into parts that run in guests of their own, so that no CPU is idle at
// the end of a run: a restored guest costs a fraction of a second, a CPU without work more. The
// parts are of about equal cost, and the same in every run that remembers the same costs.
func (m *matrix) split() [][]int {
	parts := 1
	if n := len(m.kernels); n > 0 {
		parts = min((4*m.VMs+n-1)/n, 2*m.VMs, max(1, len(m.Jobs)/3))
	}
	order := m.all()
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(m.costs.of(m.Jobs[b].Name), m.costs.of(m.Jobs[a].Name))
	})
	split := make([][]int, parts)
	load := make([]time.Duration, parts)
	for _, job := range order {
		least := slices.Index(load, slices.Min(load))
		split[least] = append(split[least], job)
		load[least] += m.costs.of(m.Jobs[job].Name) + time.Millisecond
	}
	for _, p := range split {
		slices.Sort(p)
	}
	return split
}

// finish writes down what came of jobs. A result that is nil is a failure of the harness.
func (l *lane) finish(jobs []int, got []*result.Scenario, reason string, start time.Time) {
	l.mu.Lock()
	for n, i := range jobs {
		s := &l.out.Scenarios[i]
		reproduce := s.Reproduce
		if got != nil && got[n] != nil {
			*s = *got[n]
			s.Reproduce = reproduce
			if !kernel.IsPath(l.out.Line) {
				demand(s, l.out.Version)
			}
		} else {
			s.Reason, s.AgentLog = shorten(reason)
		}
		l.done++
		if s.Verdict.Red() {
			l.red++
		}
	}
	all := l.done == len(l.out.Scenarios)
	l.mu.Unlock()
	if all {
		l.m.report(l, Done, start)
	}
}

// recorded counts a record that has come, before its verdict is final.
func (l *lane) recorded() {
	l.mu.Lock()
	l.live++
	l.mu.Unlock()
	l.m.report(l, Record, time.Now())
}

func (m *matrix) report(l *lane, event string, start time.Time) {
	if m.Progress == nil {
		return
	}
	m.progress.Lock()
	defer m.progress.Unlock()
	l.mu.Lock()
	p := Progress{Line: l.out.Line, Version: l.out.Version, Event: event, Done: max(l.done, l.live),
		Total: len(l.out.Scenarios), Red: l.red, Took: time.Since(start)}
	l.mu.Unlock()
	m.Progress(p)
}
