package spec

import (
	"fmt"
)

var linkObject = object[rawStep]{
	what: "a link step", doc: "Takes a link down or up, deletes it, or adds it again.",
	fields: []field[rawStep]{
		put("link", "The interface and what happens to it: {server/eth0: down}.", linkChangeValue,
			func(s *rawStep, v change[Port]) {
				s.port, s.step.Link = v.of, &LinkChange{v.of.v, v.action}
			}).must(),
	},
}

var linkAction = choice("down", "up", "delete", "add")

var linkChangeValue = changeOf("interface", "{server/eth0: down}", portName, portValue, linkAction)

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
