package pbflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
)

// Decode gives back what was encoded. Of a record of another agent than weir, what it does not tell
// is empty, its times are ns since 1970, and its flow goes on.
func Decode(m *Record) (flow.Report, error) {
	var out flow.Report
	var err error
	w := m.GetWeir()
	switch {
	case w.GetDrop() != nil:
		out.Drop, err = decodeDrop(m)
	case w.GetDns() != nil:
		out.DNS, err = decodeDNS(m)
	case w != nil:
		out.Record, err = decodeRecord(m)
		err = errors.Join(err, decodeWeir(out.Record, w))
	default:
		out.Record, err = decodeRecord(m)
		decodeForeign(out.Record, m)
	}
	if err != nil {
		return flow.Report{}, err
	}
	return out, nil
}

func decodeForeign(r *flow.Record, m *Record) {
	r.Role, r.Reason = flow.RoleUnknown, flow.EndActive
	r.Start = m.GetTimeFlowStart().AsTime().UnixNano()
	r.End = m.GetTimeFlowEnd().AsTime().UnixNano()
	r.Seen = seen(m)
}

func decodeRecord(m *Record) (*flow.Record, error) {
	var errs [7]error
	t := m.GetTransport()
	r := &flow.Record{
		Packets: m.GetPackets(), Bytes: m.GetBytes(), Flags: flow.TCPFlags(m.GetFlags()),
		Sampling: m.GetSampling(), Duplicate: m.GetDuplicate(),
		SrcPort:  narrow[uint16](&errs[0], "transport.src_port", t.GetSrcPort()),
		DstPort:  narrow[uint16](&errs[1], "transport.dst_port", t.GetDstPort()),
		Protocol: narrow[uint8](&errs[2], "transport.protocol", t.GetProtocol()),
		ICMPType: narrow[uint8](&errs[3], "icmp_type", m.GetIcmpType()),
		ICMPCode: narrow[uint8](&errs[4], "icmp_code", m.GetIcmpCode()),
	}
	r.Src, r.Dst, errs[5] = network(m.GetNetwork())
	r.AgentIP, errs[6] = agentIP(m)
	return r, errors.Join(errs[:]...)
}

// agentIP is of any kind of record, and may be none.
func agentIP(m *Record) (netip.Addr, error) {
	if m.GetAgentIp() == nil {
		return netip.Addr{}, nil
	}
	return address("agent_ip", m.GetAgentIp())
}

func decodeWeir(r *flow.Record, w *Weir) error {
	var errs [7]error
	r.Boot, r.Sequence, r.Flow = w.GetBoot(), w.GetSequence(), w.GetFlow()
	r.Zone = narrow[uint16](&errs[0], "weir.zone", w.GetZone())
	r.Cites = narrow[uint8](&errs[1], "weir.cites", w.GetCites())
	r.ICMPID = narrow[uint16](&errs[2], "weir.icmp_id", w.GetIcmpId())
	r.PacketsBefore, r.BytesBefore = w.GetPacketsBefore(), w.GetBytesBefore()
	r.Start, r.End, r.State = w.GetStartNs(), w.GetEndNs(), w.GetState()
	r.Role = roles[w.GetRole()]
	if r.Role == "" {
		r.Role = flow.RoleUnknown
	}
	r.Reason = flow.EndReason(narrow[uint8](&errs[3], "weir.end", w.GetEnd()))
	r.ICMPError = w.GetIcmpError()
	for _, h := range w.GetSeen() {
		r.Seen = append(r.Seen, flow.Hook{Namespace: h.GetNamespace(), Interface: h.GetInterface(),
			Direction: side(h.GetDirection())})
	}
	r.RTTMin, r.RTTLast = w.GetRtt().GetMinUs(), w.GetRtt().GetLastUs()
	r.RTTMax, r.RTTSamples = w.GetRtt().GetMaxUs(), w.GetRtt().GetSamples()
	if h := w.GetHandshake(); h != nil {
		r.Handshake = &flow.Handshake{Server: h.ServerNs, Client: h.ClientNs,
			SYNRepeats: h.GetSynRepeats(), SYNACKRepeats: h.GetSynAckRepeats()}
	}
	if l := w.GetLookups(); l != nil {
		r.Lookups = &flow.Lookups{Answered: l.GetAnswered(), Failed: l.GetFailed(),
			Unanswered: l.GetUnanswered(), Rcode: l.GetRcode(), Mean: l.GetLatencyNsMean(),
			Max: l.GetLatencyNsMax()}
	}
	r.NATBefore, errs[4] = decodeNAT(w.GetNatBefore())
	r.NATAfter, errs[5] = decodeNAT(w.GetNatAfter())
	r.SrcLabels, r.DstLabels = decodeLabels(w.GetSrcLabels()), decodeLabels(w.GetDstLabels())
	r.Service, r.Class, r.Unlabelled = w.GetService(), w.GetClass(), w.GetUnlabelled()
	r.LabelFlags = flow.LabelFlags(narrow[uint8](&errs[6], "weir.label_flags", w.GetLabelFlags()))
	r.Environment = w.GetEnvironment()
	return errors.Join(errs[:]...)
}

func decodeLabels(l *Labels) *flow.Labels {
	if l == nil {
		return nil
	}
	return &flow.Labels{
		Kind: flow.Kind(l.GetKind()), Cluster: l.GetCluster(), Namespace: l.GetNamespace(),
		Workload: l.GetWorkload(), WorkloadKind: l.GetWorkloadKind(), Pod: l.GetPod(), App: l.GetApp(),
		Instance: l.GetInstance(), Service: l.GetService(), Node: l.GetNode(), Zone: l.GetZone(),
		Region: l.GetRegion(), Cloud: l.GetCloud(), CloudService: l.GetCloudService(), Name: l.GetName(),
	}
}

func decodeDrop(m *Record) (*flow.Drop, error) {
	var errs [5]error
	w, t := m.GetWeir(), m.GetTransport()
	d := &flow.Drop{
		Boot: w.GetBoot(), Sequence: w.GetSequence(), NetNS: w.GetDrop().GetNetns(),
		SrcPort:  narrow[uint16](&errs[0], "transport.src_port", t.GetSrcPort()),
		DstPort:  narrow[uint16](&errs[1], "transport.dst_port", t.GetDstPort()),
		Protocol: narrow[uint8](&errs[2], "transport.protocol", t.GetProtocol()),
		Reason:   w.GetDrop().GetReason(), Packets: m.GetPktDropPackets(),
		Start: w.GetStartNs(), End: w.GetEndNs(),
	}
	d.Src, d.Dst, errs[3] = network(m.GetNetwork())
	d.AgentIP, errs[4] = agentIP(m)
	return d, errors.Join(errs[:]...)
}

func decodeDNS(m *Record) (*flow.DNS, error) {
	var errs [7]error
	w, t, n := m.GetWeir(), m.GetTransport(), m.GetWeir().GetDns()
	d := &flow.DNS{
		Boot: w.GetBoot(), Sequence: w.GetSequence(), Outcome: n.GetOutcome(),
		Reason: n.GetReason(), Messages: n.GetMessages(),
		Zone:       narrow[uint16](&errs[0], "weir.zone", w.GetZone()),
		ClientPort: narrow[uint16](&errs[1], "transport.src_port", t.GetSrcPort()),
		ServerPort: narrow[uint16](&errs[2], "transport.dst_port", t.GetDstPort()),
		Protocol:   narrow[uint8](&errs[3], "transport.protocol", t.GetProtocol()),
		ID:         narrow[uint16](&errs[4], "dns_id", m.GetDnsId()),
		Name:       m.GetDnsName(), Type: n.GetType(), Rcode: n.GetRcode(), Truncated: n.GetTruncated(),
		Latency: n.LatencyNs, Repeats: n.GetRepeats(), Start: w.GetStartNs(), End: w.GetEndNs(),
	}
	d.Client, d.Server, errs[5] = network(m.GetNetwork())
	d.AgentIP, errs[6] = agentIP(m)
	return d, errors.Join(errs[:]...)
}

func decodeNAT(n *NAT) (flow.NAT, error) {
	if n == nil {
		return flow.NAT{}, nil
	}
	var errs [5]error
	out := flow.NAT{
		ID: n.GetId(), Flow: n.GetFlow(),
		SrcPort: narrow[uint16](&errs[0], "weir.nat.src_port", n.GetSrcPort()),
		DstPort: narrow[uint16](&errs[1], "weir.nat.dst_port", n.GetDstPort()),
		ICMPID:  narrow[uint16](&errs[2], "weir.nat.icmp_id", n.GetIcmpId()),
	}
	out.Src, errs[3] = address("weir.nat.src_addr", n.GetSrcAddr())
	out.Dst, errs[4] = address("weir.nat.dst_addr", n.GetDstAddr())
	return out, errors.Join(errs[:]...)
}

// seen lists the hooks of a record of another agent.
func seen(m *Record) (all []flow.Hook) {
	for _, d := range m.GetDupList() {
		all = append(all, flow.Hook{Interface: d.GetInterface(), Direction: side(d.GetDirection())})
	}
	if len(all) == 0 && m.GetInterface() != "" {
		all = append(all, flow.Hook{Interface: m.GetInterface(), Direction: side(m.GetDirection())})
	}
	return all
}

var roles = map[Role]flow.Role{Role_UNKNOWN: flow.RoleUnknown, Role_INITIATOR: flow.RoleInitiator,
	Role_RESPONDER: flow.RoleResponder}

func side(d Direction) flow.Direction {
	if d == Direction_EGRESS {
		return flow.Egress
	}
	return flow.Ingress
}

func network(n *Network) (src, dst netip.Addr, err error) {
	src, serr := address("network.src_addr", n.GetSrcAddr())
	dst, derr := address("network.dst_addr", n.GetDstAddr())
	return src, dst, errors.Join(serr, derr)
}

func address(field string, ip *IP) (netip.Addr, error) {
	switch f := ip.GetIpFamily().(type) {
	case *IP_Ipv4:
		var v4 [4]byte
		binary.BigEndian.PutUint32(v4[:], f.Ipv4)
		return netip.AddrFrom4(v4), nil
	case *IP_Ipv6:
		if len(f.Ipv6) != 16 {
			return netip.Addr{}, fmt.Errorf("%s.ipv6: %d bytes; want 16", field, len(f.Ipv6))
		}
		return netip.AddrFrom16([16]byte(f.Ipv6)), nil
	}
	return netip.Addr{}, nil
}

// narrow refuses numbers that are too large for a field.
func narrow[T uint8 | uint16](err *error, field string, v uint32) T {
	limit := uint32(math.MaxUint16)
	if _, is8 := any(T(0)).(uint8); is8 {
		limit = math.MaxUint8
	}
	if v > limit {
		*err = fmt.Errorf("%s: %d; want at most %d", field, v, limit)
	}
	return T(v)
}
