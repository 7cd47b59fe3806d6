package differ

import (
	"encoding/binary"
	"slices"
)

// mutate returns a frame that differs from the given one in a few places.
func (d *drawer) mutate(frame []byte) []byte {
	frame = slices.Clone(frame)
	for range 1 + d.IntN(3) {
		frame = d.mutateOnce(frame)
	}
	return frame
}

func (d *drawer) mutateOnce(frame []byte) []byte {
	if len(frame) < 2 {
		return append(frame, 0, 0)
	}
	// Most places that decide anything are in the headers.
	at := d.IntN(min(len(frame), pick(d, 24, 64, 128, len(frame))))
	switch d.IntN(8) {
	case 0:
		frame[at] ^= 1 << d.IntN(8)
	case 1:
		frame[at] = byte(d.Uint32())
	case 2:
		frame[at] = pick[byte](d, 0, 1, 4, 5, 6, 17, 41, 44, 47, 58, 59, 132, 0x45, 0x60, 0xff)
	case 3:
		at = min(at&^1, len(frame)-2)
		n := uint16(len(frame) - at)
		binary.BigEndian.PutUint16(frame[at:], pick(d, 0, 1, 8, 20, n, n-1, n+1, 0x7fff, 0xffff,
			0x0800, 0x86dd, 0x8100, 0x88a8, 0x2000, 0x1fff))
	case 4:
		frame = frame[:at]
	case 5:
		frame = append(frame, make([]byte, d.IntN(20))...)
	case 6:
		frame = slices.Insert(frame, at, make([]byte, 1+d.IntN(8))...)
	case 7:
		if len(d.recent) > 0 { // another frame's end
			other := pick(d, d.recent...)
			frame = append(frame[:at], other[min(at, len(other)):]...)
		}
	}
	return frame
}
