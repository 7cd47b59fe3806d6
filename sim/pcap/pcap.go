// Package pcap reads captures, pcap and pcapng, whatever is wrong with them.
package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// maxFrame is the longest frame that is read, in bytes: what fits an interface's largest MTU,
// with its header.
const maxFrame = 65535 + 14

// Frame is a frame of a capture.
type Frame struct {
	Number int // in the capture, from 1
	At     time.Time
	Data   []byte // begins with an Ethernet header, which raw IP is given
	Cut    int    // bytes at its end that the capture has left out
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

// Read reads a capture's first frames, at most so many, and how many it has left unread. A capture
// that ends in the middle of a frame ends before it.
func Read(r io.Reader, most int) (frames []Frame, unread int, err error) {
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
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && len(frames) > 0 {
			return frames, unread, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the capture: frame %d: %w", number, err)
		}
		if len(frames) == most || len(data) > maxFrame {
			unread++
			continue
		}
		link, err := ethernet(s.LinkType(), data)
		if err != nil {
			return nil, 0, fmt.Errorf("read the capture: %w", err)
		}
		cut := min(max(0, info.Length-len(data)), maxFrame-len(data))
		frames = append(frames, Frame{number, info.Timestamp, link, cut})
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
