package ipfix

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/flow"
)

// ntpEpoch is 1970 in seconds since 1900, where NTP's time begins (RFC 5905, section 6).
const ntpEpoch = 2_208_988_800

// maxName bounds the name of an interface, so that a record fits into any message. Linux has names
// of up to 15 bytes.
const maxName = 64

// encoder makes data records. A record is a set with its template's identifier; sets are joined
// when they go into a message.
type encoder struct {
	biflow bool
	last   half
	other  []byte // scratch
}

// half is the record that the buffer ends with, if the other direction of the connection may be added.
type half struct {
	at, end  int // where it is in the buffer
	ways     int // where what is of one direction begins
	flow     uint64
	src, dst netip.Addr
	protocol uint8
	ports    [2]uint16
}

// append appends a record, or adds it to the one before as its other direction.
func (e *encoder) append(b []byte, r *flow.Record, offset int64) []byte {
	if e.biflow && e.last.end == len(b) && e.last.reverses(r) {
		return e.join(b, r, offset)
	}
	s := shapeOf(r)
	b, at := beginSet(b, s.template())
	b = appendTuple(b, r, s)
	ways := len(b)
	b = appendEachWay(b, r, offset)
	endSet(b, at)
	e.last = half{at: at, end: len(b), ways: ways, flow: r.Flow, src: r.Src, dst: r.Dst,
		protocol: r.Protocol, ports: [2]uint16{r.SrcPort, r.DstPort}}
	return b
}

// join makes the last record a biflow.
func (e *encoder) join(b []byte, r *flow.Record, offset int64) []byte {
	h := e.last
	e.last = half{}
	e.other = append(e.other[:0], biflowDirection(r.Role))
	e.other = appendEachWay(e.other, r, offset)
	b = slices.Insert(b, h.ways, e.other...)
	template := binary.BigEndian.Uint16(b[h.at:]) + uint16(shapeBiflow)
	binary.BigEndian.PutUint16(b[h.at:], template)
	endSet(b, h.at)
	return b
}

// reverses tells whether a record is of the other direction of the same connection.
func (h *half) reverses(r *flow.Record) bool {
	return h.end > 0 && h.flow == r.Flow && h.src == r.Dst && h.dst == r.Src &&
		h.protocol == r.Protocol && h.ports == [2]uint16{r.DstPort, r.SrcPort}
}

func shapeOf(r *flow.Record) shape {
	var s shape
	if !r.Src.Is4() || !r.Dst.Is4() {
		s |= shapeV6
	}
	after := &r.NATAfter
	if after.Src.IsValid() && after.Src.Is4() == r.Src.Is4() && after.Dst.Is4() == r.Dst.Is4() {
		s |= shapeNAT
	}
	return s
}

// appendTuple appends what both directions have in common.
func appendTuple(b []byte, r *flow.Record, s shape) []byte {
	b = appendAddresses(b, r.Src, r.Dst, s)
	b = append(b, r.ICMPType, r.ICMPCode)
	b = binary.BigEndian.AppendUint16(b, r.SrcPort)
	b = binary.BigEndian.AppendUint16(b, r.DstPort)
	b = append(b, r.Protocol)
	b = binary.BigEndian.AppendUint64(b, r.Flow)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, max(r.Sampling, 1)-1)
	if s&shapeNAT != 0 {
		b = appendAddresses(b, r.NATAfter.Src, r.NATAfter.Dst, s)
		b = binary.BigEndian.AppendUint16(b, r.NATAfter.SrcPort)
		b = binary.BigEndian.AppendUint16(b, r.NATAfter.DstPort)
	}
	return b
}

// biflowDirection says whether the biflow's source has begun the connection (RFC 5103, section 6.3),
// from the role of its destination.
func biflowDirection(reverse flow.Role) byte {
	switch reverse {
	case flow.RoleResponder:
		return 1 // initiator
	case flow.RoleInitiator:
		return 2 // reverseInitiator
	}
	return 0 // arbitrary
}

func appendEachWay(b []byte, r *flow.Record, offset int64) []byte {
	start, end := r.Start+offset, r.End+offset
	b = binary.BigEndian.AppendUint64(b, uint64(start/1e6))
	b = binary.BigEndian.AppendUint64(b, uint64(end/1e6))
	b = binary.BigEndian.AppendUint64(b, ntp(start))
	b = binary.BigEndian.AppendUint64(b, ntp(end))
	b = binary.BigEndian.AppendUint64(b, r.Packets)
	b = binary.BigEndian.AppendUint64(b, r.Bytes)
	b = binary.BigEndian.AppendUint64(b, r.Bytes)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Flags))
	var owner flow.Hook
	if len(r.Seen) > 0 {
		owner = r.Seen[0]
	}
	b = append(b, byte(r.Reason), direction(owner.Direction))
	name := owner.Interface[:min(len(owner.Interface), maxName)]
	return append(append(b, byte(len(name))), name...)
}

func appendAddresses(b []byte, src, dst netip.Addr, s shape) []byte {
	if s&shapeV6 == 0 {
		a, z := src.As4(), dst.As4()
		return append(append(b, a[:]...), z[:]...)
	}
	a, z := src.As16(), dst.As16()
	return append(append(b, a[:]...), z[:]...)
}

// ntp gives a time in NTP's format: seconds and a fraction, of 32 bits each (RFC 7011, section
// 6.1.9). The fraction is rounded up, so that whoever rounds down gets the same nanosecond again.
func ntp(ns int64) uint64 {
	seconds, rest := uint64(ns/1e9), uint64(ns%1e9)
	return (seconds+ntpEpoch)<<32 | (rest<<32+1e9-1)/1e9
}

// direction is IANA's flowDirection.
func direction(d flow.Direction) byte {
	if d == flow.Egress {
		return 1
	}
	return 0
}
