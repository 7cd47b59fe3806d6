package spec

import (
	"fmt"
	"hash/fnv"
)

// resolver looks up what steps and agent name.
type resolver struct {
	*list
	scenario *Scenario
	raw      *rawScenario
	network  *network
	packets  int // sent by the steps so far
	deleted  map[Port]bool
	added    []placed[Port] // links that come back
	absent   map[string]bool
	vanished []placed[string] // hosts that are deleted at some step
	running  agentState
}

func (r *resolver) resolve() {
	s := r.scenario
	r.agent()
	r.zones()
	r.program()
	r.tolerances()
	r.stacks()
	r.network = newNetwork(&s.Topology)
	r.running = runs
	if s.Agent.Layout != 0 {
		r.running = absent
	}
	for _, raw := range r.raw.steps {
		if raw.mix != nil {
			r.expand(raw)
			continue
		}
		r.step(raw)
		s.Steps = append(s.Steps, raw.step)
	}
	r.stepCount()
	r.oracle()
	r.neighbours()
	for _, p := range r.added {
		r.plainLink(p)
	}
	for _, h := range r.vanished {
		r.plainHost(h)
	}
}

// stepCount keeps what mixes draw within what a scenario can have.
func (r *resolver) stepCount() {
	if n := len(r.scenario.Steps); n > MaxSteps {
		r.add(r.raw.steps[len(r.raw.steps)-1].at, fmt.Sprintf("the mixes up to here draw %d steps", n),
			fmt.Sprintf("a scenario has at most %d", MaxSteps))
	}
}

func (r *resolver) agent() {
	seen := map[Port]bool{}
	for _, p := range r.raw.agent.on {
		if r.port(p) && seen[p.v] {
			r.add(p.at, fmt.Sprintf("%q is given twice", p.v), "")
		}
		seen[p.v] = true
		if r.scenario.Agent.Hook == "netkit" && r.port(p) && !r.isNetkit(p.v) {
			r.add(p.at, fmt.Sprintf("%q is no primary end of a netkit pair", p.v), "the hook is netkit: add netkit: true to the interface")
		}
		r.scenario.Agent.On = append(r.scenario.Agent.On, p.v)
	}
	if r.scenario.Agent.Layout != 0 && len(r.scenario.Agent.On) > 0 {
		r.layout()
	}
}

// layout complains about what an agent of an older layout could not have been told.
func (r *resolver) layout() {
	a := &r.scenario.Agent
	a.Process = true
	if r.raw.agent.program.at != nil || a.Hook != "" || a.Tunnels != nil || a.Sample != 1 || !a.MidStream ||
		len(a.Filters.Rules) > 0 || a.Filters.Default != "" {
		r.add(r.raw.agent.on[0].at, "what a killed agent has left was told nothing of that",
			"layout goes with on, table, table_full, sweep and lifetimes")
	}
}

// port complains about a port that the topology does not have.
func (r *resolver) port(p placed[Port]) bool {
	h := r.host(p.at, p.v.Host)
	if h == nil {
		return false
	}
	return r.interfaceOf(p.at, h, p.v.Interface) != nil
}

func (r *resolver) host(at *node, name string) *Host {
	if h := r.scenario.Topology.Host(name); h != nil {
		return h
	}
	var names []string
	for _, h := range r.scenario.Topology.Hosts {
		names = append(names, h.Name)
	}
	r.addOnce(at, fmt.Sprintf("there is no host %q", name), suggest(name, names))
	return nil
}

func (r *resolver) interfaceOf(at *node, h *Host, name string) *Interface {
	if i := h.Interface(name); i != nil {
		return i
	}
	var names []string
	for _, i := range h.Interfaces {
		names = append(names, i.Name)
	}
	r.addOnce(at, fmt.Sprintf("host %q has no interface %q", h.Name, name), suggest(name, names))
	return nil
}

// stacks switches the kernel's stack on where real sockets need it.
func (r *resolver) stacks() {
	for _, raw := range r.raw.steps {
		if raw.step.Socket != nil {
			r.needStack(raw.pair.from)
			r.needStack(raw.pair.to)
		}
	}
}

func (r *resolver) needStack(e rawEnd) {
	for i, raw := range r.raw.topology.hosts {
		if raw.name != e.host {
			continue
		}
		if raw.stack.v == "none" {
			r.add(e.at, fmt.Sprintf("real sockets need the stack of host %q", e.host),
				"its stack is none: leave that out")
		}
		r.scenario.Topology.Hosts[i].Stack = true
	}
}

func (r *resolver) step(raw *rawStep) {
	s := &raw.step
	switch {
	case s.Agent != "":
		r.agentStep(raw)
	case s.Link != nil:
		r.linkStep(raw)
	case s.Host != nil:
		r.hostStep(raw)
	case s.Impair != nil:
		r.impairStep(raw)
	case s.Replay != nil:
		r.replayStep(raw)
	case raw.pair != nil:
		r.pairStep(raw)
	}
}

// pairStep resolves the two endpoints of a step and what depends on them.
func (r *resolver) pairStep(raw *rawStep) {
	from, to, ok := r.endpoints(raw.pair, raw.family)
	if !ok || !r.ports(raw, raw.pair) {
		return
	}
	var far *Pair
	if raw.translated != nil {
		if far, ok = r.translatedPair(raw, from); !ok {
			return
		}
	}
	if !r.reachable(raw, from, to, far) || !r.present(raw, from, to) {
		return
	}
	s := &raw.step
	switch {
	case s.TCP != nil:
		s.TCP.Client, s.TCP.Server, s.TCP.Translated = from, to, far
		r.isns(raw)
		r.count(raw, segments(s.TCP))
	case s.UDP != nil:
		s.UDP.Client, s.UDP.Server, s.UDP.Translated = from, to, far
		r.count(raw, datagrams(s.UDP))
	case s.Packet != nil:
		s.Packet.From, s.Packet.To = from, to
		r.count(raw, s.Packet.Count*s.Packet.Fragments.most())
	case s.Ping != nil:
		s.Ping.From, s.Ping.To, s.Ping.Translated = from, to, far
		r.count(raw, s.Ping.Count)
	case s.Burst != nil:
		s.Burst.From, s.Burst.To = from, to
		r.count(raw, s.Burst.Flows*s.Burst.Packets)
	case s.Socket != nil:
		s.Socket.From, s.Socket.To = from, to
		r.socketEnd(raw)
	}
}

// socketEnd checks that the connection can end that way.
func (r *resolver) socketEnd(raw *rawStep) {
	switch s := raw.step.Socket; {
	case s.End != "" && s.Network != "tcp":
		r.add(raw.ending, fmt.Sprintf("%s has no connection to end", s.Network), "end belongs to tcp")
	case s.End == "refused" && s.Bytes+s.Reply > 0:
		r.add(raw.ending, "what is refused carries nothing", "leave out bytes and reply, or make them 0")
	case s.ClientGroup != "" && s.From.Port == 0:
		r.add(raw.group, "the client's port is the kernel's choice, so nobody can tell whose packets these are",
			"give it one: client:40000")
	}
}

// count keeps the scenario within what a run can carry.
func (r *resolver) count(raw *rawStep, n int) {
	before := r.packets
	r.packets += n
	if r.packets > MaxPackets && before <= MaxPackets {
		r.add(raw.at, fmt.Sprintf("the steps up to here send %d packets", r.packets),
			fmt.Sprintf("a scenario sends at most %d", MaxPackets))
	}
}

// most is how many frames a packet can be sent in.
func (f *Fragments) most() int {
	switch {
	case f == nil:
		return 1
	case f.Order != nil:
		return len(f.Order)
	}
	return maxPayload/f.Size + 1
}

func segments(t *TCP) (n int) {
	for _, s := range t.Script {
		n += s.Repeat
	}
	return n
}

func datagrams(u *UDP) (n int) {
	for _, d := range u.Script {
		n += d.Repeat
	}
	return n
}

// isns derives the initial sequence numbers from the endpoints: arbitrary looking, different
// for the two sides, and the same in every run.
func (r *resolver) isns(raw *rawStep) {
	t := raw.step.TCP
	if !raw.isns[0] {
		t.ClientISN = isn(t.Client, t.Server)
	}
	if !raw.isns[1] {
		t.ServerISN = isn(t.Server, t.Client)
	}
}

func isn(from, to Endpoint) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %d %s %d", from.Addr, from.Port, to.Addr, to.Port)
	return h.Sum32()
}

// ports checks that the endpoints have the ports that the step needs.
func (r *resolver) ports(raw *rawStep, pair *rawPair) bool {
	s := raw.step
	switch {
	case s.TCP != nil || s.UDP != nil:
		return r.needPort(pair.from) && r.needPort(pair.to)
	case s.Socket != nil:
		return r.needPort(pair.to)
	case s.Ping != nil:
		return r.noPort(pair.from, "ICMP has none") && r.noPort(pair.to, "ICMP has none")
	case s.Burst != nil:
		const why = "a burst draws them"
		return r.noPort(pair.from, why) && r.noPort(pair.to, why)
	}
	return true
}

func (r *resolver) needPort(e rawEnd) bool {
	if !e.hasPort {
		example := e.at.text + ":40000"
		if e.addr.IsValid() && e.addr.Is6() {
			example = "[" + e.addr.String() + "]:40000"
		}
		r.add(e.at, fmt.Sprintf("the endpoint %q has no port", e.at.text), "write "+example)
	}
	return e.hasPort
}

func (r *resolver) noPort(e rawEnd, why string) bool {
	if e.hasPort {
		r.add(e.at, fmt.Sprintf("the endpoint %q has a port", e.at.text), why)
	}
	return !e.hasPort
}
