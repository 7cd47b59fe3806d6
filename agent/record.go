package agent

import (
	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// recorder makes flow records of connections and hands them to the sink.
type recorder struct {
	sink  Sink
	hooks func(uint16) flow.Hook
	boot  string
	// sampling is the factor that records tell: 1 in so many connections is counted.
	sampling uint32
	next     uint64
	total    bpf.Count // of all records

	ends *ends // the books on connections that end

	record flow.Record // the one at hand
	// seen holds the names of the hooks that saw a leg, by the hooks' numbers, owner first. Most
	// legs share a few such lists. It is good for one sweep: a number can get another name.
	seen map[[4]uint16][]flow.Hook
}

// Sink takes flow records. Flush returns when they are safe. What Write is given is valid during the
// call; lists in it may be kept, and not changed.
type Sink interface {
	Write(*flow.Record) error
	Flush() error
}

// begin begins a sweep.
func (r *recorder) begin() {
	r.seen = map[[4]uint16][]flow.Hook{}
	r.ends.begin()
}

// connection reports what both legs of a connection have counted beyond the mark.
func (r *recorder) connection(e *bpf.Entry, mark [2]bpf.Count, why flow.EndReason) error {
	if why != flow.EndActive {
		r.ends.add(e, why)
	}
	for leg := range 2 {
		delta := bpf.Count{
			Packets: e.Legs[leg].Packets - mark[leg].Packets,
			Bytes:   e.Legs[leg].Bytes - mark[leg].Bytes,
		}
		// A leg that was reported in full still ends, with a record of nothing.
		ends := why != flow.EndActive && mark[leg].Packets > 0
		if delta.Packets == 0 && !ends {
			continue
		}
		if err := r.leg(e, leg, delta, mark[leg], why); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) leg(e *bpf.Entry, leg int, delta, before bpf.Count, why flow.EndReason) error {
	r.next++
	r.total.Add(delta)
	r.record = r.describe(e, leg)
	r.record.Sequence, r.record.Reason = r.next, why
	r.record.Packets, r.record.Bytes = delta.Packets, delta.Bytes
	r.record.PacketsBefore, r.record.BytesBefore = before.Packets, before.Bytes
	return r.sink.Write(&r.record)
}

// describe is what a record tells of a leg, but for its counts.
func (r *recorder) describe(e *bpf.Entry, leg int) flow.Record {
	l := &e.Legs[leg]
	return flow.Record{
		Boot: r.boot, Flow: e.Flow, Zone: e.Zone,
		Src: e.Addr[leg], Dst: e.Addr[1-leg], SrcPort: e.Port[leg], DstPort: e.Port[1-leg],
		Protocol: e.Protocol, Cites: e.Cites,
		ICMPType: e.ICMPType, ICMPCode: e.ICMPCode, ICMPID: e.ICMPID,
		Flags: flow.TCPFlags(l.Flags), Start: l.First, End: l.Last, Role: role(e, leg),
		State: conntrack.State(e.State).String(), ICMPError: conntrack.ErrorText(e),
		Seen: r.seenBy(l), Sampling: factor(r.sampling),
	}
}

func (r *recorder) seenBy(l *bpf.Leg) []flow.Hook {
	numbers := [4]uint16{l.Owner, l.Hooks[0], l.Hooks[1], l.Hooks[2]}
	names, ok := r.seen[numbers]
	if !ok {
		names = conntrack.Seen(l, r.hooks)
		if r.seen == nil {
			r.begin()
		}
		r.seen[numbers] = names
	}
	return names
}

// factor is how records tell a sample: not at all when every connection is counted.
func factor(sample uint32) uint32 {
	if sample == 1 {
		return 0
	}
	return sample
}

func role(e *bpf.Entry, leg int) flow.Role {
	switch int(e.Initiator) {
	case leg:
		return flow.RoleInitiator
	case 1 - leg:
		return flow.RoleResponder
	}
	return flow.RoleUnknown
}
