package model

import (
	"maps"

	"github.com/weirnet/weir/agent/flow"
)

// Reason says why a packet was left out or lost.
type Reason string

// The reasons of bpf/README.md section 2.
const (
	ReasonEthernet      Reason = "ethernet-header"
	ReasonVLANDepth     Reason = "vlan-depth"
	ReasonNotIP         Reason = "not-ip"
	ReasonIPv4Header    Reason = "ipv4-header"
	ReasonIPv4Length    Reason = "ipv4-length"
	ReasonIPv6Header    Reason = "ipv6-header"
	ReasonIPv6Length    Reason = "ipv6-length"
	ReasonIPv6Extension Reason = "ipv6-extension"
	ReasonFragment      Reason = "fragment"
	ReasonTCPHeader     Reason = "tcp-header"
	ReasonUDPHeader     Reason = "udp-header"
	ReasonSCTPHeader    Reason = "sctp-header"
	ReasonICMPHeader    Reason = "icmp-header"
	ReasonICMPCited     Reason = "icmp-cited"
	ReasonMidStream     Reason = "mid-stream"
	ReasonTableFull     Reason = "table-full"
	ReasonRingFull      Reason = "ring-full"
	ReasonNoHook        Reason = "no-hook"
)

// The reasons for which a packet is left out, in the order in which they are judged.
const (
	ReasonFilter   Reason = "filter"
	ReasonSampling Reason = "sampling"
)

// LeftOutReasons lists the reasons for which a packet is left out.
func LeftOutReasons() []Reason { return []Reason{ReasonFilter, ReasonSampling} }

// Reasons lists the reasons for which a packet is lost, in the order of the text.
func Reasons() []Reason {
	return []Reason{ReasonEthernet, ReasonVLANDepth, ReasonNotIP, ReasonIPv4Header,
		ReasonIPv4Length, ReasonIPv6Header, ReasonIPv6Length, ReasonIPv6Extension,
		ReasonFragment, ReasonTCPHeader, ReasonUDPHeader, ReasonSCTPHeader, ReasonICMPHeader,
		ReasonICMPCited, ReasonMidStream, ReasonTableFull, ReasonRingFull, ReasonNoHook}
}

// Count is an amount of traffic.
type Count struct {
	Packets uint64
	Bytes   uint64
}

// Plus returns the sum of c and d.
func (c Count) Plus(d Count) Count { return Count{c.Packets + d.Packets, c.Bytes + d.Bytes} }

func (c *Count) add(d Count) { *c = c.Plus(d) }

// Counters are the counters of one hook.
type Counters struct {
	Seen      Count
	Accounted Count
	Observed  Count
	LeftOut   map[Reason]Count // no zero entries
	Lost      map[Reason]Count // likewise
}

// Outcomes is the sum of all outcomes, which is equal to Seen.
func (c Counters) Outcomes() Count {
	sum := c.Accounted.Plus(c.Observed)
	for _, by := range []map[Reason]Count{c.LeftOut, c.Lost} {
		for _, n := range by {
			sum.add(n)
		}
	}
	return sum
}

// book adds to the count of a reason, which has none while nothing was counted.
func book(by map[Reason]Count, reason Reason, n Count) {
	if n == (Count{}) {
		return
	}
	by[reason] = by[reason].Plus(n)
}

// at returns the counters of a hook, made when it sees its first packet.
func (m *Model) at(hook flow.Hook) *Counters {
	c := m.counters[hook]
	if c == nil {
		c = &Counters{LeftOut: map[Reason]Count{}, Lost: map[Reason]Count{}}
		m.counters[hook] = c
	}
	return c
}

// Counters returns a copy of the counters of all hooks that have seen a packet.
func (m *Model) Counters() map[flow.Hook]Counters {
	all := make(map[flow.Hook]Counters, len(m.counters))
	for hook, c := range m.counters {
		one := *c
		one.LeftOut, one.Lost = maps.Clone(c.LeftOut), maps.Clone(c.Lost)
		all[hook] = one
	}
	return all
}
