package pbflow

import (
	"encoding/binary"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weirnet/weir/agent/flow"
)

// Ethernet types (IANA, IEEE 802 Numbers).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// recordsEntries is the field of Records that holds a Record.
const recordsEntries = 1

// Append appends a report as an entry of Records: entries one behind the other are a whole Records
// message. offset is what is to be added to the report's times to give ns since 1970. It allocates
// only to grow b.
func Append(b []byte, r flow.Report, offset int64) []byte {
	b, entry := begin(b, recordsEntries)
	return end(AppendRecord(b, r, offset), entry)
}

// AppendRecord appends a report as a message Record, likewise.
func AppendRecord(b []byte, r flow.Report, offset int64) []byte {
	switch {
	case r.Drop != nil:
		return appendDrop(b, r.Drop, offset)
	case r.DNS != nil:
		return appendDNS(b, r.DNS, offset)
	}
	return appendRecord(b, r.Record, offset)
}

func appendRecord(b []byte, r *flow.Record, offset int64) []byte {
	b = appendUint(b, 1, etherType(r.Src))
	owner := flow.Hook{}
	if len(r.Seen) > 0 {
		owner = r.Seen[0]
	}
	b = appendUint(b, 2, direction(owner.Direction))
	b = appendTime(b, 3, r.Start+offset)
	b = appendTime(b, 4, r.End+offset)
	b = appendNetwork(b, r.Src, r.Dst)
	b = appendTransport(b, r.SrcPort, r.DstPort, r.Protocol)
	b = appendUint(b, 8, r.Bytes)
	b = appendUint(b, 9, r.Packets)
	b = appendString(b, 10, owner.Interface)
	if r.Duplicate {
		b = appendUint(b, 11, 1)
	}
	b = appendIP(b, 12, r.AgentIP)
	b = appendUint(b, 13, uint64(r.Flags))
	b = appendUint(b, 14, uint64(r.ICMPType))
	b = appendUint(b, 15, uint64(r.ICMPCode))
	if r.RTTMax > 0 {
		b = appendTime(b, 24, int64(r.RTTMax)*1000)
	}
	for i := range r.Seen {
		var at int
		b, at = begin(b, 26)
		b = appendString(b, 1, r.Seen[i].Interface)
		b = appendUint(b, 2, direction(r.Seen[i].Direction))
		b = end(b, at)
	}
	if r.NATAfter.Src.IsValid() {
		b = appendXlat(b, &r.NATAfter, r.Zone)
	}
	b = appendUint(b, 29, uint64(r.Sampling))
	return appendWeir(b, r)
}

func appendDrop(b []byte, d *flow.Drop, offset int64) []byte {
	if d.Src.IsValid() {
		b = appendUint(b, 1, etherType(d.Src))
	}
	if d.Start != 0 {
		b = appendTime(b, 3, d.Start+offset)
		b = appendTime(b, 4, d.End+offset)
	}
	if d.Src.IsValid() {
		b = appendNetwork(b, d.Src, d.Dst)
		b = appendTransport(b, d.SrcPort, d.DstPort, d.Protocol)
	}
	b = appendIP(b, 12, d.AgentIP)
	b = appendUint(b, 17, d.Packets)
	b, weir := begin(b, 1000)
	b = appendString(b, 1, d.Boot)
	b = appendUint(b, 2, d.Sequence)
	b = appendUint(b, 9, uint64(d.Start))
	b = appendUint(b, 10, uint64(d.End))
	b, drop := begin(b, 19)
	b = appendString(b, 1, d.Reason)
	b = appendUint(b, 2, d.NetNS)
	return end(end(b, drop), weir)
}

func appendDNS(b []byte, d *flow.DNS, offset int64) []byte {
	if d.Client.IsValid() {
		b = appendUint(b, 1, etherType(d.Client))
	}
	if d.Start != 0 {
		b = appendTime(b, 3, d.Start+offset)
	}
	if d.End != 0 {
		b = appendTime(b, 4, d.End+offset)
	}
	if d.Client.IsValid() {
		b = appendNetwork(b, d.Client, d.Server)
		b = appendTransport(b, d.ClientPort, d.ServerPort, d.Protocol)
	}
	b = appendIP(b, 12, d.AgentIP)
	b = appendUint(b, 21, uint64(d.ID))
	if d.Latency != nil {
		b = appendTime(b, 23, *d.Latency)
	}
	b = appendString(b, 32, d.Name)
	b, weir := begin(b, 1000)
	b = appendString(b, 1, d.Boot)
	b = appendUint(b, 2, d.Sequence)
	b = appendUint(b, 4, uint64(d.Zone))
	b = appendUint(b, 9, uint64(d.Start))
	b = appendUint(b, 10, uint64(d.End))
	b, dns := begin(b, 22)
	b = appendString(b, 1, d.Outcome)
	b = appendString(b, 2, d.Reason)
	b = appendUint(b, 3, d.Messages)
	b = appendString(b, 4, d.Type)
	b = appendString(b, 5, d.Rcode)
	if d.Truncated {
		b = appendUint(b, 6, 1)
	}
	b = appendOptional(b, 7, d.Latency)
	b = appendUint(b, 8, uint64(d.Repeats))
	return end(end(b, dns), weir)
}

// appendWeir appends what only weir tells.
func appendWeir(b []byte, r *flow.Record) []byte {
	b, at := begin(b, 1000)
	b = appendString(b, 1, r.Boot)
	b = appendUint(b, 2, r.Sequence)
	b = appendUint(b, 3, r.Flow)
	b = appendUint(b, 4, uint64(r.Zone))
	b = appendUint(b, 5, uint64(r.Cites))
	b = appendUint(b, 6, uint64(r.ICMPID))
	b = appendUint(b, 7, r.PacketsBefore)
	b = appendUint(b, 8, r.BytesBefore)
	b = appendUint(b, 9, uint64(r.Start))
	b = appendUint(b, 10, uint64(r.End))
	b = appendUint(b, 11, role(r.Role))
	b = appendString(b, 12, r.State)
	b = appendUint(b, 13, uint64(r.Reason))
	for i := range r.Seen {
		var hook int
		b, hook = begin(b, 14)
		b = appendString(b, 1, r.Seen[i].Namespace)
		b = appendString(b, 2, r.Seen[i].Interface)
		b = appendUint(b, 3, direction(r.Seen[i].Direction))
		b = end(b, hook)
	}
	b = appendString(b, 15, r.ICMPError)
	if r.RTTSamples > 0 {
		var rtt int
		b, rtt = begin(b, 16)
		b = appendUint(b, 1, uint64(r.RTTMin))
		b = appendUint(b, 2, uint64(r.RTTLast))
		b = appendUint(b, 3, uint64(r.RTTMax))
		b = appendUint(b, 4, uint64(r.RTTSamples))
		b = end(b, rtt)
	}
	b = appendNAT(b, 17, &r.NATBefore)
	b = appendNAT(b, 18, &r.NATAfter)
	b = appendHandshake(b, r.Handshake)
	b = appendLookups(b, r.Lookups)
	b = appendLabels(b, 23, r.SrcLabels)
	b = appendLabels(b, 24, r.DstLabels)
	b = appendString(b, 25, r.Service)
	b = appendString(b, 26, r.Class)
	b = appendString(b, 27, r.Unlabelled)
	b = appendUint(b, 28, uint64(r.LabelFlags))
	b = appendString(b, 29, r.Environment)
	return end(b, at)
}

func appendLabels(b []byte, field protowire.Number, l *flow.Labels) []byte {
	if l == nil {
		return b
	}
	b, at := begin(b, field)
	b = appendString(b, 1, string(l.Kind))
	b = appendString(b, 2, l.Cluster)
	b = appendString(b, 3, l.Namespace)
	b = appendString(b, 4, l.Workload)
	b = appendString(b, 5, l.WorkloadKind)
	b = appendString(b, 6, l.Pod)
	b = appendString(b, 7, l.App)
	b = appendString(b, 8, l.Instance)
	b = appendString(b, 9, l.Service)
	b = appendString(b, 10, l.Node)
	b = appendString(b, 11, l.Zone)
	b = appendString(b, 12, l.Region)
	b = appendString(b, 13, l.Cloud)
	b = appendString(b, 14, l.CloudService)
	b = appendString(b, 15, l.Name)
	return end(b, at)
}

func appendHandshake(b []byte, h *flow.Handshake) []byte {
	if h == nil {
		return b
	}
	b, at := begin(b, 20)
	b = appendOptional(b, 1, h.Server)
	b = appendOptional(b, 2, h.Client)
	b = appendUint(b, 3, uint64(h.SYNRepeats))
	b = appendUint(b, 4, uint64(h.SYNACKRepeats))
	return end(b, at)
}

func appendLookups(b []byte, l *flow.Lookups) []byte {
	if l == nil {
		return b
	}
	b, at := begin(b, 21)
	b = appendUint(b, 1, uint64(l.Answered))
	b = appendUint(b, 2, uint64(l.Failed))
	b = appendUint(b, 3, uint64(l.Unanswered))
	b = appendString(b, 4, l.Rcode)
	b = appendUint(b, 5, uint64(l.Mean))
	b = appendUint(b, 6, uint64(l.Max))
	return end(b, at)
}

func appendNAT(b []byte, field protowire.Number, n *flow.NAT) []byte {
	if !n.Src.IsValid() {
		return b
	}
	b, at := begin(b, field)
	b = appendString(b, 1, n.ID)
	b = appendUint(b, 2, n.Flow)
	b = appendIP(b, 3, n.Src)
	b = appendIP(b, 4, n.Dst)
	b = appendUint(b, 5, uint64(n.SrcPort))
	b = appendUint(b, 6, uint64(n.DstPort))
	b = appendUint(b, 7, uint64(n.ICMPID))
	return end(b, at)
}

func appendXlat(b []byte, n *flow.NAT, zone uint16) []byte {
	b, at := begin(b, 28)
	b = appendIP(b, 1, n.Src)
	b = appendIP(b, 2, n.Dst)
	b = appendUint(b, 3, uint64(n.SrcPort))
	b = appendUint(b, 4, uint64(n.DstPort))
	b = appendUint(b, 5, uint64(zone))
	return end(b, at)
}

func appendNetwork(b []byte, src, dst netip.Addr) []byte {
	b, at := begin(b, 6)
	b = appendIP(b, 1, src)
	b = appendIP(b, 2, dst)
	return end(b, at)
}

func appendTransport(b []byte, src, dst uint16, protocol uint8) []byte {
	b, at := begin(b, 7)
	b = appendUint(b, 1, uint64(src))
	b = appendUint(b, 2, uint64(dst))
	b = appendUint(b, 3, uint64(protocol))
	return end(b, at)
}

func appendIP(b []byte, field protowire.Number, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	b, at := begin(b, field)
	if a.Is4() {
		v4 := a.As4()
		b = protowire.AppendTag(b, 1, protowire.Fixed32Type)
		b = protowire.AppendFixed32(b, binary.BigEndian.Uint32(v4[:]))
	} else {
		v6 := a.As16()
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendBytes(b, v6[:])
	}
	return end(b, at)
}

// appendTime appends a google.protobuf.Timestamp, or a Duration of 0 or more, which is encoded alike.
func appendTime(b []byte, field protowire.Number, ns int64) []byte {
	const second = 1_000_000_000
	s, rest := ns/second, ns%second
	if rest < 0 { // nanos count forward, also before 1970
		s, rest = s-1, rest+second
	}
	b, at := begin(b, field)
	b = appendUint(b, 1, uint64(s))
	b = appendUint(b, 2, uint64(rest))
	return end(b, at)
}

// appendOptional appends a number that is 0 as well as one that is not there.
func appendOptional(b []byte, field protowire.Number, v *int64) []byte {
	if v == nil {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(*v))
}

// appendUint appends a number, unless it is 0, which proto3 leaves out.
func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// begin begins a message within a message; end is given where.
func begin(b []byte, field protowire.Number) (_ []byte, at int) {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return append(b, 0), len(b) + 1
}

// end writes the message's length before it. One byte was left for it; a message that needs more
// moves.
func end(b []byte, at int) []byte {
	n := len(b) - at
	if n < 0x80 {
		b[at-1] = byte(n)
		return b
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	for range more {
		b = append(b, 0)
	}
	copy(b[at+more:], b[at:at+n])
	protowire.AppendVarint(b[:at-1], uint64(n))
	return b
}

func etherType(a netip.Addr) uint64 {
	if a.Is4() {
		return etherIPv4
	}
	return etherIPv6
}

func direction(d flow.Direction) uint64 {
	if d == flow.Egress {
		return uint64(Direction_EGRESS)
	}
	return uint64(Direction_INGRESS)
}

func role(r flow.Role) uint64 {
	switch r {
	case flow.RoleInitiator:
		return uint64(Role_INITIATOR)
	case flow.RoleResponder:
		return uint64(Role_RESPONDER)
	}
	return uint64(Role_UNKNOWN)
}
