// Package doctor finds out, before the agent is installed, what will work on a host. It tries things
// rather than ask for versions: distributions put new parts into old kernels and leave others out.
package doctor

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/privileges"
	"github.com/weirnet/weir/bpf"
)

// Finding is what came of one check.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Needed says that the agent cannot do its work without.
	Needed bool `json:"needed,omitempty"`
	// Detail is what was found, or the error; Consequence is what that means, "" when all is well.
	Detail      string `json:"detail,omitempty"`
	Consequence string `json:"consequence,omitempty"`
}

// Note makes a finding of an error, or of its absence.
func Note(check, consequence string, err error) Finding {
	f := Finding{Check: check, OK: err == nil}
	if err != nil {
		f.Detail, f.Consequence = err.Error(), consequence
	}
	return f
}

// Examine checks the host. Nothing that it tries stays.
func Examine() []Finding {
	all := append([]Finding{system()}, capabilities()...)
	_, err := btf.LoadKernelSpec()
	all = append(all, Note("kernel types (BTF)",
		"features that trace the kernel (drops, rtt) and the sweep's iterator need them", err))
	all = append(all, datapath()...)
	return append(all, pins())
}

// system only tells what the host is; nothing is concluded from it.
func system() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Note("system", "", err)
	}
	return Finding{Check: "system", OK: true, Detail: fmt.Sprintf("Linux %s, %s, %d CPUs",
		unix.ByteSliceToString(u.Release[:]), runtime.GOARCH, runtime.NumCPU())}
}

// capabilities checks what this process may do.
func capabilities() []Finding {
	var all []Finding
	for _, n := range privileges.Needs() {
		f := Note(n.Cap.String(), n.Without, missing(n.Cap))
		f.Needed = n.Always
		all = append(all, f)
	}
	return all
}

// missing is an error when the process does not have a capability.
func missing(v cap.Value) error {
	has, err := cap.GetProc().GetFlag(cap.Effective, v)
	if err != nil {
		return err
	}
	if !has {
		return errors.New("this process does not have it")
	}
	return nil
}

// datapath loads the datapath, and attaches it to the loopback device of a network namespace of its own.
func datapath() []Finding {
	const table = 64
	dp, err := bpf.Load(bpf.Options{Table: table})
	load := Note("datapath", "the agent cannot run here", err)
	load.Needed = true
	if err != nil {
		return []Finding{load}
	}
	defer dp.Close()
	clock := Finding{Check: "coarse clock", OK: dp.Probes.CoarseClock}
	if !clock.OK {
		clock.Consequence = "the packet path reads a clock that costs more"
	}
	all := []Finding{load, clock,
		Note("iterator", "tables are swept in batches, which costs more", dp.Probes.NoIterator)}
	tcx, tc := attach(dp, bpf.TCX), attach(dp, bpf.TC)
	fallback := Note("attach by tc", "", tc)
	fallback.Needed = tcx != nil
	switch {
	case tc != nil && tcx != nil:
		fallback.Consequence = "the agent cannot watch interfaces here"
	case tc != nil:
		fallback.Consequence = "none: tcx works"
	}
	return append(all, Note("attach by tcx", "interfaces are attached to by tc (clsact): programs end when the "+
		"interface's qdisc is replaced", tcx), fallback)
}

// loopback has this index in every network namespace (Linux has seen to it since 2.6.24).
const loopback = 1

// attach tries a way to attach. The thread that it is tried on ends with its namespace.
func attach(dp *bpf.Datapath, mode string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("not known: make a network namespace to try it in: %w", err)
			return
		}
		at, err := dp.Attach(bpf.Hook{Interface: loopback, Mode: mode})
		if err == nil {
			err = dp.Detach(at)
		}
		done <- err
	}()
	return <-done
}

// pins looks for the BPF file system.
func pins() Finding {
	var st unix.Statfs_t
	err := unix.Statfs(bpffs.Folder, &st)
	if err == nil && st.Type != unix.BPF_FS_MAGIC {
		err = errors.New("no BPF file system is mounted there")
	}
	if err != nil && os.IsPermission(err) {
		err = fmt.Errorf("not known: %w", err)
	}
	return Note(bpffs.Folder, "with `pin`, the agent mounts one, for which it needs CAP_SYS_ADMIN; without `pin`, what "+
		"was counted is lost when the agent is killed", err)
}
