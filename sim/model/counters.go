package model

import (
	"maps"

	"github.com/weirnet/weir/agent/flow"
)

// Reason says why a packet was lost.
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

// Reasons lists all reasons in the order of the text.
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
	Lost      map[Reason]Count // no zero entries
}

// Outcomes is the sum of all outcomes, which is equal to Seen.
func (c Counters) Outcomes() Count {
	sum := c.Accounted.Plus(c.Observed)
	for _, lost := range c.Lost {
		sum.add(lost)
	}
	return sum
}

func (c *Counters) lose(reason Reason, n Count) {
	if n == (Count{}) {
		return
	}
	c.Lost[reason] = c.Lost[reason].Plus(n)
}

// at returns the counters of a hook, made when it sees its first packet.
func (m *Model) at(hook flow.Hook) *Counters {
	c := m.counters[hook]
	if c == nil {
		c = &Counters{Lost: map[Reason]Count{}}
		m.counters[hook] = c
	}
	return c
}

// Counters returns a copy of the counters of all hooks that have seen a packet.
func (m *Model) Counters() map[flow.Hook]Counters {
	all := make(map[flow.Hook]Counters, len(m.counters))
	for hook, c := range m.counters {
		one := *c
		one.Lost = maps.Clone(c.Lost)
		all[hook] = one
	}
	return all
}
