package agent

import (
	"net/netip"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// signature is what records of all kinds tell of their agent.
type signature struct {
	boot    string
	agentIP netip.Addr // it may be none
}

// recorder makes flow records of connections and hands them to the sink.
type recorder struct {
	signature
	sink  Sink
	hooks flow.InterfaceNamer
	// sampling is the factor that records tell: 1 in so many connections is counted.
	sampling uint32
	next     uint64
	total    bpf.Count // of all records

	ends *ends // the books on connections that end

	record flow.Record // the one at hand
	// decorate is good for one sweep: a hook's number can get another name.
	decorate func(*flow.Record, [4]uint16)
}

// Sink takes flow records. Flush returns when they are safe. What Write is given is valid during the
// call; lists in it may be kept, and not changed.
type Sink interface {
	Write(*flow.Record) error
	Flush() error
}

// begin begins a sweep.
func (r *recorder) begin() {
	r.decorate = flow.Decorate(r.agentIP, r.hooks)
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
	r.describe(&r.record, e, leg)
	r.record.Packets, r.record.Bytes, r.record.Reason = delta.Packets, delta.Bytes, why
	r.record.PacketsBefore, r.record.BytesBefore = before.Packets, before.Bytes
	return r.write(&r.record)
}

// write numbers a record, and hands it to the sink.
func (r *recorder) write(record *flow.Record) error {
	r.next++
	record.Sequence = r.next
	r.total.Add(bpf.Count{Packets: record.Packets, Bytes: record.Bytes})
	return r.sink.Write(record)
}

// describe makes a record that of a leg, but for its counts.
func (r *recorder) describe(to *flow.Record, e *bpf.Entry, leg int) {
	l := &e.Legs[leg]
	*to = flow.Record{
		Boot: r.boot, Flow: e.Flow, Zone: e.Zone,
		Src: e.Addr[leg], Dst: e.Addr[1-leg], SrcPort: e.Port[leg], DstPort: e.Port[1-leg],
		Protocol: e.Protocol, Cites: e.Cites,
		ICMPType: e.ICMPType, ICMPCode: e.ICMPCode, ICMPID: e.ICMPID,
		Flags: flow.TCPFlags(l.Flags), Start: l.First, End: l.Last, Role: role(e, leg),
		State: conntrack.State(e.State).String(), ICMPError: conntrack.ErrorText(e),
		Sampling: factor(r.sampling),
	}
	r.decorate(to, conntrack.HooksOf(l))
}

// packet is the record of a packet that found no room. Nothing is known of its connection, so it has no
// state and no initiator.
func (r *recorder) packet(e *bpf.Entry) *flow.Record {
	leg := 0
	if e.Legs[1].Packets > 0 {
		leg = 1
	}
	lone := *e
	lone.State, lone.Initiator = uint8(conntrack.StateNone), bpf.UnknownInitiator
	r.describe(&r.record, &lone, leg)
	r.record.Packets, r.record.Bytes, r.record.Reason = lone.Legs[leg].Packets, lone.Legs[leg].Bytes, flow.EndResource
	return &r.record
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
