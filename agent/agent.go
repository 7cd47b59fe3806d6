// Package agent is weir's agent: it attaches the datapath, drains it, and reports flows.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/meter"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/monitor"
	"github.com/weirnet/weir/bpf"
)

// Options are what a program that embeds the agent may bring along. The zero value is fine.
type Options struct {
	// Datapath is used instead of loading one; it stays loaded when the agent stops. It must
	// fit the configuration's table size and clock.
	Datapath *bpf.Datapath
	// Sink is used instead of the configured sinks.
	Sink Sink
	Log  *slog.Logger
	// Level is that of Log, for Reload; nil: it stays.
	Level *slog.LevelVar
}

// Agent is a running agent. Its methods are safe for concurrent use.
type Agent struct {
	cfg  Config
	log  *slog.Logger
	dp   *bpf.Datapath
	own  bool // the agent loaded the datapath
	sink Sink
	lock *os.File // of the pin folder
	// exporter is the sink, when the agent opened it.
	exporter *export.Exporter
	chains   *api.Server // nil without chains
	routes   []control.Route
	pulse    pulse
	level    *slog.LevelVar
	interval chan time.Duration // a new one, for Run
	foreign  bool               // it may enter other network namespaces

	looking sync.Mutex     // held while the finder is used; taken before mu
	finder  *ifaces.Finder // nil without discovery; it changes under both

	mu       sync.Mutex // guards all below, and the datapath
	hooks    map[uint16]flow.Hook
	slots    map[slotKey]*ebpf.Map // of stages that are in chains
	placed   []placed
	left     []placed // taken off
	unplaced map[ifaces.Key]control.Unwatched
	sweeper  *sweeper
	census   census
	pacer    *pacer
	features *features
	labels   *labels
	now      int64 // the virtual clock
	stopped  bool
}

// New loads or adopts the datapath and attaches it to all interfaces. Nothing stays behind when it
// fails.
func New(cfg Config, opts Options) (*Agent, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a := &Agent{cfg: cfg, log: opts.Log, dp: opts.Datapath, sink: opts.Sink,
		hooks: map[uint16]flow.Hook{}, slots: map[slotKey]*ebpf.Map{}, now: cfg.Clock.Start, pulse: pulse{since: time.Now()},
		level: opts.Level, interval: make(chan time.Duration, 1), foreign: cfg.namespaces()}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if err := a.start(); err != nil {
		return nil, errors.Join(err, a.abandon())
	}
	return a, nil
}

// start takes the steps of a start, each of which needs those before.
func (a *Agent) start() error {
	for _, step := range []func() error{
		a.claim, a.startChains, a.startSinks, a.load, a.setClock, a.startSweeper, a.attachAll, a.startDiscovery,
		a.dropLeftovers, a.takeOver, a.beginCensus,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	a.pacer = newPacer(&a.cfg)
	a.pulse.start(&a.cfg)
	if a.own {
		if err := giveBack(); err != nil {
			a.log.Warn("what the start took is not given back", "error", err)
		}
	}
	return nil
}

// startSinks opens the configured sinks, unless the agent was given one.
func (a *Agent) startSinks() error {
	if a.sink != nil {
		return nil
	}
	e, err := a.openSinks()
	if err != nil {
		return err
	}
	a.sink, a.exporter = e, e
	return nil
}

// setClock gives the datapath the virtual time, where time is virtual.
func (a *Agent) setClock() error {
	if !a.cfg.Clock.Virtual {
		return nil
	}
	return a.dp.SetNow(a.now)
}

// startSweeper starts what records go through, from the sweeper to the sinks.
func (a *Agent) startSweeper() error {
	boot := make([]byte, 8)
	if _, err := rand.Read(boot); err != nil {
		return fmt.Errorf("draw the boot id: %w", err)
	}
	agentIP, err := a.cfg.Identity.find()
	if err != nil {
		return err
	}
	if a.labels, err = startLabels(&a.cfg, a.time(), a.log); err != nil {
		return err
	}
	rec := &recorder{signature: signature{hex.EncodeToString(boot), agentIP}, sink: a.sink, hooks: a.hook,
		sampling: a.cfg.Sample}
	a.features = a.startFeatures(rec.signature)
	rec.ends = newEnds(a.features.sink(a.labels.sink(a.sink)), a.view)
	rec.sink = rec.ends
	if err := a.features.setNow(a.now); err != nil {
		return err
	}
	a.sweeper = newSweeper(a.dp, rec, int64(a.cfg.Active))
	a.sweeper.hold = a.hold
	a.sweeper.evicts = a.cfg.Table.Full == fullEvict
	return a.sweeper.arm(a.sweeper.evicts)
}

// takeOver moves what an earlier agent's tables hold into the agent's own.
func (a *Agent) takeOver() error {
	if err := a.dp.Migrate(a.sweeper.migration()); err != nil {
		return fmt.Errorf("take over an earlier agent's tables: %w", err)
	}
	return nil
}

func (a *Agent) load() error {
	if a.dp != nil {
		s, err := a.cfg.settings()
		if err != nil {
			return err
		}
		return a.dp.Configure(s)
	}
	opts, err := a.cfg.DatapathOptions()
	if err != nil {
		return err
	}
	a.dp, err = bpf.Load(opts)
	a.own = err == nil
	return err
}

// Run serves the control socket and sweeps until the context ends, then reports everything
// that is left and takes the datapath off.
func (a *Agent) Run(ctx context.Context) error {
	cfg := a.config()
	serve, err := a.serve(&cfg)
	if err != nil {
		return errors.Join(err, a.stop())
	}
	defer serve()
	rings, hush, err := a.listen(&cfg)
	if err != nil {
		return errors.Join(err, a.stop())
	}
	defer hush()
	every := cfg.Interval
	t := time.NewTicker(every)
	defer t.Stop()
	var s schedule
	if !cfg.Clock.Virtual {
		s.tick = t.C
	}
	for {
		var err error
		full := false
		select {
		case <-ctx.Done():
			return a.stop()
		case every = <-a.interval:
			t.Reset(every)
		case <-a.looks():
			a.discover()
		case <-rings:
			full, err = a.drain()
		case <-s.tick:
			err = a.Sweep()
			s.swept()
		case <-s.early:
			err = a.Sweep()
			s.swept()
		}
		if err != nil {
			a.log.Error("sweep", "error", err) // nothing was acknowledged; the next one reports it
		}
		if now := a.every(); now != every {
			every = now
			t.Reset(every)
		}
		if full {
			s.hurry()
		}
	}
}

// config is the configuration as it is now.
func (a *Agent) config() Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// serve answers on the control socket, and whoever monitors the agent.
func (a *Agent) serve(cfg *Config) (stop func(), err error) {
	hush, end := func() {}, func() {}
	if cfg.Control != "" {
		if hush, err = control.Serve(cfg.Control, a, a.routes...); err != nil {
			return nil, err
		}
	}
	if cfg.Monitor.Address != "" {
		if end, err = a.monitor(cfg); err != nil {
			hush()
			return nil, err
		}
	}
	return func() { hush(); end() }, nil
}

// monitor serves whoever monitors the agent, and the chains that it owns.
func (a *Agent) monitor(cfg *Config) (stop func(), err error) {
	if a.chains == nil {
		return monitor.Serve(cfg.Monitor, a)
	}
	m := meter.New(a.chains)
	end, err := monitor.Serve(cfg.Monitor, a, m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	return func() { end(); cancel(); <-done }, nil
}

// Sweep drains the tables once.
func (a *Agent) Sweep() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return errors.New("the agent has stopped")
	}
	return a.sweep(a.time(), false)
}

// Resize gives each connection table room for so many entries, and moves the connections. It refuses
// a size that is too small for those that a sweep leaves.
func (a *Agent) Resize(entries int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := checkTableSize(entries); err != nil {
		return err
	}
	if a.stopped {
		return errors.New("the agent has stopped")
	}
	return a.resize(entries)
}

func (a *Agent) resize(entries int) error {
	if err := a.sweep(a.time(), false); err != nil {
		return err
	}
	if err := a.sweeper.resize(entries); err != nil {
		return fmt.Errorf("resize the connection tables: %w", err)
	}
	a.log.Info("resized", "entries", entries)
	return nil
}

// SetClock moves the virtual clock, and sweeps at the new time.
func (a *Agent) SetClock(ns int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.cfg.Clock.Virtual {
		return errors.New("set the clock: the configuration has no virtual clock")
	}
	if ns < a.now {
		return fmt.Errorf("set the clock: %d ns lies before %d ns", ns, a.now)
	}
	if a.stopped {
		return errors.New("set the clock: the agent has stopped")
	}
	if err := errors.Join(a.dp.SetNow(ns), a.features.setNow(ns)); err != nil {
		return err
	}
	a.now = ns
	return a.sweep(ns, false)
}

// time reads the clock that the datapath reads, in ns.
func (a *Agent) time() int64 {
	if a.cfg.Clock.Virtual {
		return a.now
	}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0 // cannot happen: the clock and the address are valid
	}
	return ts.Nano()
}

// Counters lists what became of the packets at every hook, and what was reported.
func (a *Agent) Counters() (control.Counters, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := control.Counters{Reported: a.sweeper.rec.total, Sinks: a.exporter.Stats()}
	for i, p := range slices.Concat(a.placed, a.left) {
		c, err := a.dp.Counters(p.at.Number)
		if err != nil {
			return out, err
		}
		out.Hooks = append(out.Hooks, control.HookCounters{Hook: a.hook(p.at.Number), Mode: p.at.Mode,
			Gone: i >= len(a.placed), Counters: c})
	}
	former, err := a.dp.Counters(bpf.FormerHooks)
	if err != nil {
		return out, err
	}
	if former.Seen.Packets > 0 {
		out.Hooks = append(out.Hooks, control.HookCounters{Hook: flow.Hook{Interface: control.FormerHooks}, Gone: true,
			Counters: former})
	}
	strays, err := a.dp.Counters(0)
	if err != nil {
		return out, err
	}
	out.NoHook = strays.Seen
	out.InsertErrors, err = a.dp.Refusals()
	out.NAT = a.features.translations()
	out.Labels = a.labels.stats()
	return out, err
}

// stop detaches first, so that the last sweep finds everything.
func (a *Agent) stop() error {
	a.pulse.stop()
	ended := a.endChains() // before the lock: a request that is handled may move stages
	a.mu.Lock()
	defer a.mu.Unlock()
	err := errors.Join(ended, a.detach())
	if a.sweeper != nil && !a.stopped {
		// A packet may still be on its way through a filter that was taken off.
		err = errors.Join(err, a.dp.Grace(), a.sweep(a.time(), true))
	}
	a.stopped = true
	return errors.Join(err, a.release())
}

// abandon undoes a start that failed. What an earlier agent had pinned stays for the next one.
func (a *Agent) abandon() error {
	if a.own && a.dp != nil && a.dp.Adopted {
		return errors.Join(a.dp.Close(), a.closeFiles())
	}
	var err error
	if a.dp != nil {
		err = a.detach()
	}
	return errors.Join(err, a.release())
}

// release gives back what the agent holds, once it is detached. Pinned state goes when an agent
// ends in order.
func (a *Agent) release() error {
	var err error
	if a.own {
		err = errors.Join(a.dp.Unpin(), a.dp.Close())
	}
	return errors.Join(err, a.closeFiles())
}

func (a *Agent) closeFiles() error {
	errs := []error{a.stopDiscovery()}
	a.labels.close()
	errs = append(errs, a.endChains(), a.closeSlots())
	if a.lock != nil {
		_ = os.Remove(a.cfg.Pin) // when it is empty
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(append(errs, a.closeSinks(), a.features.close())...)
}
