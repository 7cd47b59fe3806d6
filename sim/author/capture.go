package author

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// maxFrames bounds a scenario made from a capture: people are to read it.
const maxFrames = 1000

// maxFrame is the longest frame that is read, in bytes: what fits an interface's largest MTU,
// with its header.
const maxFrame = 65535 + 14

// packet is a frame of a capture, taken apart as far as scenarios need it.
type packet struct {
	number   int // in the capture, from 1
	at       time.Time
	vlans    []layers.Dot1Q
	toAll    bool // a group's link address
	src, dst netip.Addr
	ip       gopacket.NetworkLayer // *layers.IPv4 or *layers.IPv6
	missing  int                   // bytes that the capture has cut off
	kind     layers.EthernetType   // of what is not IP
}

// source reads frames of either format.
type source interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

// magicNG begins a pcapng file.
var magicNG = []byte{0x0a, 0x0d, 0x0d, 0x0a}

// maxCapture bounds a capture that is read, in bytes.
const maxCapture = 256 << 20

// open reads the whole file: its lengths are checked before pcapgo takes memory for them.
func open(r io.Reader) (source, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxCapture+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxCapture:
		return nil, fmt.Errorf("it has more than %d bytes: cut out what matters first", maxCapture)
	case len(data) < 4:
		return nil, errors.New("it is shorter than the header of a capture")
	case bytes.Equal(data[:4], magicNG):
		if err := checkBlocks(data); err != nil {
			return nil, err
		}
		return pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.NgReaderOptions{})
	}
	p, err := pcapgo.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	p.SetSnaplen(uint32(min(len(data), maxFrame)))
	return p, nil
}

// Types of pcapng blocks whose packets have a length of their own, and where it stands in the
// block; the simple one has only that of the packet as it was sent.
var packetLengths = map[uint32]int{2: 20, 3: 8, 6: 20}

// checkBlocks walks the blocks of a pcapng file (draft-ietf-opsawg-pcapng, section 3.1).
func checkBlocks(data []byte) error {
	var order binary.ByteOrder = binary.LittleEndian
	for at := 0; at+12 <= len(data); {
		block := data[at:]
		if bytes.Equal(block[:4], magicNG) { // a section says its byte order
			order = binary.LittleEndian
			if binary.BigEndian.Uint32(block[8:]) == 0x1a2b3c4d {
				order = binary.BigEndian
			}
		}
		size := uint64(order.Uint32(block[4:]))
		if size < 12 || size > uint64(len(block)) {
			return fmt.Errorf("the block at byte %d has a length of %d", at, size)
		}
		if place, ok := packetLengths[order.Uint32(block)]; ok {
			if size < uint64(place)+8 || uint64(order.Uint32(block[place:])) > maxFrame {
				return fmt.Errorf("the block at byte %d has no packet of a sensible length", at)
			}
		}
		at += int(size)
	}
	return nil
}

// readCapture reads a capture's packets, and how many it has left unread.
func readCapture(r io.Reader) (packets []*packet, unread int, err error) {
	defer func() { // pcapgo trusts the lengths in a file
		if p := recover(); p != nil {
			err = fmt.Errorf("read the capture: it is damaged: %v", p)
		}
	}()
	s, err := open(r)
	if err != nil {
		return nil, 0, fmt.Errorf("read the capture: %w", err)
	}
	for number := 1; ; number++ {
		data, info, err := s.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && len(packets) > 0 {
			return packets, unread, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the capture: frame %d: %w", number, err)
		}
		if len(packets) == maxFrames || len(data) > maxFrame {
			unread++
			continue
		}
		link, err := ethernet(s.LinkType(), data)
		if err != nil {
			return nil, 0, fmt.Errorf("read the capture: %w", err)
		}
		p := dissect(link)
		p.number, p.at = number, info.Timestamp
		packets = append(packets, p)
	}
}

// ethernet gives a frame without a link header one.
func ethernet(link layers.LinkType, data []byte) ([]byte, error) {
	switch link {
	case layers.LinkTypeEthernet:
		return data, nil
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, 12:
		kind := uint16(layers.EthernetTypeIPv4)
		if len(data) > 0 && data[0]>>4 == 6 {
			kind = uint16(layers.EthernetTypeIPv6)
		}
		return append(binary.BigEndian.AppendUint16(make([]byte, 12), kind), data...), nil
	}
	return nil, fmt.Errorf("its link type is %s: want Ethernet or raw IP", link)
}

// dissect takes a frame apart up to its IP header.
func dissect(frame []byte) *packet {
	p := &packet{}
	all := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range all.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			p.toAll = l.DstMAC[0]&1 == 1
			p.kind = l.EthernetType
		case *layers.Dot1Q:
			p.vlans = append(p.vlans, *l)
			p.kind = l.Type
		case *layers.IPv4:
			p.take(l, l.SrcIP, l.DstIP, int(l.Length)-4*int(l.IHL)-len(l.Payload))
			return p
		case *layers.IPv6:
			p.take(l, l.SrcIP, l.DstIP, int(l.Length)-len(l.Payload))
			return p
		default:
			return p
		}
	}
	return p
}

func (p *packet) take(ip gopacket.NetworkLayer, src, dst []byte, missing int) {
	p.ip, p.missing = ip, max(0, missing)
	p.src, _ = netip.AddrFromSlice(src)
	p.dst, _ = netip.AddrFromSlice(dst)
}

// payload is what the IP header carries; the bytes that the capture has cut off are zero.
func (p *packet) payload() []byte {
	var data []byte
	switch ip := p.ip.(type) {
	case *layers.IPv4:
		data = ip.Payload
	case *layers.IPv6:
		data = ip.Payload
	}
	return append(bytes.Clone(data), make([]byte, p.missing)...)
}

// protocol is the number of what the IP header carries.
func (p *packet) protocol() layers.IPProtocol {
	switch ip := p.ip.(type) {
	case *layers.IPv4:
		return ip.Protocol
	case *layers.IPv6:
		return ip.NextHeader
	}
	return 0
}

// fragment tells a part of a packet.
func (p *packet) fragment() bool {
	ip, ok := p.ip.(*layers.IPv4)
	return ok && (ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0)
}

// plain tells that nothing but addresses, protocol and payload matters of the IP header, and that
// the tags are only ids.
func (p *packet) plain() bool {
	for _, v := range p.vlans {
		if v.Priority != 0 || v.DropEligible {
			return false
		}
	}
	ip, ok := p.ip.(*layers.IPv4)
	return !p.fragment() && !p.toAll && len(p.vlans) <= 4 && (!ok || len(ip.Options) == 0)
}

// transport decodes what the IP header carries as one kind of header; nil if it is none.
func transport[L gopacket.DecodingLayer](data []byte, l L) (got L, ok bool) {
	err := l.DecodeFromBytes(data, gopacket.NilDecodeFeedback)
	return l, err == nil
}
