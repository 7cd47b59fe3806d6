package differ

import (
	"fmt"
	"slices"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/model"
)

// events reads the ring buffer: what was replaced, and what found no room.
func (k *kernel) events() ([]model.Flow, error) {
	var ended []model.Flow
	at := map[homeless]int{} // places in ended
	read := 0
	err := k.dp.Events(func(e *bpf.Event) error {
		read++
		if k.c.RingFull {
			return nil
		}
		k.shift(&e.Entry)
		switch e.Kind {
		case bpf.EventReplaced:
			ended = append(ended, k.flows(&e.Entry, flow.EndReason(e.End))...)
		case bpf.EventPacket:
			f := k.flows(&e.Entry, flow.EndReason(e.End))
			if len(f) != 1 {
				return fmt.Errorf("a packet's event has %d legs", len(f))
			}
			ended = addHomeless(ended, at, e, f[0])
		default:
			return fmt.Errorf("event of kind %d", e.Kind)
		}
		return nil
	})
	// Of the packets that filled the ring buffer the first replaced nothing, and the last found
	// it full.
	if err == nil && k.c.RingFull && read != k.filled-2 {
		err = fmt.Errorf("a full ring buffer of %d events holds %d", k.filled, read)
	}
	return ended, err
}

// homeless is a leg that found no room in the table.
type homeless struct {
	tuple bpf.Tuple
	leg   int
}

// addHomeless adds up the packets of a leg that found no room, as user space does.
func addHomeless(ended []model.Flow, at map[homeless]int, e *bpf.Event, f model.Flow) []model.Flow {
	id := homeless{tuple: e.Entry.Tuple}
	if e.Entry.Legs[0].Packets == 0 {
		id.leg = 1
	}
	i, known := at[id]
	if !known {
		f.Role, f.State = flow.RoleUnknown, conntrack.StateNone
		at[id] = len(ended)
		return append(ended, f)
	}
	sum := &ended[i]
	sum.Packets += f.Packets
	sum.Bytes += f.Bytes
	sum.Flags |= f.Flags
	sum.End = f.End
	if !slices.Contains(sum.Seen, f.Seen[0]) && len(sum.Seen) < 4 {
		sum.Seen = append(sum.Seen, f.Seen[0])
	}
	return ended
}

// flows are what is reported of a connection that is over, its initiator's direction first.
func (k *kernel) flows(e *bpf.Entry, reason flow.EndReason) []model.Flow {
	hooks := func(n uint16) flow.Hook { return Hook(int(n)) }
	var both []model.Flow
	src := conntrack.Source(e)
	for _, i := range []int{src, 1 - src} {
		l := &e.Legs[i]
		if l.Packets == 0 {
			continue
		}
		both = append(both, model.Flow{Zone: e.Zone, Src: e.Addr[i], Dst: e.Addr[1-i],
			SrcPort: e.Port[i], DstPort: e.Port[1-i], Protocol: e.Protocol, Cites: e.Cites,
			ICMPType: e.ICMPType, ICMPCode: e.ICMPCode, ICMPID: e.ICMPID,
			Packets: l.Packets, Bytes: l.Bytes, Flags: flow.TCPFlags(l.Flags),
			Start: l.First, End: l.Last, Role: role(e.Initiator, i),
			State: conntrack.State(e.State), Reason: reason,
			ICMPError: conntrack.ErrorText(e), Seen: conntrack.Seen(l, hooks)})
	}
	return both
}

// role is the part that the sender of a leg plays.
func role(initiator uint8, leg int) flow.Role {
	switch {
	case initiator == bpf.UnknownInitiator:
		return flow.RoleUnknown
	case int(initiator) == leg:
		return flow.RoleInitiator
	}
	return flow.RoleResponder
}
