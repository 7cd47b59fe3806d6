package differ

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The pcap format, as the Internet draft draft-ietf-opsawg-pcap has it: a header of 24 bytes, and
// before each frame one of 16.
const (
	pcapMicros   = 0xa1b2c3d4
	pcapNanos    = 0xa1b23c4d
	pcapEthernet = 1
	pcapRaw      = 101 // begins with the IP header
	pcapSnap     = 1 << 16
)

// writeCapture writes the case's frames as a pcap file.
func (c *Case) writeCapture(w io.Writer) error {
	link := uint32(pcapEthernet)
	if c.L3 {
		link = pcapRaw
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, pcapNanos)
	b = le.AppendUint16(b, 2) // version 2.4
	b = le.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(b, pcapSnap)
	b = le.AppendUint32(b, link)
	now := time.Duration(begin)
	for _, s := range c.Steps {
		now += s.Wait
		if s.Kind != Packet {
			continue
		}
		b = le.AppendUint32(b, uint32(now/time.Second))
		b = le.AppendUint32(b, uint32(now%time.Second))
		b = le.AppendUint32(b, uint32(len(s.Frame)))
		b = le.AppendUint32(b, uint32(len(s.Frame)))
		b = append(b, s.Frame...)
	}
	_, err := w.Write(b)
	return err
}

// readCapture reads the Ethernet frames of a pcap file that are not too long.
func readCapture(r io.Reader) ([][]byte, error) {
	header := make([]byte, 24)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	order := byteOrder(header)
	if order == nil {
		return nil, errors.New("it is no pcap file (pcapng is not read)")
	}
	if link := order.Uint32(header[20:]); link != pcapEthernet {
		return nil, fmt.Errorf("its link type is %d, want %d: Ethernet", link, pcapEthernet)
	}
	var frames [][]byte
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return frames, nil
		} else if err != nil {
			return nil, fmt.Errorf("read frame %d: %w", len(frames)+1, err)
		}
		size := order.Uint32(head[8:])
		if size > pcapSnap {
			return nil, fmt.Errorf("frame %d has %d bytes", len(frames)+1, size)
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(r, frame); err != nil {
			return nil, fmt.Errorf("read frame %d: %w", len(frames)+1, err)
		}
		if len(frame) <= maxFrame {
			frames = append(frames, frame)
		}
	}
}

// byteOrder is that of the machine that wrote a pcap file, or nil.
func byteOrder(header []byte) binary.ByteOrder {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if magic := order.Uint32(header); magic == pcapMicros || magic == pcapNanos {
			return order
		}
	}
	return nil
}
