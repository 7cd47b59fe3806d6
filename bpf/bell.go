package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bell is rung by the packet path when its events should be read before the next sweep: an eighth of
// the ring buffer is filled, or a packet has found no place while the alarm was set (SetAlarm).
type Bell struct {
	epoll int
	quiet int // an eventfd: written to, it ends Wait
}

// Bell returns a new bell. It stays usable while the datapath is closed.
func (d *Datapath) Bell() (*Bell, error) {
	b := &Bell{epoll: -1, quiet: -1}
	if err := b.open(d.objs.Events.FD()); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the ring buffer: %w", err), b.Close())
	}
	return b, nil
}

func (b *Bell) open(ring int) (err error) {
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if b.quiet, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	// By edge: a ring buffer is ready for reading while it holds anything at all, and few events
	// may wait for the next sweep.
	on := map[int]uint32{ring: unix.EPOLLIN | unix.EPOLLET, b.quiet: unix.EPOLLIN}
	for fd, events := range on {
		event := unix.EpollEvent{Events: events, Fd: int32(fd)}
		if err := unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return err
		}
	}
	return nil
}

// Wait waits for the bell to ring, and returns false when Hush was called. What waits already when
// the bell is made counts as a ring.
func (b *Bell) Wait() (rang bool, err error) {
	events := make([]unix.EpollEvent, 2)
	for {
		n, err := unix.EpollWait(b.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait for the ring buffer: %w", err)
		}
		for _, e := range events[:n] {
			if int(e.Fd) == b.quiet {
				return false, nil
			}
		}
		return true, nil
	}
}

// Hush ends Wait, from any goroutine and for ever.
func (b *Bell) Hush() error {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(b.quiet, one); err != nil {
		return fmt.Errorf("end the wait for the ring buffer: %w", err)
	}
	return nil
}

// Close lets go of the bell. Nobody may wait any more.
func (b *Bell) Close() error {
	var errs []error
	for _, fd := range []int{b.epoll, b.quiet} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
