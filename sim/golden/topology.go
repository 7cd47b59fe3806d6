package golden

import (
	"net/netip"

	"github.com/weirnet/weir/sim/spec"
)

// TopologyNames names the addresses of a scenario's hosts.
func TopologyNames(t spec.Topology) *Names {
	hosts := map[string][]netip.Addr{}
	for _, h := range t.Hosts {
		hosts[h.Name] = nil
		for _, i := range h.Interfaces {
			for _, p := range i.Addresses {
				hosts[h.Name] = append(hosts[h.Name], p.Addr())
			}
		}
	}
	return NewNames(hosts)
}
