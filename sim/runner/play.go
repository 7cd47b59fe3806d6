package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/capture"
	"github.com/weirnet/weir/sim/cgroup"
	"github.com/weirnet/weir/sim/foreign"
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/record"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/topology"
	"github.com/weirnet/weir/sim/traffic"
)

// start is the virtual time at which a scenario begins, in ns. Zero would read as "never".
const start = 1_000_000_000

// play is one scenario on stage.
type play struct {
	runner   *Runner
	sc       *spec.Scenario
	dir      string // the agent's files
	net      *topology.Network
	engine   *traffic.Engine
	capture  *capture.Capture
	model    *model.Model
	recorder *record.Recorder // nil: nothing is recorded
	nat      *translations    // nil without the agent's feature
	cluster  *model.Cluster   // nil without labels
	agent    *actor
	now      int64              // the scenario's clock, ns
	clock    int64              // what the datapath's clock was last set to: it stands still without an agent
	table    int                // entries of each connection table; 0: the default
	gone     map[spec.Port]bool // interfaces that were deleted while the agent watched them
	// namespaces are the hosts by the inodes of their network namespaces.
	namespaces map[uint64]string

	// What has been collected.
	witness     map[flow.Hook]model.Count
	counters    map[flow.Hook]model.Counters
	connections []conntrack.Entry
	flows       []byte             // JSON lines
	ledgers     []control.Counters // of each of the agent's lives, near its end
	// modelConnections is the model's table at the same moment.
	modelConnections []golden.Connection
	oracle           []result.Difference // of the agent's table from the scenario's oracle
	logs             []byte
	mapped           *foreign.Map    // of another program; nil for weir's own agent
	groups           []*cgroup.Group // of agents whose memory can be bounded
	starved          []int           // processes that the kernel has killed for want of memory, as it was to be
	tree             *cgroup.Tree    // of control groups for sockets; nil: none was asked for

	before holdings            // what the runner held before the stage was set
	leaks  []result.Difference // what is held or attached and should not be
}

func newPlay(ctx context.Context, r *Runner, sc *spec.Scenario, job *Job) (*play, error) {
	p := &play{runner: r, sc: sc, now: start, clock: start, table: sc.Agent.Table,
		gone: map[spec.Port]bool{}, witness: map[flow.Hook]model.Count{}, counters: map[flow.Hook]model.Counters{}}
	if sc.Agent.Program != nil {
		if err := p.prepareProgram(job); err != nil {
			return nil, err
		}
	}
	if err := p.build(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// build sets the stage. The witness listens before the agent does.
func (p *play) build(ctx context.Context) (err error) {
	if p.dir, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid())); err != nil {
		return err
	}
	if p.net, err = topology.Build(p.sc, topology.Options{}); err != nil {
		return fmt.Errorf("build the topology: %w", err)
	}
	if err := p.canRun(); err != nil {
		return err
	}
	if p.namespaces, err = namespaces(p.sc, p.net); err != nil {
		return err
	}
	if p.engine, err = traffic.New(p.sc, p.net); err != nil {
		return err
	}
	p.engine.Groups = p
	if p.runner.opts.Pcap != "" {
		dir := filepath.Join(p.runner.opts.Pcap, filepath.FromSlash(p.sc.Name))
		if p.recorder, err = record.Open(dir, p.net, &p.sc.Topology); err != nil {
			return err
		}
	}
	cfg, err := p.modelConfig()
	if err != nil {
		return err
	}
	p.model, p.nat = model.New(cfg), newTranslations(p.sc, cfg)
	if err := p.tellCluster(); err != nil {
		return err
	}
	heard := slices.Concat(p.sc.Agent.On, p.nat.ports())
	if p.capture, err = capture.Open(p.net, &p.sc.Topology, heard); err != nil {
		return err
	}
	if p.sc.Agent.Program != nil {
		return p.startProgram(ctx)
	}
	if p.sc.Agent.Layout != 0 {
		return p.leaveRelic()
	}
	return p.startAgent(ctx)
}

// modelConfig is to the model what config is to the agent.
func (p *play) modelConfig() (model.Config, error) {
	filter, err := p.sc.Agent.Filters.Compile()
	return model.Config{
		Lifetimes: p.lifetimes(), Table: p.sc.Agent.Table, TableFull: p.tableFull(),
		MidStream: p.sc.Agent.MidStream, Tunnels: p.sc.Agent.Tunnels,
		Sample: p.sc.Agent.Sample, Filter: filter, Latency: p.latency(), Zones: p.zones(),
	}, err
}

// zones are those of the hooks, where not 0.
func (p *play) zones() map[flow.Hook]uint16 {
	all := map[flow.Hook]uint16{}
	for _, z := range p.sc.Agent.Zones {
		for _, d := range []flow.Direction{flow.Ingress, flow.Egress} {
			all[flow.Hook{Namespace: z.On.Host, Interface: z.On.Interface, Direction: d}] = z.Number
		}
	}
	return all
}

func (p *play) run(ctx context.Context) error {
	for i := range p.sc.Steps {
		step := &p.sc.Steps[i]
		if err := p.step(ctx, step); err != nil {
			return fmt.Errorf("step at line %d: %w", step.Line, err)
		}
		if err := p.watch(); err != nil {
			return fmt.Errorf("step at line %d: %w", step.Line, err)
		}
	}
	return p.finish(ctx)
}

// finish ends the agent and takes its flows.
func (p *play) finish(ctx context.Context) error {
	if p.agent != nil {
		if err := p.stopAgent(ctx); err != nil {
			return err
		}
	}
	var err error
	if p.mapped == nil {
		if p.leaks, err = p.leftBehind(); err != nil {
			return err
		}
	}
	if p.flows, err = os.ReadFile(p.flowFile()); err != nil {
		return fmt.Errorf("read the agent's flows: %w", err)
	}
	return nil
}

func (p *play) step(ctx context.Context, s *spec.Step) error {
	switch {
	case s.Advance > 0:
		return p.advance(ctx, int64(s.Advance))
	case s.Agent != "":
		return p.direct(ctx, s)
	case s.Link != nil:
		return p.changeLink(ctx, s.Link)
	case s.Host != nil:
		return p.changeHost(ctx, s.Host)
	}
	p.holdSockets(s.Socket)
	return p.engine.Run(ctx, s)
}

// watch brings what the witness saw to the model.
func (p *play) watch() error {
	if p.recorder != nil {
		if err := p.recorder.Save(p.now); err != nil {
			return err
		}
	}
	seen, err := p.capture.Drain()
	if err != nil {
		return err
	}
	for _, f := range seen {
		p.nat.packet(f.Hook, p.clock, f.Frame)
		port := spec.Port{Host: f.Hook.Namespace, Interface: f.Hook.Interface}
		if !p.attached() || p.gone[port] || !slices.Contains(p.sc.Agent.On, port) {
			continue
		}
		on := p.sc.Topology.Host(f.Hook.Namespace).Interface(f.Hook.Interface)
		p.model.Receive(model.Arrival{Hook: f.Hook, Now: p.clock, Frame: f.Frame, L3: on.Kind.L3()})
		p.witness[f.Hook] = p.witness[f.Hook].Plus(
			model.Count{Packets: 1, Bytes: uint64(len(f.Frame))})
	}
	return nil
}

// attached tells whether the datapath sees packets: also when the agent was killed, for its
// attachments outlive it.
func (p *play) attached() bool { return p.agent != nil }

func (p *play) advance(ctx context.Context, by int64) error {
	p.now += by
	if p.agent == nil || p.agent.dead || p.agent.paused {
		return nil
	}
	return p.tellTime(ctx)
}

// tellTime brings the agent's clock to the scenario's.
func (p *play) tellTime(ctx context.Context) error {
	p.clock = p.now
	p.model.Sweep(p.now)
	return p.agent.client.SetClock(ctx, p.now)
}

// direct changes what the agent does.
func (p *play) direct(ctx context.Context, s *spec.Step) error {
	switch s.Agent {
	case "stop":
		if p.agent == nil || p.agent.dead {
			return errors.New("stop the agent: it does not run")
		}
		return p.stopAgent(ctx)
	case "kill":
		if p.agent == nil || p.agent.dead {
			return errors.New("kill the agent: it does not run")
		}
		return p.agent.kill()
	case "pause":
		return p.agent.pause(true)
	case "continue":
		return p.resume(ctx)
	case "start":
		if p.agent != nil && !p.agent.dead {
			return errors.New("start the agent: it runs already")
		}
		p.resize(s.Table)
		return p.startAgent(ctx)
	case "resize":
		if p.agent == nil || p.agent.dead {
			return errors.New("resize the agent's tables: it does not run")
		}
		return p.resizeAgent(ctx, s)
	case "limit":
		if p.agent == nil || p.agent.dead {
			return errors.New("limit the agent's memory: it does not run")
		}
		return p.limit(ctx, s)
	}
	return fmt.Errorf("unknown order to the agent %q", s.Agent)
}

// resume lets a paused agent go on. If time has passed meanwhile, it learns that now.
func (p *play) resume(ctx context.Context) error {
	if err := p.agent.pause(false); err != nil || p.clock == p.now {
		return err
	}
	return p.tellTime(ctx)
}

// resizeAgent resizes a running agent's tables, or has it refuse.
func (p *play) resizeAgent(ctx context.Context, s *spec.Step) error {
	p.model.Sweep(p.now)
	fits := p.model.Fits(s.Table)
	err := p.agent.client.Resize(ctx, s.Table)
	switch {
	case fits == s.Refused:
		return fmt.Errorf("resize the agent's tables: refused is %t, but what the model holds fits is %t", s.Refused, fits)
	case !fits && err == nil:
		return errors.New("resize the agent's tables: the agent takes a size that is too small for what the model holds")
	case !fits && strings.Contains(err.Error(), "connections are held"):
		return nil
	}
	if err == nil {
		p.resize(s.Table)
	}
	return err
}

// resize is the size of the tables from now on, unless it is 0.
func (p *play) resize(entries int) {
	if entries > 0 {
		p.table = entries
		p.model.Resize(entries)
	}
}

// changeLink changes an interface and lets what that causes come to its end.
func (p *play) changeLink(ctx context.Context, c *spec.LinkChange) error {
	if err := p.net.Change(*c); err != nil {
		return err
	}
	if c.Action == "delete" {
		p.gone[c.Port] = true
		if peer, ok := p.sc.Topology.Peer(c.Port); ok {
			p.gone[peer] = true
		}
	}
	return p.engine.Settle(ctx)
}

// stopAgent reads what only a living agent can tell, and lets it end in order.
func (p *play) stopAgent(ctx context.Context) error {
	if p.mapped != nil {
		return p.stopProgram(ctx)
	}
	if p.agent.dead {
		return errors.New("the scenario ends with a killed agent: start it again to see its report")
	}
	if p.agent.paused {
		return errors.New("the scenario ends with a paused agent: let it continue to see its report")
	}
	connections, err := p.agent.client.Connections(ctx)
	if err != nil {
		return err
	}
	ledger, err := p.agent.client.Counters(ctx)
	if err != nil {
		return err
	}
	p.connections = connections
	if err := p.consult(connections); err != nil {
		return err
	}
	p.modelConnections = golden.Connections(p.model.Connections(p.now),
		golden.TopologyNames(p.sc.Topology))
	p.add(&ledger)
	p.ledgers = append(p.ledgers, ledger)
	p.model.Stop(p.now)
	err = p.agent.stop()
	p.logs = append(p.logs, p.agent.log()...)
	p.agent = nil
	return err
}

// add adds the ledger of one agent's life to those before.
func (p *play) add(ledger *control.Counters) {
	for _, h := range ledger.Hooks {
		c := p.counters[h.Hook]
		c.Seen = c.Seen.Plus(model.Count(h.Seen))
		c.Accounted = c.Accounted.Plus(model.Count(h.Accounted))
		c.Observed = c.Observed.Plus(model.Count(h.Observed))
		addReasons(&c.LeftOut, h.LeftOut)
		addReasons(&c.Lost, h.Lost)
		p.counters[h.Hook] = c
	}
}

// addReasons adds what was counted by reason.
func addReasons(to *map[model.Reason]model.Count, counts map[string]bpf.Count) {
	for reason, n := range counts {
		if *to == nil {
			*to = map[model.Reason]model.Count{}
		}
		r := model.Reason(reason)
		(*to)[r] = (*to)[r].Plus(model.Count(n))
	}
}

func (p *play) log() string {
	if p.agent != nil {
		return string(p.logs) + string(p.agent.log())
	}
	return string(p.logs)
}

// close strikes the stage, whatever stands of it.
func (p *play) close() error {
	var errs []error
	if p.agent != nil {
		errs = append(errs, p.agent.kill())
	}
	errs = append(errs, p.ungroup())
	if p.capture != nil {
		errs = append(errs, p.capture.Close())
	}
	if p.recorder != nil {
		errs = append(errs, p.recorder.Close())
	}
	if p.engine != nil {
		errs = append(errs, p.engine.Close())
	}
	if p.runner.opts.Keep && p.net != nil {
		p.net.Leave()
		return errors.Join(errs...)
	}
	if p.net != nil {
		errs = append(errs, p.net.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

// kept says where to look after a run with Options.Keep.
func (p *play) kept() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kept until the next run: files in %s", p.dir)
	for _, h := range p.sc.Topology.Hosts {
		fmt.Fprintf(&b, "\nkept until the next run: host %s in network namespace %s",
			h.Name, filepath.Base(p.net.Path(h.Name)))
	}
	return b.String() + "\n"
}
