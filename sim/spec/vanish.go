package spec

import (
	"fmt"
	"slices"
)

var hostStepObject = object[rawStep]{
	what: "a host step", doc: "Deletes a host with its network namespace and its links, or adds it again.",
	fields: []field[rawStep]{
		put("host", "The host and what happens to it: {server: delete}.", hostChangeValue,
			func(s *rawStep, v change[string]) {
				s.host, s.step.Host = v.of, &HostChange{v.of.v, v.action}
			}).must(),
	},
}

var hostAction = choice("delete", "add")

var hostChangeValue = changeOf("host", "{server: delete}", hostName, hostValue, hostAction)

// hostStep follows which hosts there are. With a host all of its links are gone, and come back.
func (r *resolver) hostStep(raw *rawStep) {
	h := r.host(raw.host.at, raw.host.v)
	if h == nil {
		return
	}
	remove := raw.step.Host.Action == "delete"
	switch {
	case remove && r.absent[h.Name]:
		r.add(raw.host.at, fmt.Sprintf("cannot delete %q: it was deleted", h.Name), "add it again before")
	case !remove && !r.absent[h.Name]:
		r.add(raw.host.at, fmt.Sprintf("cannot add %q: it is there", h.Name), "delete it in a step before")
	}
	if r.absent == nil {
		r.absent = map[string]bool{}
	}
	if r.deleted == nil {
		r.deleted = map[Port]bool{}
	}
	r.absent[h.Name] = remove
	r.vanished = append(r.vanished, raw.host)
	for _, i := range h.Interfaces {
		p := Port{h.Name, i.Name}
		r.deleted[p] = remove
		if peer, ok := r.scenario.Topology.Peer(p); ok {
			r.deleted[peer] = remove
			if !remove && r.absent[peer.Host] {
				r.add(raw.host.at, fmt.Sprintf("cannot add %q: host %q, at the other end of %s, was deleted", h.Name, peer.Host, p),
					"add that one before")
			}
		}
	}
}

// plainHost complains about a host that cannot vanish or come back as it was.
func (r *resolver) plainHost(p placed[string]) {
	t := &r.scenario.Topology
	h := t.Host(p.v)
	const hint = "only a host with nothing but plain links is deleted"
	switch {
	case len(h.NAT) > 0:
		r.addOnce(p.at, fmt.Sprintf("%q translates addresses", h.Name), hint)
		return
	case slices.ContainsFunc(t.Bridges, func(b Bridge) bool { return b.Host == h.Name }):
		r.addOnce(p.at, fmt.Sprintf("%q has a bridge", h.Name), hint)
		return
	}
	for _, i := range h.Interfaces {
		port := Port{h.Name, i.Name}
		at := slices.IndexFunc(t.Links, func(l Link) bool { return l.A == port || l.B == port })
		if at < 0 {
			r.addOnce(p.at, fmt.Sprintf("%q is of kind %s", port, i.Kind), hint)
		} else if why := r.notPlain(t.Links[at]); why != "" {
			r.addOnce(p.at, fmt.Sprintf("%q has the link of %s: %s", h.Name, port, why), hint)
		}
	}
}

// watchedAreThere complains about an agent that would watch what is not there.
func (r *resolver) watchedAreThere(at *node) {
	for _, p := range r.scenario.Agent.On {
		if r.absent[p.Host] {
			r.add(at, fmt.Sprintf("cannot start the agent: it watches %s, and host %q was deleted", p, p.Host), "add the host again before")
			return
		}
	}
}

// present complains about steps in which a host that was deleted would send.
func (r *resolver) present(raw *rawStep, from, to Endpoint) bool {
	for _, e := range []struct {
		host  string
		at    *node
		sends bool
	}{{from.Host, raw.pair.from.at, true}, {to.Host, raw.pair.to.at, answers(&raw.step)}} {
		if e.sends && r.absent[e.host] {
			r.add(e.at, fmt.Sprintf("host %q was deleted, so it cannot send", e.host), "add it again before")
			return false
		}
	}
	return true
}

// answers tells whether the second host of a step sends something.
func answers(s *Step) bool {
	switch {
	case s.TCP != nil:
		return slices.ContainsFunc(s.TCP.Script, func(l Segment) bool { return l.FromServer })
	case s.UDP != nil:
		return slices.ContainsFunc(s.UDP.Script, func(l Datagram) bool { return l.FromServer })
	case s.Ping != nil:
		return s.Ping.Reply
	}
	return s.Packet == nil
}
