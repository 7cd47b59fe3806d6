package topology

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// maxBatch keeps a batch of requests below the socket's send buffer.
const maxBatch = 32 << 10

// conn is a NETLINK_ROUTE socket that sends requests in batches: a topology takes dozens, and
// on an emulated machine every system call costs.
type conn struct {
	fd      int
	seq     uint32
	batch   []byte
	waiting []string // what each request of the batch is for, in order
	first   uint32   // sequence number of the first of them
	buf     []byte
}

// dial opens a socket in the thread's namespace.
func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, 64<<10)}
	// The kernel always answers; the limit is for a bug of ours, which must not hang a run.
	limit := unix.NsecToTimeval((30 * time.Second).Nanoseconds())
	err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set netlink up: %w", err)
	}
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// request is a request without sequence number.
type request struct {
	kind  uint16
	flags uint16
	parts []nl.NetlinkRequestData
}

// create is a request to make something that must not be there yet.
func create(kind uint16, parts ...nl.NetlinkRequestData) request {
	return request{kind, unix.NLM_F_CREATE | unix.NLM_F_EXCL, parts}
}

// replace is a request to make something, or to change what is there.
func replace(kind uint16, parts ...nl.NetlinkRequestData) request {
	return request{kind, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, parts}
}

// change is a request to change something.
func change(kind uint16, parts ...nl.NetlinkRequestData) request {
	return request{kind, 0, parts}
}

// queue adds a request to the batch. what names it in errors.
func (c *conn) queue(what string, r request) {
	if len(c.waiting) == 0 {
		c.first = c.seq + 1
	}
	c.batch = append(c.batch, c.serialize(r, unix.NLM_F_ACK)...)
	c.waiting = append(c.waiting, what)
}

func (c *conn) serialize(r request, flags uint16) []byte {
	c.seq++
	req := &nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: r.kind,
		Flags: unix.NLM_F_REQUEST | flags | r.flags, Seq: c.seq}, Data: r.parts}
	return req.Serialize()
}

// flush sends the batch and returns the first error, with what it was about. Requests behind
// one that fails are carried out all the same, so the network is only good without an error.
func (c *conn) flush() error {
	var first error
	for len(c.waiting) > 0 {
		size, count := c.fitting()
		err := c.exchange(c.batch[:size], c.waiting[:count])
		c.batch, c.waiting, c.first = c.batch[size:], c.waiting[count:], c.first+uint32(count)
		if first == nil {
			first = err
		}
	}
	return first
}

// fitting is how much of the batch is sent at once.
func (c *conn) fitting() (size, count int) {
	for size < len(c.batch) {
		length := int(binary.NativeEndian.Uint32(c.batch[size:]))
		if size > 0 && size+length > maxBatch {
			break
		}
		size, count = size+length, count+1
	}
	return size, count
}

// exchange sends requests and waits for the acknowledgement of each.
func (c *conn) exchange(batch []byte, what []string) error {
	if err := unix.Sendto(c.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send netlink request: %w", err)
	}
	var first error
	for left := len(what); left > 0; {
		err := c.receive(func(m syscall.NetlinkMessage) {
			i := int(m.Header.Seq - c.first)
			if m.Header.Type != unix.NLMSG_ERROR || i < 0 || i >= len(what) {
				return
			}
			left--
			if err := messageError(m); err != nil && first == nil {
				first = fmt.Errorf("%s: %w", what[i], err)
			}
		})
		if err != nil {
			return err
		}
	}
	return first
}

// receive reads one datagram of messages.
func (c *conn) receive(each func(syscall.NetlinkMessage)) error {
	n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("receive netlink answer: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(c.buf[:n])
	if err != nil {
		return fmt.Errorf("parse netlink answer: %w", err)
	}
	for _, m := range messages {
		each(m)
	}
	return nil
}

// messageError is the error in an NLMSG_ERROR message; an acknowledgement is none.
func messageError(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return errors.New("short netlink answer")
	}
	if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// dump asks for a list and hands over its messages.
func (c *conn) dump(r request, each func(syscall.NetlinkMessage)) error {
	b := c.serialize(r, unix.NLM_F_DUMP)
	if err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send netlink request: %w", err)
	}
	var failed error
	for done := false; !done; {
		err := c.receive(func(m syscall.NetlinkMessage) {
			switch {
			case m.Header.Seq != c.seq:
			case m.Header.Type == unix.NLMSG_DONE:
				done = true
			case m.Header.Type == unix.NLMSG_ERROR:
				done, failed = true, messageError(m)
			default:
				each(m)
			}
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// unsupported tells a kernel without the feature from other errors.
func unsupported(feature string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return &Unsupported{Feature: feature, Err: err}
	}
	return err
}
