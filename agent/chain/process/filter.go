package process

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are the system calls that change the host, look into other processes, or are a way into the kernel that a
// program beside a chain has no business with; those that only some architectures have are in refusedHere. The
// process gets EPERM.
var refused = map[string]uint32{
	// the tree of files
	"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT,
	"move_mount": unix.SYS_MOVE_MOUNT, "open_tree": unix.SYS_OPEN_TREE, "fsopen": unix.SYS_FSOPEN,
	"fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT, "fspick": unix.SYS_FSPICK,
	"mount_setattr": unix.SYS_MOUNT_SETATTR, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF,
	"quotactl": unix.SYS_QUOTACTL, "quotactl_fd": unix.SYS_QUOTACTL_FD, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"fanotify_init": unix.SYS_FANOTIFY_INIT,
	// namespaces; with clone, see below
	"setns": unix.SYS_SETNS, "unshare": unix.SYS_UNSHARE,
	// other processes
	"ptrace": unix.SYS_PTRACE, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"process_madvise": unix.SYS_PROCESS_MADVISE, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "kcmp": unix.SYS_KCMP,
	// the kernel
	"init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE, "delete_module": unix.SYS_DELETE_MODULE,
	"kexec_load": unix.SYS_KEXEC_LOAD, "reboot": unix.SYS_REBOOT, "syslog": unix.SYS_SYSLOG, "acct": unix.SYS_ACCT,
	"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD,
	"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER,
	"io_uring_register": unix.SYS_IO_URING_REGISTER,
	"add_key":           unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY, "keyctl": unix.SYS_KEYCTL,
	// the host's time and name
	"settimeofday": unix.SYS_SETTIMEOFDAY, "clock_settime": unix.SYS_CLOCK_SETTIME, "clock_adjtime": unix.SYS_CLOCK_ADJTIME,
	"adjtimex": unix.SYS_ADJTIMEX, "sethostname": unix.SYS_SETHOSTNAME, "setdomainname": unix.SYS_SETDOMAINNAME,
	"vhangup": unix.SYS_VHANGUP,
}

// namespaceFlags are those with which clone makes namespaces (linux/sched.h). CLONE_NEWTIME is not among them: for
// clone, it is part of a signal's number.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// architectures are how the kernel names those that weir runs on (linux/audit.h).
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64,
	"riscv64": unix.AUDIT_ARCH_RISCV64}

// x32Bit marks system calls of x86-64's 32-bit way (asm/unistd.h), which have the same architecture.
const x32Bit = 0x40000000

func refusedAll() map[string]uint32 {
	all := maps.Clone(refused)
	maps.Copy(all, refusedHere)
	return all
}

func checkSyscall(name string) error {
	all := refusedAll()
	if _, ok := all[name]; ok {
		return nil
	}
	return fmt.Errorf("%q is none of the system calls that are refused: %s", name,
		strings.Join(slices.Sorted(maps.Keys(all)), ", "))
}

// Offsets in struct seccomp_data (linux/seccomp.h), of a machine that is little-endian.
const (
	dataNumber   = 0
	dataArch     = 4
	dataFirstArg = 16
)

const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

// filter is the classic BPF program that judges system calls. Those in allowed it lets pass. A process of another
// architecture, whose numbers would mean something else, is killed.
func filter(allowed []string) ([]unix.SockFilter, error) {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return nil, errors.New("there is no filter of system calls for this architecture")
	}
	p := []unix.SockFilter{
		load(dataArch), unlessEqual(arch, 1), // 1: the next instruction alone
		give(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNumber),
	}
	if runtime.GOARCH == "amd64" {
		p = append(p, jump(unix.BPF_JGE, x32Bit, 0, 1), give(refuse))
	}
	all := refusedAll()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(allowed, name) {
			p = append(p, jump(unix.BPF_JEQ, all[name], 0, 1), give(refuse))
		}
	}
	if !slices.Contains(allowed, "unshare") {
		p = append(p,
			// The flags of clone3 are in memory, where a filter cannot look. Libraries take clone instead.
			jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), give(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
			jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 3),
			load(dataFirstArg), jump(unix.BPF_JSET, namespaceFlags, 0, 1), give(refuse))
	}
	return append(p, give(unix.SECCOMP_RET_ALLOW)), nil
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func give(verdict uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: yes, Jf: no}
}

// unlessEqual skips instructions when the value is k.
func unlessEqual(k uint32, skip uint8) unix.SockFilter { return jump(unix.BPF_JEQ, k, skip, 0) }

// install puts a filter before the system calls of this thread and of what it becomes. The thread must not be able to
// get new privileges.
func install(p []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return fmt.Errorf("install the filter of system calls: %w", err)
	}
	return nil
}
