package golden

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

// tuple is what flows of all origins have in common.
type tuple struct {
	zone               uint16
	src, dst           netip.Addr
	srcPort, dstPort   uint16
	protocol, cites    uint8
	icmpType, icmpCode uint8
	icmpID             uint16
}

// flow returns a canonical flow with the tuple's fields.
func (t tuple) flow(names *Names) Flow {
	f := Flow{Proto: Protocol(t.protocol), Zone: t.zone}
	if t.cites != 0 {
		f.Cites = Protocol(t.cites)
	}
	f.ICMP = icmpForm(t.protocol, t.cites, t.icmpType, t.icmpCode, t.icmpID)
	ports := hasPorts(f.Proto, f.Cites)
	f.Src = names.endpoint(t.src, t.srcPort, ports)
	f.Dst = names.endpoint(t.dst, t.dstPort, ports)
	return f
}

// initiators gives roles the name that flows write.
var initiators = map[flow.Role]string{
	flow.RoleInitiator: InitiatorSrc,
	flow.RoleResponder: InitiatorDst,
	flow.RoleUnknown:   InitiatorUnknown,
}

// initiator is the canonical form of a role. A role that does not exist keeps its own name, so
// that it shows as a difference.
func initiator(r flow.Role) string {
	if s, ok := initiators[r]; ok {
		return s
	}
	return string(r)
}

// ModelFlows brings the reference model's flows into canonical form.
func ModelFlows(flows []model.Flow, names *Names) []Flow {
	all := make([]Flow, 0, len(flows))
	for _, m := range flows {
		f := tuple{m.Zone, m.Src, m.Dst, m.SrcPort, m.DstPort, m.Protocol, m.Cites,
			m.ICMPType, m.ICMPCode, m.ICMPID}.flow(names)
		f.Packets, f.Bytes = N(m.Packets), N(m.Bytes)
		f.Flags, f.End, f.State = m.Flags.String(), m.Reason.String(), m.State.String()
		f.Initiator, f.ICMPError = initiator(m.Role), m.ICMPError
		f.NATBefore, f.NATAfter = names.other(f, m.NATBefore), names.other(f, m.NATAfter)
		f.Seen, f.Who = seen(m.Seen), modelled(&m)
		f.Handshake, f.Lookups = handshakeText(m.Handshake), lookupsText(m.Lookups)
		all = append(all, f)
	}
	return sortFlows(all)
}

// other names the ends that a flow has on another side of an address translation.
func (n *Names) other(f Flow, o flow.NAT) Ends {
	if !o.Src.IsValid() {
		return Ends{}
	}
	ports := hasPorts(f.Proto, f.Cites)
	return Ends{n.endpoint(o.Src, o.SrcPort, ports), n.endpoint(o.Dst, o.DstPort, ports)}
}

// seen names hooks: the owner first, the others sorted, since the order in which they were
// listed says nothing.
func seen(hooks []flow.Hook) []string {
	names := make([]string, 0, len(hooks))
	for _, h := range hooks {
		names = append(names, h.String())
	}
	if len(names) > 2 {
		slices.Sort(names[1:])
	}
	return names
}

// Connections brings entries of the connection table, the agent's or the reference model's, into
// canonical form.
func Connections(entries []conntrack.Entry, names *Names) []Connection {
	all := make([]Connection, 0, len(entries))
	for _, e := range entries {
		if !e.Known && higher(e) {
			e.Src, e.Dst, e.SrcPort, e.DstPort = e.Dst, e.Src, e.DstPort, e.SrcPort
			e.Forward, e.Reverse = e.Reverse, e.Forward
		}
		f := tuple{e.Zone, e.Src, e.Dst, e.SrcPort, e.DstPort, e.Protocol, e.Cites,
			e.ICMPType, e.ICMPCode, e.ICMPID}.flow(names)
		c := Connection{Client: f.Src, Server: f.Dst, Known: e.Known, Proto: f.Proto,
			ICMP: f.ICMP, Cites: f.Cites, State: e.State.String(),
			Forward: N(e.Forward.Packets), Reverse: N(e.Reverse.Packets),
			Expired: e.Expired, ICMPError: e.ICMPError, Zone: f.Zone}
		if !e.Expired {
			c.Left = (e.Lifetime - e.Idle).String()
		}
		all = append(all, c)
	}
	return sortConnections(all)
}

// higher tells whether an entry's source is above its destination.
func higher(e conntrack.Entry) bool {
	return cmp.Or(e.Src.Compare(e.Dst), cmp.Compare(e.SrcPort, e.DstPort)) > 0
}

// Counters brings the counters of hooks into canonical form. Hooks that saw nothing are left
// out: whether they exist is the topology's matter.
func Counters(hooks map[flow.Hook]model.Counters) []HookCounters {
	all := make([]HookCounters, 0, len(hooks))
	for hook, c := range hooks {
		h := HookCounters{Hook: hook.String(), Seen: traffic(c.Seen),
			Accounted: traffic(c.Accounted), Observed: traffic(c.Observed)}
		h.LeftOut, h.Lost = byReason(c.LeftOut), byReason(c.Lost)
		if c.Seen != (model.Count{}) || c.Outcomes() != (model.Count{}) {
			all = append(all, h)
		}
	}
	return sortCounters(all)
}

// byReason leaves out the reasons for which nothing was counted; nil if that is all of them.
func byReason(counts map[model.Reason]model.Count) map[string]Traffic {
	var by map[string]Traffic
	for reason, n := range counts {
		if n == (model.Count{}) {
			continue
		}
		if by == nil {
			by = map[string]Traffic{}
		}
		by[string(reason)] = traffic(n)
	}
	return by
}

func traffic(c model.Count) Traffic { return Traffic{N(c.Packets), N(c.Bytes)} }
