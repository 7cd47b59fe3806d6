package spec

import (
	"slices"

	"github.com/weirnet/weir/sim/require"
)

var requiresObject = object[[]string]{
	what: "the requirements",
	fields: []field[[]string]{
		put("features", "Features of the kernel.",
			listOf("features", choice(require.Names()...), 1, len(require.Names())),
			func(r *[]string, v []string) { *r = append(*r, v...) }),
		put("modules", "Modules, loaded or built in.",
			listOf("modules", choice(require.Modules()...), 1, len(require.Modules())),
			func(r *[]string, v []string) {
				for _, m := range v {
					*r = append(*r, require.OfModule(m))
				}
			}),
	},
}

// required is what the scenario says that it requires, and what it needs for its topology and its
// hook.
func (s *Scenario) required() []string {
	all := slices.Clone(s.Requires)
	known := require.Names()
	need := func(feature string) {
		if slices.Contains(known, feature) {
			all = append(all, feature)
		}
	}
	for _, h := range s.Topology.Hosts {
		for _, i := range h.Interfaces {
			need(string(i.Kind))
		}
	}
	for _, l := range s.Topology.Links {
		if l.Wire {
			need("tun")
		}
	}
	if s.Agent.Limited {
		need("memcg")
	}
	for i := range s.Steps {
		if k := s.Steps[i].Socket; k != nil && k.ClientGroup+k.ServerGroup != "" {
			need("cgroup2")
		}
	}
	need(s.Agent.Hook)
	need(s.Oracle)
	slices.Sort(all)
	return slices.Compact(all)
}
