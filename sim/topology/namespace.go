package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// create makes the host's namespace, bound to its path, and opens what works inside it.
func (h *host) create(home netns.NsHandle) error {
	return onThread(home, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := bindNamespace(h.path); err != nil {
			return err
		}
		var err error
		if h.ns, err = netns.GetFromPath(h.path); err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if err := h.sysctls(); err != nil {
			return err
		}
		if h.ioctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			h.ioctl = -1
			return fmt.Errorf("open socket: %w", err)
		}
		h.conn, err = dial()
		return err
	})
}

// bindNamespace binds the thread's network namespace to a path, which keeps it alive.
func bindNamespace(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder of namespaces: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("bind namespace to %s: %w", path, err)
	}
	return nil
}

// removeNamespace undoes bindNamespace. A path that is not there is no error.
func removeNamespace(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	// EINVAL: a mount point whose mount was not made yet, or is gone.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove namespace: %w", err)
	}
	return nil
}

// Do runs a function on a thread that is inside the host. What the function starts on other
// goroutines is not inside. A panic or runtime.Goexit in it comes through to the caller.
func (n *Network) Do(host string, do func() error) error {
	h := n.host(host)
	return onThread(n.home, func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("enter namespace %s: %w", h.name, err)
		}
		return do()
	})
}

// onThread runs a function on a thread of its own and brings the thread back home. A thread
// that cannot be brought back is thrown away: it must never run other goroutines.
func onThread(home netns.NsHandle, do func() error) (err error) {
	var panicked any
	exited := true
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer func() {
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			} // a goroutine that ends locked takes its thread with it
		}()
		defer func() { panicked = recover() }()
		err = do()
		exited = false
	}()
	<-done
	switch {
	case panicked != nil:
		panic(panicked)
	case exited:
		runtime.Goexit()
	}
	return err
}
