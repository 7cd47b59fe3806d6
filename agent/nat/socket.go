package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is what the kernel may queue for a socket: some thousand events, as each takes
	// about a kilobyte.
	receiveBuffer = 8 << 20
	// maxDatagram is more than what the kernel puts into one datagram of a dump (32 KiB).
	maxDatagram = 64 << 10
)

// socket is a NETLINK_NETFILTER socket in the namespace in which it was opened. One may read while
// another writes.
type socket struct {
	f   *os.File
	buf []byte
}

// open makes a socket in the thread's namespace that gets the events of the groups.
func open(groups ...int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, fmt.Errorf("the kernel has no netfilter netlink (module nfnetlink): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	s := &socket{f: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, maxDatagram)}
	// What a smaller buffer loses is counted, and read anew.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set netlink up: %w", err), s.close())
	}
	return s, nil
}

func (s *socket) close() error { return s.f.Close() }

// request sends a message of a kind: a netlink header and struct nfgenmsg for all families.
func (s *socket) request(kind, flags uint16, seq uint32) error {
	const size = unix.SizeofNlMsghdr + headerSize
	b := binary.NativeEndian.AppendUint32(nil, size)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, make([]byte, size-len(b))...)
	if _, err := s.f.Write(b); err != nil {
		return fmt.Errorf("send a netlink request: %w", err)
	}
	return nil
}

// receive waits for one datagram and shows its messages.
func (s *socket) receive(each func(*syscall.NetlinkMessage) error) error {
	n, err := s.f.Read(s.buf)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(s.buf[:n])
	if err != nil {
		return fmt.Errorf("read netlink messages: %w", err)
	}
	for i := range messages {
		if err := each(&messages[i]); err != nil {
			return err
		}
	}
	return nil
}

// within ends a wait in receive that lasts longer; 0 is for ever.
func (s *socket) within(d time.Duration) error {
	if d == 0 {
		return s.f.SetReadDeadline(time.Time{})
	}
	return s.f.SetReadDeadline(time.Now().Add(d))
}

// answer is the error in an NLMSG_ERROR message; an acknowledgement is none.
func answer(m *syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return errShort
	}
	if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
