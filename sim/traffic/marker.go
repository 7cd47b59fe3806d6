package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// markerType is the Ethernet type "local experimental 1" of IEEE 802.
const markerType = 0x88b5

// marker is a veth pair of the engine's own, in a namespace where nothing else happens. A frame
// that goes in at one end comes out at the other when the CPU's backlog has come to it.
type marker struct {
	tx, rx   int
	to       unix.SockaddrLinklayer
	sequence uint64
	late     uint64 // markers that were not there when send returned: the backlog was put off
}

// newMarker makes the pair in the namespace of the calling thread.
func newMarker() (*marker, error) {
	m := &marker{tx: -1, rx: -1}
	in, out, err := markerLink()
	if err == nil {
		m.to = unix.SockaddrLinklayer{Ifindex: in}
		err = m.open(out)
	}
	if err == nil {
		err = m.first()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the marker's link: %w", err), m.close())
	}
	return m, nil
}

// markerLink makes the veth pair and returns the indexes of its ends. Only the route family of
// netlink is used: a kernel for guests may lack the others.
func markerLink() (in, out int, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, 0, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "in"}, PeerName: "out"}
	if err := h.LinkAdd(pair); err != nil {
		return 0, 0, fmt.Errorf("add a veth pair: %w", err)
	}
	var index [2]int
	for i, name := range []string{"in", "out"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return 0, 0, fmt.Errorf("find the veth pair: %w", err)
		}
		if err := h.LinkSetUp(link); err != nil {
			return 0, 0, fmt.Errorf("set the veth pair up: %w", err)
		}
		index[i] = link.Attrs().Index
	}
	return index[0], index[1], nil
}

func (m *marker) open(out int) (err error) {
	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if m.tx, err = unix.Socket(unix.AF_PACKET, kind, 0); err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	if m.rx, err = unix.Socket(unix.AF_PACKET, kind, 0); err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	err = unix.Bind(m.rx, &unix.SockaddrLinklayer{Protocol: networkOrder(markerType), Ifindex: out})
	if err != nil {
		return fmt.Errorf("bind a packet socket: %w", err)
	}
	return nil
}

// first sends markers until one arrives: a new link drops what is sent before the kernel's link
// watch, which runs when it likes, has activated its queue.
func (m *marker) first() error {
	deadline := time.Now().Add(patience)
	for {
		err := m.send()
		if err == nil {
			err = m.arrived(time.Now().Add(time.Millisecond))
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// pass sends hops markers, each when the one before it has arrived.
func (m *marker) pass(ctx context.Context, hops int) error {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	for range hops {
		if err := m.send(); err != nil {
			return err
		}
		if err := m.arrived(deadline); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *marker) send() error {
	m.sequence++
	frame := [22]byte{12: markerType >> 8, 13: markerType & 0xff}
	binary.BigEndian.PutUint64(frame[14:], m.sequence)
	err := retry(func() error { return unix.Sendto(m.tx, frame[:], 0, &m.to) })
	if err != nil {
		return fmt.Errorf("send a marker: %w", err)
	}
	return nil
}

// errStuck is what a wait ends with when the kernel does not finish.
var errStuck = errors.New("the kernel has not finished with the packets in time")

// arrived waits for the last marker that was sent.
func (m *marker) arrived(deadline time.Time) error {
	var frame [22]byte
	for {
		n, _, err := unix.Recvfrom(m.rx, frame[:], 0)
		switch {
		case err == nil && n == len(frame):
			if binary.BigEndian.Uint64(frame[14:]) == m.sequence {
				return nil
			}
		case errors.Is(err, unix.EAGAIN):
			m.late++
			if err := readable(m.rx, deadline); err != nil {
				return err
			}
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("receive a marker: %w", err)
		}
	}
}

// readable waits until the socket can be read.
func readable(fd int, deadline time.Time) error { return poll(fd, unix.POLLIN, deadline) }

// poll waits for events on fd. Errors of the socket count as an event: the next call reports
// them.
func poll(fd int, events int16, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errStuck
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}

func (m *marker) close() error {
	var errs []error
	for _, fd := range []*int{&m.tx, &m.rx} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
