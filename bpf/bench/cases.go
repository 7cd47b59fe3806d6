package bench

import (
	"fmt"
	"math"

	"github.com/weirnet/weir/bpf"
)

// freshFlows is how many connections one round opens, at most.
const freshFlows = 16384

// packetCases are all kinds of packets, in the order of the table.
func (b *bench) packetCases() []packetCase {
	all := []packetCase{
		{name: "tcp4/hot", what: "TCP over IPv4, one established flow", packet: tcp4(ack), flows: 1},
		{name: "tcp6/hot", what: "TCP over IPv6, one established flow", packet: tcp6(ack), flows: 1},
		{name: "udp4/hot", what: "UDP over IPv4, one flow", packet: udp4(), flows: 1},
	}
	for _, n := range b.opts.Flows {
		all = append(all, packetCase{name: fmt.Sprintf("tcp4/%d", n), packet: tcp4(ack), flows: n,
			what: fmt.Sprintf("TCP over IPv4, %d established flows in turn", n)})
	}
	for _, n := range b.opts.Flows {
		all = append(all, packetCase{name: fmt.Sprintf("tcp6/%d", n), packet: tcp6(ack), flows: n,
			what: fmt.Sprintf("TCP over IPv6, %d established flows in turn", n)})
	}
	return append(all, b.otherCases()...)
}

func (b *bench) otherCases() []packetCase {
	fresh, full := min(freshFlows, b.opts.Table), 2*b.opts.Table
	return []packetCase{
		{name: "tcp4/new", what: "TCP over IPv4, each packet opens a flow (SYN)", packet: tcp4(syn),
			flows: fresh, fresh: true},
		{name: "tcp4/insert", what: "the same, and each packet does no more than to insert an empty entry",
			packet: tcp4(syn), flows: fresh, fresh: true,
			load: func() (*subject, error) { return loadInsertion(b.opts.Table) }},
		{name: "tcp6/new", what: "TCP over IPv6, each packet opens a flow (SYN)", packet: tcp6(syn),
			flows: fresh, fresh: true},
		{name: "tcp4/2cpu-one", what: "2 CPUs on one flow, each", packet: tcp4(ack), flows: 1, cpus: 2},
		{name: "tcp4/2cpu-two", what: "2 CPUs on a flow each, each", packet: tcp4(ack), flows: 1,
			cpus: 2, distinct: true},
		{name: "tcp4/table", what: "TCP over IPv4, one established flow, without slots", packet: tcp4(ack), flows: 1,
			alter: noSlots},
		{name: "tcp4/2cpu-table", what: "2 CPUs on one flow, each, without slots", packet: tcp4(ack), flows: 1,
			cpus: 2, alter: noSlots},
		{name: "tcp4/full", what: "twice the table's flows in turn, half of them find no room: rejected",
			packet: tcp4(ack), flows: full},
		{name: "tcp4/room", what: "the same flows in a table that has room for all of them",
			packet: tcp4(ack), flows: full, room: full, alter: func(o *bpf.Options) { o.Table = full }},
		{name: "tcp4/full-overflow", what: "the same, each packet without room is an event",
			packet: tcp4(ack), flows: full, alter: overflow},
		{name: "tcp4/full-syn", what: "SYNs of twice the table's flows in turn: rejected", packet: tcp4(syn),
			flows: full},
		{name: "sampled-out", what: "a packet of a connection that is not in the sample",
			packet: tcp4(ack), flows: 1, none: true, alter: sample(math.MaxUint32)},
		{name: "feature/sampling", what: "TCP over IPv4, one established flow, which is in the sample",
			packet: tcp4(ack).from(sampledPort), flows: 1, alter: sample(2)},
		{name: "feature/filter", what: "the same without sampling, with ten rules that do not match",
			packet: tcp4(ack), flows: 1, alter: tenRules},
		{name: "feature/tunnels", what: "the same without rules, with all kinds of tunnels opened",
			packet: tcp4(ack), flows: 1, alter: func(o *bpf.Options) { o.Tunnels = bpf.AllTunnels }},
	}
}

func noSlots(o *bpf.Options) { o.Slots = -1 }

func overflow(o *bpf.Options) { o.Overflow, o.Ring = true, overflowRing }

// sampledPort is a source port with which the flow of tcp4 is in a sample of 1 in 2.
const sampledPort = 1008

func sample(n uint32) func(*bpf.Options) {
	return func(o *bpf.Options) { o.Sample = n }
}

func tenRules(o *bpf.Options) {
	for port := range uint16(10) {
		o.Filter.Rules = append(o.Filter.Rules, bpf.Rule{Reject: true, Protocol: 6 + 1,
			DstPort: bpf.PortRange{From: 60000 + port, To: 60000 + port}})
	}
}
