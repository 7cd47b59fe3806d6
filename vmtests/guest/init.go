package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/wire"
)

// initMain is PID 1. When it cannot go on it says so on the console and powers the machine off:
// the host sees an end without a good-bye.
func initMain() {
	defer powerOff()
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "weir: set up guest:", err)
		return
	}
	line, err := openLine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "weir:", err)
		return
	}
	to := wire.NewWriter(line)
	if err := to.Send(wire.TypeHello, wire.Hello{Release: release()}); err != nil {
		fmt.Fprintln(os.Stderr, "weir:", err)
		return
	}
	modules()
	if died := supervise(); died != nil {
		died.Kernel = lastKernelLines()
		_ = to.Send(wire.TypeDied, died)
		drainLine(line)
	}
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // without ACPI; QEMU ends either way
	select {}
}

// mounts are made in this order. One that a kernel does not have is left out.
var mounts = []struct{ kind, at, data string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"tmpfs", "/run", "mode=0755"},
	{"tmpfs", "/tmp", "mode=1777"},
	{"bpf", "/sys/fs/bpf", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"debugfs", "/sys/kernel/debug", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
}

// settings are kernel settings of every guest.
var settings = map[string]string{
	// Warnings go to the console too, so that they are seen when the guest dies of them.
	"kernel/printk": "5",
	// The host interrupts a guest that hangs, which then tells where.
	"kernel/unknown_nmi_panic": "1",
	"net/core/bpf_jit_enable":  "1",
	// Tunnels' modules make no interfaces that nobody asked for in every namespace.
	"net/core/fb_tunnels_only_for_init_net": "2",
}

// accounts are the users of a guest: passwd(5).
const accounts = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"

// searched is where programs are: weir, and those of the host.
const searched = "/:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// expedite makes what waits for a grace period of RCU, as closing a packet socket does, wait for no
// more than it has to. Otherwise a guest idles for a sixth of the time of scenarios.
const expedite = "/sys/kernel/rcu_expedited"

// setUp makes the machine one that programs can run in.
func setUp() error {
	for _, m := range mounts {
		err := unix.Mount(m.kind, m.at, m.kind, 0, m.data)
		switch {
		case err == nil, errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENODEV),
			errors.Is(err, unix.ENOENT):
		default:
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	for name, value := range settings {
		err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := os.WriteFile(expedite, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("expedite RCU: %w", err)
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		return fmt.Errorf("unlimit locked memory: %w", err)
	}
	if err := os.WriteFile("/etc/passwd", []byte(accounts), 0o644); err != nil {
		return fmt.Errorf("tell of users: %w", err)
	}
	if err := unix.Sethostname([]byte("weir")); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return linkUp("lo")
}

// linkUp switches an interface on.
func linkUp(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// modules loads what the initramfs holds. One that does not load is a line on the console and no
// more: the scenarios that need it will fail and say why.
func modules() {
	for line := range strings.Lines(readText(initramfs.ModuleList)) {
		name, parameters, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := loadModule(initramfs.ModuleDir+"/"+name, parameters); err != nil {
			fmt.Fprintf(os.Stderr, "weir: load module %s: %v\n", name, err)
		}
	}
}

func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// memoryLimit is the memory from which on a Go program in a guest collects garbage.
const memoryLimit = "160MiB"

// supervise runs the worker. It returns nil when the worker ended as it should.
func supervise() *wire.Died {
	cmd := exec.Command(initramfs.Init)
	// Emulated, collecting garbage is dear, and there is memory for less of it: a twentieth of the
	// time of scenarios. What the worker starts does the same.
	cmd.Env = []string{envRole + "=" + roleWorker, "PATH=" + searched, "HOME=/root", "GOTRACEBACK=all",
		"GOGC=off", "GOMEMLIMIT=" + memoryLimit}
	cmd.Dir = "/root"
	out, in, err := os.Pipe()
	if err != nil {
		return &wire.Died{How: "make pipe: " + err.Error()}
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return &wire.Died{How: "start worker: " + err.Error()}
	}
	_ = in.Close()
	said := make(chan string)
	go func() { said <- lastBytes(out, 32<<10) }()
	status := reap(cmd.Process.Pid)
	switch {
	case status.Exited() && status.ExitStatus() == 0:
		return nil
	case status.Exited():
		return &wire.Died{How: fmt.Sprintf("exit status %d", status.ExitStatus()), Stderr: <-said}
	}
	// Children of a worker that was killed may hold the pipe open: they have to go too.
	_ = unix.Kill(-1, unix.SIGKILL)
	return &wire.Died{How: fmt.Sprintf("signal %d (%v)", status.Signal(), status.Signal()),
		Stderr: <-said}
}

// reap waits for a child, and on the way for the orphans that fall to PID 1.
func reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case got == pid:
			return status
		case errors.Is(err, syscall.ECHILD):
			return 0
		}
	}
}

// lastBytes reads r to its end and gives its last n bytes.
func lastBytes(r io.Reader, n int) string {
	var kept []byte
	buf := make([]byte, 4096)
	for {
		m, err := r.Read(buf)
		kept = append(kept, buf[:m]...)
		kept = kept[max(0, len(kept)-n):]
		if err != nil {
			return string(kept)
		}
	}
}

func readText(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}

// release is the kernel's release, as uname -r prints it.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
