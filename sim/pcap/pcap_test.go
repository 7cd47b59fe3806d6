package pcap

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// classic is a capture of one frame, as libpcap wrote them first.
func classic(frame []byte) []byte {
	b := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0}
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, 65535)
	b = binary.LittleEndian.AppendUint32(b, 1) // Ethernet
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}

func TestReadClassic(t *testing.T) {
	frame := bytes.Repeat([]byte{7}, 60)
	frames, unread, err := Read(bytes.NewReader(classic(frame)), 9)
	require.NoError(t, err)
	require.Zero(t, unread)
	require.Len(t, frames, 1)
	require.Equal(t, frame, frames[0].Data)
}

// FuzzRead reads anything as a capture: it is an error or frames, and no more of them than are asked for.
func FuzzRead(f *testing.F) {
	f.Add(classic(make([]byte, 60)))
	f.Add(append(bytes.Clone(magicNG), 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, _, err := Read(bytes.NewReader(data), 3)
		if err == nil {
			require.LessOrEqual(t, len(frames), 3)
		}
		for _, fr := range frames {
			require.LessOrEqual(t, len(fr.Data), len(data)+14, "a header may be put before it")
		}
	})
}
