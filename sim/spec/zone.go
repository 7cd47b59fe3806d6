package spec

import (
	"fmt"
	"regexp"
	"slices"
)

// rawZone is an interface and its zone, as the file has them.
type rawZone struct {
	on   placed[Port]
	zone uint16
}

var zoneNumber = number[uint16](1, 1<<16-1)

var zonesObject = object[[]rawZone]{
	what: "the zones",
	rest: &rest[[]rawZone]{
		pattern: regexp.MustCompile(`^` + portName + `$`),
		doc:     "a key is a watched interface like server/eth0, its value the zone, from 1 to 65535",
		schema:  zoneNumber.schema, most: maxPorts,
		read: func(l *list, key, n *node, z *[]rawZone) {
			number, ok := zoneNumber.read(l, n)
			on, named := portValue.read(l, key)
			if ok && named {
				*z = append(*z, rawZone{placed[Port]{on, key}, number})
			}
		},
	},
}

// zones checks the zones of the agent's interfaces, and that nothing is asked that knows none.
func (r *resolver) zones() {
	a := &r.scenario.Agent
	for _, z := range r.raw.agent.zones {
		if !r.port(z.on) {
			continue
		}
		if !slices.Contains(a.On, z.on.v) {
			r.add(z.on.at, fmt.Sprintf("the agent does not watch %q", z.on.v), "a zone is of an interface of on")
			continue
		}
		a.Zones = append(a.Zones, Zone{z.on.v, z.zone})
	}
	if len(a.Zones) == 0 {
		return
	}
	at := r.raw.agent.zones[0].on.at
	switch {
	case r.raw.agent.program.at != nil:
		r.add(at, "another program knows no zones", "leave them out")
	case a.Layout != 0:
		r.add(at, "what a killed agent has left was told of no zones", "leave them out, or layout")
	case r.raw.cluster.v != nil:
		r.add(at, "the cluster's addresses are those of zone 0", "leave the zones out, or the cluster")
	case r.raw.oracle.at != nil:
		r.add(at, "the kernel's connection tracking knows none of these zones", "leave them out, or oracle")
	}
}
