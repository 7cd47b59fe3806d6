package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/sim/spec"
)

// pieces says how a frame is to be cut; id is the identification of IPv6 fragments.
type pieces struct {
	*spec.Fragments // nil: not at all
	id              uint32
}

// of cuts the frame behind its first IP header. All fragments have a copy of the IPv4 options,
// or of the IPv6 headers that routers on the way read.
func (p pieces) of(frame []byte) ([][]byte, error) {
	if p.Fragments == nil {
		return [][]byte{frame}, nil
	}
	head, cut := fragmentable(frame)
	if cut == 0 {
		return nil, errors.New("fragments: the packet has no IP header that can be read")
	}
	piece := piece4
	if frame[head-2] == 0x86 { // of the type
		piece = p.piece6
	}
	var all [][]byte
	for at := cut; at < len(frame) || at == cut; at += p.Size {
		end := min(at+p.Size, len(frame))
		all = append(all, piece(frame[:cut], head, frame[at:end], at-cut, end < len(frame)))
	}
	if p.Order == nil {
		return all, nil
	}
	var ordered [][]byte
	for _, n := range p.Order {
		if n > len(all) {
			return nil, fmt.Errorf("fragments: the packet has %d of them, and no number %d", len(all), n)
		}
		ordered = append(ordered, all[n-1])
	}
	return ordered, nil
}

// fragmentable tells where the first IP header stands, and where what may be cut begins: 0 if
// there is no such header.
func fragmentable(frame []byte) (head, cut int) {
	isTag := func(t uint16) bool { return t == 0x8100 || t == 0x88a8 }
	for head = 14; head+4 < len(frame) && isTag(binary.BigEndian.Uint16(frame[head-2:])); {
		head += 4
	}
	if len(frame) < head+20 {
		return 0, 0
	}
	switch binary.BigEndian.Uint16(frame[head-2:]) {
	case 0x0800:
		cut = head + max(20, 4*int(frame[head]&0xf))
	case 0x86dd:
		cut = head + 40
		for next := head + 6; cut+2 <= len(frame) && perFragment(frame[next]); {
			next, cut = cut, cut+8*(int(frame[cut+1])+1)
		}
	}
	if cut > len(frame) {
		return 0, 0
	}
	return head, cut
}

// perFragment tells the IPv6 headers that stand before the fragment header.
func perFragment(next uint8) bool {
	p := layers.IPProtocol(next)
	return p == layers.IPProtocolIPv6HopByHop || p == layers.IPProtocolIPv6Routing
}

// piece4 makes an IPv4 fragment. The offset of what is a fragment already goes on.
func piece4(before []byte, head int, data []byte, offset int, more bool) []byte {
	out := slices.Concat(before, data)
	ip := out[head:len(before)]
	place := binary.BigEndian.Uint16(ip[6:]) + uint16(offset/8)
	if more {
		place |= 1 << 13
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(out)-head))
	binary.BigEndian.PutUint16(ip[6:], place)
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
	return out
}

// piece6 makes an IPv6 fragment.
func (p pieces) piece6(before []byte, head int, data []byte, offset int, more bool) []byte {
	place := uint16(offset)
	if more {
		place |= 1
	}
	at := head + 6 // of the last next header
	for end := head + 40; end < len(before); {
		at, end = end, end+8*(int(before[end+1])+1)
	}
	fragment := binary.BigEndian.AppendUint16([]byte{before[at], 0}, place)
	fragment = binary.BigEndian.AppendUint32(fragment, p.id)
	out := slices.Concat(before, fragment, data)
	out[at] = uint8(layers.IPProtocolIPv6Fragment)
	binary.BigEndian.PutUint16(out[head+4:], uint16(len(out)-head-40))
	return out
}
