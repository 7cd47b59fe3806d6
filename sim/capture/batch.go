package capture

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many packets one system call takes.
const batchSize = 32

// message is one received packet. It is valid until the next call of receive.
type message struct {
	data      []byte
	index     int  // of the interface
	outgoing  bool // the host sends it
	cut       bool // it is longer than the buffer
	tagged    bool // a VLAN tag was taken out of data
	tpid, tci uint16
}

// batch is the memory for recvmmsg, which x/sys does not wrap: with one system call for each
// packet the capture would be the slowest part of a burst on an emulated CPU.
type batch struct {
	headers  [batchSize]unix.Mmsghdr
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrLinklayer
	controls [batchSize][64]byte
	buffers  [][]byte
}

func newBatch(frame int) *batch {
	b := &batch{buffers: make([][]byte, batchSize)}
	for i := range b.buffers {
		b.buffers[i] = make([]byte, frame)
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(frame)
	}
	return b
}

// receive takes up to batchSize packets and returns how many.
func (b *batch) receive(fd int) (int, error) {
	for i := range b.headers {
		h := &b.headers[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = uint32(unsafe.Sizeof(b.names[i]))
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Control = &b.controls[i][0]
		h.SetControllen(len(b.controls[i]))
		h.Flags = 0
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (b *batch) message(i int) message {
	h := &b.headers[i]
	m := message{index: int(b.names[i].Ifindex),
		outgoing: b.names[i].Pkttype == unix.PACKET_OUTGOING,
		cut:      h.Hdr.Flags&unix.MSG_TRUNC != 0,
		data:     b.buffers[i][:min(int(h.Len), len(b.buffers[i]))]}
	m.readTag(b.controls[i][:min(int(h.Hdr.Controllen), len(b.controls[i]))])
	return m
}

const (
	vlanValid = unix.TP_STATUS_VLAN_VALID
	tpidValid = unix.TP_STATUS_VLAN_TPID_VALID
)

// readTag finds the VLAN tag that the kernel carries beside the packet (struct
// tpacket_auxdata).
func (m *message) readTag(control []byte) {
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(control) {
			return
		}
		data := control[unix.SizeofCmsghdr:size]
		if h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && len(data) >= 20 {
			status := binary.NativeEndian.Uint32(data)
			m.tagged = status&vlanValid != 0
			m.tci = binary.NativeEndian.Uint16(data[16:])
			m.tpid = unix.ETH_P_8021Q
			if status&tpidValid != 0 {
				m.tpid = binary.NativeEndian.Uint16(data[18:])
			}
			return
		}
		control = control[min(unix.CmsgSpace(len(data)), len(control)):]
	}
}
