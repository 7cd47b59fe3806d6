// Package ifaces finds network interfaces in network namespaces, and notices those that come and go.
package ifaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Folder is where named network namespaces are mounted (iproute2's convention, ip-netns(8)).
const Folder = "/run/netns"

// Interface is an interface as it was found.
type Interface struct {
	Name      string
	Index     int
	Namespace string // as it was asked for
	Inode     uint64 // of the namespace
	L3        bool   // its frames begin with the IP header
}

// Path returns the file of a namespace, given by name or by path.
func Path(namespace string) string {
	if strings.ContainsRune(namespace, '/') {
		return namespace
	}
	return filepath.Join(Folder, namespace)
}

// Do calls fn on a locked thread inside a network namespace, given by name or path; "" is the
// caller's own. The thread goes back to its namespace, or dies with the call when it cannot.
func Do(namespace string, fn func() error) error {
	if namespace == "" {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return fn()
	}
	return away(fn, func() error {
		if err := enter(Path(namespace)); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", namespace, err)
		}
		return nil
	})
}

// DoNowhere runs a function like Do, in a network namespace of its own that has nothing in it. It ends with
// the function, unless that holds it.
func DoNowhere(fn func() error) error {
	return away(fn, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return nil
	})
}

// away runs a function on a locked thread that leave has brought into another network namespace. The thread goes
// back to its own, or dies with the call when it cannot; but the first thread of a process, which /proc/self
// speaks of, never dies.
func away(fn, leave func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the call has ended its goroutine") // unless it returns
		defer func() { done <- err }()
		runtime.LockOSThread()
		own, failed := os.Open("/proc/thread-self/ns/net")
		if failed == nil {
			defer own.Close()
			failed = leave()
		}
		if failed != nil {
			runtime.UnlockOSThread() // still where it was
			err = failed
			return
		}
		err = fn()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

// ByInode finds a file of the network namespace with an inode: where it is mounted, or of one of
// its processes. The error is os.ErrNotExist when there is neither.
func ByInode(inode uint64) (string, error) {
	if path, err := mountOf(inode); path != "" || err != nil {
		return path, err
	}
	files, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		var st syscall.Stat_t
		if syscall.Stat(file, &st) == nil && st.Ino == inode {
			return file, nil
		}
	}
	return "", fmt.Errorf("network namespace with inode %d: %w", inode, os.ErrNotExist)
}

// NameOf is what the network namespace with an inode is called: "" is the process's own, others have a file's
// path, and one that nothing leads to is "net:[inode]".
func NameOf(inode uint64) string {
	if own, err := inodeOf("/proc/self/ns/net"); err == nil && own == inode {
		return ""
	}
	if path, err := mountOf(inode); path != "" && err == nil {
		return path
	}
	return root(inode)
}

// root is the root of a network namespace in the list of mounts.
func root(inode uint64) string { return fmt.Sprintf("net:[%d]", inode) }

// mountOf finds where a network namespace is mounted, or "". Its root is "net:[inode]" in the
// list of mounts (proc_pid_mountinfo(5)).
func mountOf(inode uint64) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("list the mounts: %w", err)
	}
	want := root(inode)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && f[3] == want {
			return f[4], nil
		}
	}
	return "", nil
}

// enter moves the calling thread.
func enter(path string) error {
	target, err := os.Open(path)
	if err != nil {
		return err
	}
	defer target.Close()
	err = unix.Setns(int(target.Fd()), unix.CLONE_NEWNET)
	if errors.Is(err, unix.EINVAL) { // what was mounted on the file has gone
		err = fmt.Errorf("%w: no network namespace is there: %w", err, os.ErrNotExist)
	}
	return err
}

// Find looks an interface up by name. It must be called inside the namespace (see Do).
func Find(namespace, name string) (Interface, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Interface{}, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return Interface{}, fmt.Errorf("find interface %s: %w (there are: %s)", name, err, names(h))
	}
	inode, err := inodeOf("/proc/thread-self/ns/net")
	if err != nil {
		return Interface{}, fmt.Errorf("find the network namespace's inode: %w", err)
	}
	return interfaceOf(l.Attrs(), Namespace{namespace, inode}), nil
}

func names(h *netlink.Handle) string {
	links, err := h.LinkList()
	if err != nil {
		return "unknown"
	}
	var all []string
	for _, l := range links {
		all = append(all, l.Attrs().Name)
	}
	return strings.Join(all, " ")
}
