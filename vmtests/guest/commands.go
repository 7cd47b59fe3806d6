package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where named network namespaces are.
const namespaceDir = "/run/netns"

// inNamespace runs f with the thread in the network namespace of a name; "" is the own one. What
// f starts on other threads is not affected, but child processes are.
func inNamespace(name string, f func() error) error {
	if name == "" {
		return f()
	}
	runtime.LockOSThread() // a thread that does not get back is not used for anything else
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("find own namespace: %w", err)
	}
	defer own.Close()
	other, err := netns.GetFromPath(filepath.Join(namespaceDir, name))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("find namespace %s: %w", name, err)
	}
	defer other.Close()
	if err := netns.Set(other); err != nil {
		return fmt.Errorf("enter namespace %s: %w", name, err)
	}
	err = f()
	if back := netns.Set(own); back != nil {
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", name, back))
	}
	runtime.UnlockOSThread()
	return err
}

// inChosen runs f with a netlink handle of the namespace that args name, or of the own one.
func inChosen(args []string, f func(*netlink.Handle) error) error {
	return inNamespace(strings.Join(args, ""), func() error {
		// Only this family: a guest lacks others, and the library would open them all.
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		return f(h)
	})
}

func shellLinks(_ context.Context, _ *worker, args []string, out io.Writer) error {
	return inChosen(args, func(h *netlink.Handle) error {
		links, err := h.LinkList()
		if err != nil {
			return fmt.Errorf("list interfaces: %w", err)
		}
		for _, l := range links {
			a := l.Attrs()
			fmt.Fprintf(out, "%3d %-12s %-8s %-17s mtu %-5d %s\n", a.Index, a.Name, l.Type(),
				a.HardwareAddr, a.MTU, a.Flags)
			addrs, err := h.AddrList(l, unix.AF_UNSPEC)
			if err != nil {
				return fmt.Errorf("list addresses of %s: %w", a.Name, err)
			}
			for _, addr := range addrs {
				fmt.Fprintf(out, "    %s\n", addr.IPNet)
			}
			if s := a.Statistics; s != nil && s.RxPackets+s.TxPackets > 0 {
				fmt.Fprintf(out, "    received %d packets, %d bytes; sent %d packets, %d bytes\n",
					s.RxPackets, s.RxBytes, s.TxPackets, s.TxBytes)
			}
		}
		return nil
	})
}

func shellRoutes(_ context.Context, _ *worker, args []string, out io.Writer) error {
	return inChosen(args, func(h *netlink.Handle) error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			routes, err := h.RouteList(nil, family)
			if err != nil {
				return fmt.Errorf("list routes: %w", err)
			}
			for _, r := range routes {
				fmt.Fprintln(out, r)
			}
		}
		return nil
	})
}

func shellNamespaces(_ context.Context, _ *worker, _ []string, out io.Writer) error {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		fmt.Fprintln(out, e.Name())
	}
	return err
}

func shellList(_ context.Context, _ *worker, args []string, out io.Writer) error {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		fmt.Fprintln(out, name)
	}
	return err
}

func shellCat(_ context.Context, _ *worker, args []string, out io.Writer) error {
	for _, name := range args {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, io.LimitReader(f, 1<<20))
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func shellWrite(_ context.Context, _ *worker, args []string, _ io.Writer) error {
	if len(args) < 2 {
		return errors.New("write: want a file and a text")
	}
	return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")+"\n"), 0o644)
}

func shellProcesses(_ context.Context, _ *worker, _ []string, out io.Writer) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		line := strings.ReplaceAll(readText(filepath.Join(d, "cmdline")), "\x00", " ")
		if line == "" {
			line = "[" + readText(filepath.Join(d, "comm")) + "]"
		}
		fmt.Fprintf(out, "%5s %s\n", filepath.Base(d), line)
	}
	return err
}

func shellModules(_ context.Context, _ *worker, _ []string, out io.Writer) error {
	_, err := fmt.Fprintln(out, readText("/proc/modules"))
	return err
}
