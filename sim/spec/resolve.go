package spec

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
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

// agentState is what the agent does at a step.
type agentState string

// The states of the agent.
const (
	runs   agentState = "runs"
	absent agentState = "does not run"
	paused agentState = "is paused"
)

// agentActions are what can happen to the agent: in which states, and the state it leads to.
var agentActions = map[string]struct {
	in []agentState
	to agentState
}{
	"start":    {[]agentState{absent}, runs},
	"stop":     {[]agentState{runs}, absent},
	"kill":     {[]agentState{runs, paused}, absent},
	"pause":    {[]agentState{runs}, paused},
	"continue": {[]agentState{paused}, runs},
	"resize":   {[]agentState{runs}, runs},
	"limit":    {[]agentState{runs}, runs},
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
	if a := &r.scenario.Agent; a.Layout != 0 && len(a.On) > 0 {
		a.Process = true
		if r.raw.agent.program.at != nil || a.Hook != "" || a.Tunnels != nil || a.Sample != 1 || !a.MidStream || len(a.Filters.Rules) > 0 ||
			a.Filters.Default != "" {
			r.add(r.raw.agent.on[0].at, "what a killed agent has left was told nothing of that",
				"layout goes with on, table, table_full, sweep and lifetimes")
		}
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

// agentStep follows the agent's state, so that a scenario cannot stop what does not run.
func (r *resolver) agentStep(raw *rawStep) {
	action := raw.step.Agent
	if !slices.Contains(agentActions[action].in, r.running) {
		r.add(raw.at, fmt.Sprintf("cannot %s the agent: it %s here", action, r.running), "")
	}
	if action == "start" {
		r.watchedAreThere(raw.at)
	}
	r.running = agentActions[action].to
	if action == "limit" && raw.step.Killed {
		r.running = absent
	}
	switch {
	case action == "resize" && raw.step.Table == 0:
		r.add(raw.at, "resize needs the size", "add table: 1024")
	case action != "resize" && action != "start" && raw.step.Table > 0:
		r.add(raw.at, fmt.Sprintf("%s has no table", action), "table belongs to start and resize")
	case action != "resize" && raw.step.Refused:
		r.add(raw.at, fmt.Sprintf("%s is not refused", action), "refused belongs to resize")
	case action == "limit" && raw.step.Memory == 0:
		r.add(raw.at, "limit needs the memory", "add memory: 64MiB")
	case action != "limit" && (raw.step.Memory > 0 || raw.step.Killed):
		r.add(raw.at, fmt.Sprintf("%s has no memory, and kills nobody for it", action), "memory and killed belong to limit")
	}
	if action == "kill" || action == "pause" || action == "resize" || action == "limit" {
		r.scenario.Agent.Process = true
	}
	if action == "limit" {
		r.scenario.Agent.Limited = true
	}
}

// linkStep follows which links there are: with one end, both are gone, and both come back.
func (r *resolver) linkStep(raw *rawStep) {
	if !r.port(raw.port) {
		return
	}
	p := raw.port.v
	if r.absent[p.Host] {
		r.add(raw.at, fmt.Sprintf("cannot take %q %s: host %q was deleted", p, raw.step.Link.Action, p.Host), "add the host again before")
		return
	}
	peer, linked := r.scenario.Topology.Peer(p)
	gone := r.deleted[p]
	switch action := raw.step.Link.Action; {
	case action == "add" && !gone:
		r.add(raw.at, fmt.Sprintf("cannot add %q: it is there", p), "delete it in a step before")
		return
	case action != "add" && gone:
		r.add(raw.at, fmt.Sprintf("cannot take %q %s: it was deleted", p, action), "add it again before")
		return
	case action == "add":
		r.added = append(r.added, raw.port)
	}
	if r.deleted == nil {
		r.deleted = map[Port]bool{}
	}
	r.deleted[p] = raw.step.Link.Action == "delete"
	if linked {
		r.deleted[peer] = r.deleted[p]
	}
}

// plainLink complains about a link that cannot come back, as the kernel removes with it what
// stood on it.
func (r *resolver) plainLink(p placed[Port]) {
	t := &r.scenario.Topology
	for _, l := range t.Links {
		if l.A != p.v && l.B != p.v {
			continue
		}
		if why := r.notPlain(l); why != "" {
			r.add(p.at, fmt.Sprintf("%q cannot be added again: %s", p.v, why),
				"only a plain link comes back")
		}
		return
	}
	r.add(p.at, fmt.Sprintf("%q has no link and cannot be added again", p.v), "name the end of a link")
}

func (r *resolver) notPlain(l Link) string {
	t := &r.scenario.Topology
	if l.Wire {
		return "its link is impaired"
	}
	for _, end := range []Port{l.A, l.B} {
		h := t.Host(end.Host)
		i := h.Interface(end.Interface)
		if i.Kind != Cable {
			return fmt.Sprintf("%q is of kind %s", end, i.Kind)
		}
		if i.Master != "" {
			return fmt.Sprintf("%q is a member of %s", end, i.Master)
		}
		for _, host := range t.Hosts {
			for _, other := range host.Interfaces {
				if other.On == end || host.Name == end.Host && other.Parent == end.Interface {
					return fmt.Sprintf("%q stands on it", host.Name+"/"+other.Name)
				}
			}
		}
	}
	return ""
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

// endpoints looks both endpoints up and chooses their addresses.
func (r *resolver) endpoints(pair *rawPair, family string) (from, to Endpoint, ok bool) {
	a, okA := r.candidates(pair.from)
	b, okB := r.candidates(pair.to)
	if !okA || !okB {
		return from, to, false
	}
	from = Endpoint{Port: pair.from.port}
	to = Endpoint{Port: pair.to.port}
	from.Host, okA = r.owner(pair.from, pair.to.host)
	to.Host, okB = r.owner(pair.to, from.Host)
	if !okA || !okB {
		return from, to, false
	}
	if from.Host == "" {
		r.add(pair.from.at, fmt.Sprintf("no host has the address %s, so none can send from it",
			pair.from.addr), "name the host; a packet step can give another source in its ipv4 layer")
		return from, to, false
	}
	if from.Host == to.Host {
		r.add(pair.to.at, fmt.Sprintf("both endpoints are on host %q", to.Host), "")
		return from, to, false
	}
	pa, pb, ok := choose(a, b, family)
	if !ok {
		r.add(pair.to.at, noFamily(pair, family), "give both an address of one family")
		return from, to, false
	}
	from.Addr, to.Addr = r.source(pair.from, pa, pb), pb
	return from, to, true
}

// source is the address that a host sends from when the file names the host alone: that of the
// interface on the way, as the kernel does it.
func (r *resolver) source(e rawEnd, chosen, to netip.Addr) netip.Addr {
	if e.host == "" || e.name != "" {
		return chosen
	}
	out, _ := r.network.walk(r.scenario.Topology.Host(e.host), to)
	if out == nil {
		return chosen
	}
	own := ofFamily(out.Addresses, to.Is6())
	isChosen := func(p netip.Prefix) bool { return p.Addr() == chosen }
	if len(own) == 0 || slices.ContainsFunc(own, isChosen) {
		return chosen
	}
	return own[0].Addr()
}

func noFamily(pair *rawPair, family string) string {
	if family == "" {
		family = "one family"
	}
	return fmt.Sprintf("%q and %q have no addresses of %s", pair.from.at.text, pair.to.at.text, family)
}

// candidates lists the addresses that an endpoint can mean.
func (r *resolver) candidates(e rawEnd) ([]netip.Prefix, bool) {
	if e.host == "" {
		return []netip.Prefix{netip.PrefixFrom(e.addr, e.addr.BitLen())}, true
	}
	h := r.host(e.at, e.host)
	if h == nil {
		return nil, false
	}
	var out []netip.Prefix
	for _, i := range h.Interfaces {
		if e.name == "" || e.name == i.Name {
			out = append(out, i.Addresses...)
		}
	}
	if e.name != "" && r.interfaceOf(e.at, h, e.name) == nil {
		return nil, false
	}
	if len(out) == 0 {
		r.add(e.at, fmt.Sprintf("%q has no address", e.at.text), "")
	}
	return out, len(out) > 0
}

// owner is the host of an endpoint, or "". Of several that have the address it is the one that is joined with
// the host called near; false if that is not said.
func (r *resolver) owner(e rawEnd, near string) (string, bool) {
	if e.host != "" {
		return e.host, true
	}
	t := &r.scenario.Topology
	if h := t.Host(near); h != nil {
		owner, _ := t.Owner(h, e.addr)
		if owner == nil {
			return "", true
		}
		return owner.Name, true
	}
	owners := t.Owners(e.addr)
	switch len(owners) {
	case 0:
		return "", true
	case 1:
		return owners[0].Name, true
	}
	r.add(e.at, fmt.Sprintf("%s and %s have the address %s", owners[0].Name, owners[1].Name, e.addr), "name the host")
	return "", false
}

// choose picks the addresses of two endpoints: of one family, IPv4 first, and of one network
// where both have an address in it; else the first of each.
func choose(a, b []netip.Prefix, family string) (x, y netip.Addr, ok bool) {
	for _, v6 := range []bool{false, true} {
		if family == "ipv4" && v6 || family == "ipv6" && !v6 {
			continue
		}
		if x, y, ok = chooseOf(ofFamily(a, v6), ofFamily(b, v6)); ok {
			return x, y, true
		}
	}
	return x, y, false
}

func chooseOf(a, b []netip.Prefix) (x, y netip.Addr, ok bool) {
	for _, p := range a {
		for _, q := range b {
			if p.Contains(q.Addr()) || q.Contains(p.Addr()) {
				return p.Addr(), q.Addr(), true
			}
		}
	}
	if len(a) == 0 || len(b) == 0 {
		return x, y, false
	}
	return a[0].Addr(), b[0].Addr(), true
}

func ofFamily(list []netip.Prefix, v6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if p.Addr().Is6() == v6 {
			out = append(out, p)
		}
	}
	return out
}
