package conntrack

import (
	"fmt"
	"time"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// View says how entries are read.
type View struct {
	Hooks     flow.InterfaceNamer
	Lifetimes [bpf.States]time.Duration
	Now       int64 // ns of the datapath's clock
}

// Source is the leg that Src sends on: the initiator's, else the lower endpoint's.
func Source(e *bpf.Entry) int {
	if e.Initiator != bpf.UnknownInitiator {
		return int(e.Initiator)
	}
	if c := e.Addr[0].Compare(e.Addr[1]); c > 0 || (c == 0 && e.Port[0] > e.Port[1]) {
		return 1
	}
	return 0
}

// Of makes an Entry of what the datapath holds.
func (v View) Of(e *bpf.Entry) Entry {
	src := Source(e)
	state := State(e.State)
	lifetime := v.Lifetimes[e.State%bpf.States]
	idle := time.Duration(v.Now - e.Last())
	out := Entry{
		Flow: e.Flow, Zone: e.Zone, Src: e.Addr[src], Dst: e.Addr[1-src],
		SrcPort: e.Port[src], DstPort: e.Port[1-src], Protocol: e.Protocol, Cites: e.Cites,
		ICMPType: e.ICMPType, ICMPCode: e.ICMPCode, ICMPID: e.ICMPID,
		Known: e.Initiator != bpf.UnknownInitiator, State: state, ICMPError: ErrorText(e),
		Expired: idle > lifetime, Idle: idle, Lifetime: lifetime,
		Forward: v.leg(&e.Legs[src]), Reverse: v.leg(&e.Legs[1-src]),
	}
	return out
}

// ErrorText is "type/code" of the last ICMP error that cited the connection, or "".
func ErrorText(e *bpf.Entry) string {
	if e.ErrorType == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", e.ErrorType, e.ErrorCode)
}

func (v View) leg(l *bpf.Leg) Leg {
	if l.Owner == 0 {
		return Leg{}
	}
	return Leg{
		Packets: l.Packets, Bytes: l.Bytes, Flags: flow.TCPFlags(l.Flags),
		First: l.First, Last: l.Last, Seen: Seen(l, v.Hooks),
	}
}

// Seen lists the hooks that saw a leg, the owner first.
func Seen(l *bpf.Leg, hooks flow.InterfaceNamer) []flow.Hook {
	if l.Owner == 0 {
		return nil
	}
	numbers := HooksOf(l)
	return hooks.Names(numbers[:]...)
}

// HooksOf are the numbers of the hooks that saw a leg, the owner's first; 0 is none.
func HooksOf(l *bpf.Leg) [4]uint16 { return [4]uint16{l.Owner, l.Hooks[0], l.Hooks[1], l.Hooks[2]} }
