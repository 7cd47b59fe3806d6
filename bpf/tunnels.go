package bpf

import (
	"fmt"
	"slices"
	"strings"
)

// Tunnels is a set of kinds of tunnels (enum tunnel in maps.h; README section 3).
type Tunnels uint8

// AllTunnels is the set of all kinds.
const AllTunnels Tunnels = 0xf

// tunnels are the names of the bits of Tunnels, lowest first.
var tunnels = []string{"vxlan", "geneve", "gre", "ipip"}

// ParseTunnels makes a set of names. It refuses unknown ones.
func ParseTunnels(names []string) (Tunnels, error) {
	var set Tunnels
	for _, name := range names {
		i := slices.Index(tunnels, name)
		if i < 0 {
			return 0, fmt.Errorf("%q: no such kind; there are %s", name, strings.Join(tunnels, ", "))
		}
		set |= 1 << i
	}
	return set, nil
}
