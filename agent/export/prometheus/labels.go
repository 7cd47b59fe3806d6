package prometheus

import (
	"cmp"
	"strconv"

	"github.com/weirnet/weir/agent/flow"
)

// values give a record's value of each label that there is. There are none for addresses and ports:
// they are too many.
var values = map[string]func(*flow.Record) string{
	"protocol":    func(r *flow.Record) string { return protocol(r.Protocol) },
	"role":        func(r *flow.Record) string { return string(r.Role) },
	"end":         func(r *flow.Record) string { return r.Reason.String() },
	"namespace":   func(r *flow.Record) string { return owner(r).Namespace },
	"interface":   func(r *flow.Record) string { return owner(r).Interface },
	"direction":   func(r *flow.Record) string { return string(owner(r).Direction) },
	"class":       func(r *flow.Record) string { return r.Class },
	"service":     func(r *flow.Record) string { return r.Service },
	"environment": func(r *flow.Record) string { return r.Environment },

	"src_kind":      func(r *flow.Record) string { return string(known(r.SrcLabels).Kind) },
	"dst_kind":      func(r *flow.Record) string { return string(known(r.DstLabels).Kind) },
	"src_cluster":   func(r *flow.Record) string { return known(r.SrcLabels).Cluster },
	"dst_cluster":   func(r *flow.Record) string { return known(r.DstLabels).Cluster },
	"src_namespace": func(r *flow.Record) string { return known(r.SrcLabels).Namespace },
	"dst_namespace": func(r *flow.Record) string { return known(r.DstLabels).Namespace },
	"src_workload":  func(r *flow.Record) string { return known(r.SrcLabels).Workload },
	"dst_workload":  func(r *flow.Record) string { return known(r.DstLabels).Workload },
	"src_node":      func(r *flow.Record) string { return known(r.SrcLabels).Node },
	"dst_node":      func(r *flow.Record) string { return known(r.DstLabels).Node },
	"src_zone":      func(r *flow.Record) string { return known(r.SrcLabels).Zone },
	"dst_zone":      func(r *flow.Record) string { return known(r.DstLabels).Zone },
}

var defaultLabels = []string{"protocol", "interface", "direction", "class"}

// protocols are the names of IANA's registry "Protocol Numbers", of those that are met.
var protocols = [256]string{1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 50: "esp",
	51: "ah", 58: "icmpv6", 89: "ospf", 112: "vrrp", 132: "sctp"}

func init() {
	for n := range protocols {
		protocols[n] = cmp.Or(protocols[n], strconv.Itoa(n))
	}
}

func protocol(n uint8) string { return protocols[n] }

func owner(r *flow.Record) flow.Hook {
	if len(r.Seen) == 0 {
		return flow.Hook{}
	}
	return r.Seen[0]
}

var unlabelled flow.Labels

func known(l *flow.Labels) *flow.Labels {
	if l == nil {
		return &unlabelled
	}
	return l
}
