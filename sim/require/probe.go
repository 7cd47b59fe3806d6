package require

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/cgroup"
	"github.com/weirnet/weir/sim/oracle"
)

// Prober asks the kernel at hand, once for each feature. It is for one goroutine at a time.
type Prober struct {
	known map[string]error
}

// Missing lists those of the features that the kernel lacks. An error is one of asking.
func (p *Prober) Missing(features []string) ([]string, error) {
	var missing []string
	for _, name := range features {
		err, asked := p.known[name]
		if !asked {
			err = probe(name)
			if p.known == nil {
				p.known = map[string]error{}
			}
			p.known[name] = err
		}
		switch {
		case errors.Is(err, errMissing):
			missing = append(missing, name)
		case err != nil:
			return nil, fmt.Errorf("ask the kernel for %s: %w", name, err)
		}
	}
	return missing, nil
}

// errMissing is what probe ends with when the kernel has no such feature.
var errMissing = errors.New("not there")

// probe tries the feature in a network namespace that vanishes with its thread.
func probe(name string) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		result <- try(name)
	}()
	return <-result
}

// loopback is the index of the loopback interface in every namespace.
const loopback = 1

func try(name string) error {
	switch name {
	case "ipv6":
		return missingIf(exists("/proc/sys/net/ipv6"), os.ErrNotExist)
	case "tun":
		return missingIf(openable("/dev/net/tun"), unix.ENOENT, unix.ENODEV, unix.ENXIO)
	case "tcx":
		return missingIf(tcx(), ebpf.ErrNotSupported)
	case "tc":
		return missingIf(netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: loopback, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}}), unix.ENOENT, unix.EOPNOTSUPP)
	case "cgroup2":
		return missingIf(cgroup2(), cgroup.ErrNone, fs.ErrPermission, unix.EROFS)
	case "memcg":
		return missingIf(memcg(), cgroup.ErrNone, fs.ErrPermission, unix.EROFS)
	case "nf_conntrack":
		there, err := oracle.Probe()
		if err == nil && !there {
			err = errMissing
		}
		return err
	}
	return kind(name)
}

// cgroup2 makes a control group of version 2.
func cgroup2() error {
	t, err := cgroup.NewTree("weir-probe")
	if err != nil {
		return err
	}
	return t.Close()
}

// memcg makes a control group for memory.
func memcg() error {
	g, err := cgroup.New("weir-probe")
	if err != nil {
		return err
	}
	return g.Close()
}

// kind tries a kind of link. A kernel that knows it may want more than its name and say so.
func kind(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	err = h.LinkAdd(&netlink.GenericLink{LinkType: name,
		LinkAttrs: netlink.LinkAttrs{Name: "weir-probe", ParentIndex: loopback}})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errMissing
	}
	return nil
}

// tcx attaches a program that does nothing.
func tcx() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		return err
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: loopback, Program: p, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	return l.Close()
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

func openable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// missingIf makes some errors errMissing.
func missingIf(err error, signs ...error) error {
	for _, s := range signs {
		if errors.Is(err, s) {
			return errMissing
		}
	}
	return err
}
