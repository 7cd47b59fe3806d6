// Package require knows what scenarios can need of a kernel: it names it, finds out whether the
// kernel at hand has it, and says from which line on the kernels of the matrix do.
package require

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Feature is something that a kernel has or lacks.
type Feature struct {
	Name string
	// Module is the kernel module that brings it; "" if it is never one.
	Module string
	// Since is the first kernel line ("6.12") whose Debian package has it. Its lack on that line or a
	// later one is a defect of the harness: a module that was not loaded, say.
	Since string
}

// features is what the kernels of Debian's cloud flavour have. tcx came with 6.6 and netkit with
// 6.7, which Debian has as 6.12.
var features = []Feature{
	{"bond", "bonding", "5.10"},
	{"bridge", "bridge", "5.10"},
	{"cgroup2", "", "5.10"},
	{"dummy", "dummy", "5.10"},
	{"geneve", "geneve", "5.10"},
	{"gre", "ip_gre", "5.10"},
	{"ipip", "ipip", "5.10"},
	{"ipv6", "ipv6", "5.10"},
	{"ipvlan", "ipvlan", "5.10"},
	{"macvlan", "macvlan", "5.10"},
	{"memcg", "", "5.10"},
	{"netkit", "", "6.12"},
	{"nf_conntrack", "nf_conntrack_netlink", "5.10"},
	{"tc", "sch_ingress", "5.10"},
	{"tcx", "", "6.6"},
	{"tun", "tun", "5.10"},
	{"veth", "veth", "5.10"},
	{"vlan", "8021q", "5.10"},
	{"vxlan", "vxlan", "5.10"},
	{"wireguard", "wireguard", "5.10"},
}

// Names lists the features, sorted.
func Names() []string {
	names := make([]string, len(features))
	for i, f := range features {
		names[i] = f.Name
	}
	return names
}

// Modules lists the modules that features come with.
func Modules() []string {
	var names []string
	for _, f := range features {
		if f.Module != "" {
			names = append(names, f.Module)
		}
	}
	return names
}

// OfModule is the feature that comes with a module, or "".
func OfModule(module string) string {
	for _, f := range features {
		if f.Module == module && module != "" {
			return f.Name
		}
	}
	return ""
}

// Expected tells whether a kernel of the line must have the feature. The line is that of the kernel
// itself, "6.12" or longer ("6.12.117-cloud"); of any other text nothing is expected.
func Expected(feature, line string) bool {
	i := slices.IndexFunc(features, func(f Feature) bool { return f.Name == feature })
	have, ok := numbers(line)
	if i < 0 || !ok {
		return false
	}
	want, _ := numbers(features[i].Since)
	return cmp.Or(cmp.Compare(have[0], want[0]), cmp.Compare(have[1], want[1])) >= 0
}

// numbers reads the first two numbers of a kernel's version.
func numbers(version string) (out [2]int, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return out, false
	}
	for i := range out {
		digits := parts[i]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return out, false
		}
		out[i] = n
	}
	return out, true
}
