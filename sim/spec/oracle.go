package spec

import "fmt"

// OracleConntrack is the kernel's own connection tracking as the oracle; it is a feature of sim/require.
const OracleConntrack = "nf_conntrack"

// oracle switches tracking on where the oracle is to judge, and refuses what it cannot follow.
func (r *resolver) oracle() {
	at := r.raw.oracle.at
	if at == nil {
		if bad := r.scenario.Expect.uncountedAt; bad != nil {
			r.add(bad, "nothing counts beside weir", "add oracle: nf_conntrack")
		}
		return
	}
	s := r.scenario
	if s.Agent.Program != nil || s.Agent.Layout != 0 || s.Agent.Sample != 1 || s.Agent.Filters.Rules != nil ||
		s.Agent.Filters.Default != "" {
		r.add(at, "the kernel tracks all connections, and with weir alone it is compared",
			"leave program, layout, sample and filters out")
	}
	if len(s.Agent.On) > 0 {
		r.track(at, s.Agent.On)
	}
	for _, raw := range r.raw.steps {
		step := &raw.step
		switch {
		case step.Advance > 0:
			r.add(raw.at, "the kernel's connection tracking has a clock of its own", "leave advance out, or oracle")
		case step.Agent == "stop":
			r.add(raw.at, "what a stopped agent held the kernel goes on tracking", "kill it instead, or leave oracle out")
		case step.Packet != nil && step.Packet.Fragments != nil:
			r.add(raw.at, "the kernel tracks what fragments are put together to", "leave fragments out, or oracle")
		}
	}
}

// track marks the router that the agent watches: scripted packets pass the kernel's tracking where they
// are forwarded, and nowhere else both ways.
func (r *resolver) track(at *node, on []Port) {
	host := r.scenario.Topology.Host(on[0].Host)
	for _, p := range on {
		if h := r.scenario.Topology.Host(p.Host); h != nil && (h != host || !h.Forward) {
			r.add(at, fmt.Sprintf("the agent watches %q", p), "an oracle wants it to watch one router, on any of its interfaces")
			return
		}
	}
	if host != nil {
		host.Tracked = true
	}
}
