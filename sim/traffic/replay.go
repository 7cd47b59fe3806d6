package traffic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/sim/pcap"
	"github.com/weirnet/weir/sim/spec"
)

// maxReplay bounds the frames of a capture that is replayed.
const maxReplay = 10_000

// errOther is wrapped in the errors of frames that a replay may skip.
var errOther = errors.New("others: skip leaves such frames out")

// replay sends a capture's frames with the topology's addresses.
func (b *Builder) replay(step *spec.Replay, out *sink) error {
	frames, unread, err := pcap.Read(bytes.NewReader(step.Data), maxReplay)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", step.File, err)
	case unread > 0:
		return fmt.Errorf("%s has %d frames behind the first %d, or longer than any link's", step.File, unread,
			maxReplay)
	}
	sent := 0
	for _, f := range frames {
		w, data, err := b.replayed(step, &f)
		if errors.Is(err, errOther) && step.SkipOthers {
			continue
		}
		if err == nil {
			err = fits(data, w)
		}
		if err == nil {
			data, err = onWire(data, w)
		}
		if err != nil {
			return fmt.Errorf("%s: frame %d: %w", step.File, f.Number, err)
		}
		sent++
		if err := out.put(Frame{w.port.Host, w.port.Interface, data, true}); err != nil {
			return err
		}
	}
	if sent == 0 {
		return fmt.Errorf("%s has no frame that can be sent", step.File)
	}
	out.end()
	return nil
}

// replayed is a frame as the topology has it, and the way that it is sent.
func (b *Builder) replayed(step *spec.Replay, f *pcap.Frame) (w way, data []byte, err error) {
	data = append(bytes.Clone(f.Data), make([]byte, f.Cut)...)
	at, err := network3(data)
	if err != nil {
		return w, nil, err
	}
	from, to, err := mapped(step, data[at:])
	if err != nil {
		return w, nil, err
	}
	if w, err = b.net.way(from, to); err != nil {
		return w, nil, err
	}
	readdress(data[at:], func(a netip.Addr) netip.Addr {
		for _, m := range step.Map {
			if m.Was == a {
				return m.Is.Addr
			}
		}
		return a
	})
	copy(data, w.dst[:])
	copy(data[6:], w.src[:])
	return w, data, nil
}

// network3 is where the IP header begins, behind VLAN tags. It is whole as far as its addresses.
func network3(frame []byte) (int, error) {
	for at := 12; at+2 <= len(frame); at += 4 {
		switch kind := binary.BigEndian.Uint16(frame[at:]); {
		case kind == 0x8100 || kind == 0x88a8:
			continue
		case kind == 0x0800 && len(frame) >= at+2+20, kind == 0x86dd && len(frame) >= at+2+40:
			return at + 2, nil
		case kind == 0x0800 || kind == 0x86dd:
			return 0, fmt.Errorf("its IP header is cut off: %w", errOther)
		default:
			return 0, fmt.Errorf("it is not IP (type 0x%04x): %w", kind, errOther)
		}
	}
	return 0, fmt.Errorf("it has no Ethernet header: %w", errOther)
}

// addressesOf are the source and destination of an IP header.
func addressesOf(ip []byte) (src, dst netip.Addr) {
	at, size := addressPlace(ip)
	src, _ = netip.AddrFromSlice(ip[at : at+size])
	dst, _ = netip.AddrFromSlice(ip[at+size : at+2*size])
	return src, dst
}

// addressPlace is where an IP header's two addresses begin, and how long each is. A version that
// there is not has them where the frame's type would: as IPv4 if there is no room for IPv6.
func addressPlace(ip []byte) (at, size int) {
	if ip[0]>>4 == 6 && len(ip) >= 40 {
		return 8, 16
	}
	return 12, 4
}

// mapped finds what a frame's addresses stand for. A group may be itself.
func mapped(step *spec.Replay, ip []byte) (from, to spec.Endpoint, err error) {
	src, dst := addressesOf(ip)
	group := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	found := 0
	for _, m := range step.Map {
		if m.Was == src {
			from, found = m.Is, found|1
		}
		if m.Was == dst {
			to, found = m.Is, found|2
		}
	}
	if found&2 == 0 && (dst.IsMulticast() || dst == group) {
		to, found = spec.Endpoint{Addr: dst}, found|2
	}
	switch {
	case found&1 == 0:
		return from, to, fmt.Errorf("map does not name its source %s: %w", src, errOther)
	case found&2 == 0:
		return from, to, fmt.Errorf("map does not name its destination %s: %w", dst, errOther)
	case from.Host == "":
		return from, to, fmt.Errorf("its source %s stands for %s, which no host has", src, from.Addr)
	case from.Host == to.Host:
		return from, to, fmt.Errorf("both its addresses stand for host %s", from.Host)
	}
	return from, to, nil
}

// readdress changes an IP packet's addresses, also in a packet that an ICMP error cites, and leaves
// its checksums as right or as wrong as they were.
func readdress(ip []byte, other func(netip.Addr) netip.Addr) {
	at, size := addressPlace(ip)
	before := sum(ip[at : at+2*size])
	for _, place := range []int{at, at + size} {
		if was, ok := netip.AddrFromSlice(ip[place : place+size]); ok {
			copy(ip[place:], other(was).AsSlice())
		}
	}
	after := sum(ip[at : at+2*size])
	if size == 4 {
		mend(ip, 10, before, after)
	}
	protocol, behind := payload3(ip)
	switch protocol {
	case 6:
		mend(behind, 16, before, after)
	case 17:
		if len(behind) >= 8 && binary.BigEndian.Uint16(behind[6:]) != 0 {
			mend(behind, 6, before, after)
			if binary.BigEndian.Uint16(behind[6:]) == 0 { // which says that there is none
				behind[6], behind[7] = 0xff, 0xff
			}
		}
	case 1, 58:
		if protocol == 58 {
			mend(behind, 2, before, after)
		}
		readdressCited(protocol, behind, other)
	}
}

// readdressCited changes the addresses of the packet that an ICMP error cites.
func readdressCited(protocol byte, icmp []byte, other func(netip.Addr) netip.Addr) {
	const header = 8
	if len(icmp) < header+20 || !isError(protocol, icmp[0]) {
		return
	}
	before := sum(icmp)
	readdress(icmp[header:], other)
	mend(icmp, 2, before, sum(icmp))
}

// isError tells errors, which cite a packet, from other ICMP messages.
func isError(protocol, kind byte) bool {
	if protocol == 58 {
		return kind >= 1 && kind <= 4
	}
	return kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12
}

// payload3 is the transport protocol of an IP packet and what it carries; nothing for a fragment
// that is not the first, and where headers are cut off.
func payload3(ip []byte) (protocol byte, data []byte) {
	if _, size := addressPlace(ip); size == 4 {
		n := int(ip[0]&15) * 4
		if n < 20 || n > len(ip) || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			return 0, nil
		}
		return ip[9], ip[n:]
	}
	protocol, data = ip[6], ip[40:]
	for len(data) >= 8 {
		n := int(data[1])*8 + 8
		switch protocol {
		case 0, 43, 60:
		case 44:
			if binary.BigEndian.Uint16(data[2:])&0xfff8 != 0 {
				return 0, nil
			}
			n = 8
		default:
			return protocol, data
		}
		if n > len(data) {
			return 0, nil
		}
		protocol, data = data[0], data[n:]
	}
	return 0, nil
}

// sum is the ones' complement sum of RFC 1071.
func sum(data []byte) uint32 {
	var s uint32
	for i := 0; i < len(data); i += 2 {
		s += uint32(data[i]) << 8
		if i+1 < len(data) {
			s += uint32(data[i+1])
		}
		s = s>>16 + s&0xffff
	}
	return s
}

// mend changes the checksum in data for words whose sum has changed (RFC 1624).
func mend(data []byte, at int, before, after uint32) {
	if at+2 > len(data) {
		return
	}
	s := uint32(^binary.BigEndian.Uint16(data[at:])) + (^before & 0xffff) + after
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	binary.BigEndian.PutUint16(data[at:], ^uint16(s))
}
