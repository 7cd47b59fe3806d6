package ifaces

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mounts tells when the list of mounts changes. Its descriptors are bare: Go's own waiting for a file would
// take the mark of a change away.
type mounts struct {
	list int
	bell int // an eventfd, which ends the wait
}

func openMounts() (*mounts, error) {
	list, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watch the mounts: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the mounts: %w", err), unix.Close(list))
	}
	return &mounts{list, bell}, nil
}

// wait returns when the list has changed since the last call, or false after hush. The kernel marks a
// change as an exceptional condition (proc_pid_mounts(5)), for which only poll(2) waits.
func (m *mounts) wait() (changed bool, err error) {
	fds := []unix.PollFd{{Fd: int32(m.list), Events: unix.POLLPRI}, {Fd: int32(m.bell), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("watch the mounts: %w", err)
		}
		return fds[1].Revents == 0, nil
	}
}

// hush ends the wait.
func (m *mounts) hush() error {
	_, err := unix.Write(m.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

func (m *mounts) close() error { return errors.Join(unix.Close(m.list), unix.Close(m.bell)) }
