package capture

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// auxdata is a control message with a packet's VLAN tag (struct tpacket_auxdata).
func auxdata(status uint32, tci, tpid uint16) []byte {
	b := make([]byte, unix.CmsgSpace(20))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_PACKET, unix.PACKET_AUXDATA
	h.SetLen(unix.CmsgLen(20))
	data := b[unix.SizeofCmsghdr:]
	binary.NativeEndian.PutUint32(data, status)
	binary.NativeEndian.PutUint16(data[16:], tci)
	binary.NativeEndian.PutUint16(data[18:], tpid)
	return b
}

// FuzzReadTag reads what stands beside a packet: a tag, or none, and nothing beyond its end.
func FuzzReadTag(f *testing.F) {
	f.Add(auxdata(vlanValid|tpidValid, 7, unix.ETH_P_8021AD))
	f.Add(append(auxdata(0, 0, 0), auxdata(vlanValid, 7, 0)...))
	f.Fuzz(func(t *testing.T, control []byte) {
		// The kernel aligns them; so does a slice of its own.
		words := make([]uint64, len(control)/8+1)
		aligned := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(control))
		copy(aligned, control)
		var m message
		m.readTag(aligned)
		if m.tagged && len(control) < unix.CmsgLen(20) {
			t.Fatalf("a tag out of %d bytes", len(control))
		}
	})
}
