package ifaces

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pause is the least time between two looks, so that a burst of changes is looked at together.
	pause = 100 * time.Millisecond
	// datagram is room for what the kernel tells of one link. What does not fit counts as missed.
	datagram = 16 << 10
)

// watcher listens to what the kernel tells of links, of addresses if they matter, and of mounts:
// namespaces that have a name are mounted. Its sockets keep namespaces alive, so it lets go of those that
// have lost their name.
type watcher struct {
	groups []int // of netlink, in every namespace
	mounts *mounts
	ticker *time.Ticker
	woken  chan struct{}
	stir   chan struct{} // something has happened
	done   chan struct{}
	tasks  sync.WaitGroup
	ears   map[uint64]*os.File // netlink sockets, by the inode of the namespace

	mu     sync.Mutex
	gone   []Key
	missed bool
}

func newWatcher(every time.Duration, addresses bool) (*watcher, error) {
	m, err := openMounts()
	if err != nil {
		return nil, err
	}
	w := &watcher{groups: []int{unix.RTNLGRP_LINK}, mounts: m, ticker: time.NewTicker(every),
		woken: make(chan struct{}), stir: make(chan struct{}, 1), done: make(chan struct{}),
		ears: map[uint64]*os.File{}}
	if addresses {
		w.groups = append(w.groups, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	}
	w.tasks.Go(w.run)
	w.tasks.Go(w.watchMounts)
	return w, nil
}

// run passes on what has happened, with pauses.
func (w *watcher) run() {
	for {
		select {
		case <-w.stir:
		case <-w.ticker.C:
			w.note(nil, true)
		case <-w.done:
			return
		}
		select {
		case w.woken <- struct{}{}:
		case <-w.done:
			return
		}
		select {
		case <-time.After(pause):
		case <-w.done:
			return
		}
	}
}

// note remembers what has happened for the next look.
func (w *watcher) note(gone []Key, missed bool) {
	w.mu.Lock()
	w.gone = append(w.gone, gone...)
	w.missed = w.missed || missed
	w.mu.Unlock()
	select {
	case w.stir <- struct{}{}:
	default: // the look that is to come will see this, too
	}
}

func (w *watcher) wake() <-chan struct{} { return w.woken }

func (w *watcher) deleted() (keys []Key, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys, more = w.gone, w.missed
	w.gone, w.missed = nil, false
	return keys, more
}

// follow listens in the namespaces that there are. One in which it cannot is looked at every so often.
func (w *watcher) follow(all []Namespace) error {
	there := map[uint64]bool{}
	var errs []error
	for _, ns := range all {
		there[ns.Inode] = true
		if w.ears[ns.Inode] != nil {
			continue
		}
		err := Enter(ns, func() error { return w.listen(ns.Inode) })
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("listen in network namespace %q: %w", ns.Name, err))
		}
	}
	for inode, ear := range w.ears {
		if !there[inode] {
			errs = append(errs, ear.Close())
			delete(w.ears, inode)
		}
	}
	return errors.Join(errs...)
}

// listen opens a socket in the thread's namespace.
func (w *watcher) listen(inode uint64) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	ear := os.NewFile(uintptr(fd), "netlink") // which waits without a thread
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range w.groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		ear.Close()
		return fmt.Errorf("set netlink up: %w", err)
	}
	w.ears[inode] = ear
	w.tasks.Go(func() { w.hear(inode, ear) })
	return nil
}

// hear notes what comes until the socket is closed.
func (w *watcher) hear(inode uint64, ear *os.File) {
	buf := make([]byte, datagram)
	for {
		n, err := ear.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			w.note(nil, true)
		}
		if errors.Is(err, unix.ENOBUFS) {
			continue // more has happened than the socket holds
		}
		if err != nil {
			return // from now on the clock alone tells of this namespace
		}
		indexes, err := deletedLinks(buf[:n])
		gone := make([]Key, len(indexes))
		for i, index := range indexes {
			gone[i] = Key{inode, index}
		}
		w.note(gone, err != nil)
	}
}

var errShort = errors.New("a netlink message is cut off")

// deletedLinks reads from a datagram which interfaces were deleted. Bridges say that a port has left
// by a message of the same type, with a family of its own.
func deletedLinks(data []byte) (indexes []int, err error) {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil, fmt.Errorf("read netlink messages: %w", err)
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_DELLINK {
			continue
		}
		if len(m.Data) < unix.SizeofIfInfomsg {
			return indexes, errShort
		}
		if m.Data[0] == unix.AF_UNSPEC { // struct ifinfomsg: family at 0, index at 4
			indexes = append(indexes, int(int32(binary.NativeEndian.Uint32(m.Data[4:]))))
		}
	}
	return indexes, nil
}

func (w *watcher) watchMounts() {
	for {
		changed, err := w.mounts.wait()
		if err != nil || !changed {
			return // it was closed; the clock goes on in any case
		}
		w.note(nil, false)
	}
}

func (w *watcher) close() error {
	w.ticker.Stop()
	close(w.done)
	errs := []error{w.mounts.hush()}
	for _, ear := range w.ears {
		errs = append(errs, ear.Close())
	}
	w.tasks.Wait()
	return errors.Join(append(errs, w.mounts.close())...)
}
