package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/wire"
)

// FaultPrefix begins the names of the jobs that a guest interprets as faults, when its orders say
// that there are any.
const FaultPrefix = "fault/"

// Fault is something that goes wrong on purpose, to see that the harness notices.
type Fault struct {
	Name string // without FaultPrefix
	// Want is the verdict that the harness must come to.
	Want result.Verdict
	// Says is a part of the reason that it must give.
	Says string
	// What happens, in words.
	What string
	do   func(ctx context.Context, log *kernelLog) error
}

// Faults are all faults there are. What the kernel does in them is real, but for "warn" and
// "late": stock kernels have no way to be made to warn, so a line in the shape of a warning is
// written to the kernel's log.
var Faults = []Fault{
	{Name: "none", Want: result.Pass, What: "nothing: the control", do: nil},
	{Name: "panic", Want: result.Panic, Says: "sysrq", What: "the kernel panics",
		do: func(context.Context, *kernelLog) error { return sysrq("c") }},
	{Name: "warn", Want: result.Splat, Says: "WARNING: ", do: faultWarn,
		What: "the kernel's log has a warning (written by the guest)"},
	{Name: "late", Want: result.Splat, Says: "WARNING: ",
		What: "the same, after the record was sent"},
	{Name: "stall", Want: result.Splat, Says: "rcu", do: faultStall,
		What: "the CPU is held for so long that RCU complains"},
	{Name: "hang", Want: result.Hang, Says: "no sign of life", do: faultHang,
		What: "the CPU is held for ever"},
	{Name: "stuck", Want: result.Hang, Says: "did not return", do: faultStuck,
		What: "the scenario does not come to an end"},
	{Name: "exit", Want: result.Exit, Says: "exit status 3", What: "the worker exits early",
		do: func(context.Context, *kernelLog) error { os.Exit(3); return nil }},
	{Name: "crash", Want: result.Exit, Says: "panic: on purpose", do: faultCrash,
		What: "the worker panics in a goroutine"},
	{Name: "poweroff", Want: result.Exit, Says: "without a word", do: faultPowerOff,
		What: "the machine is switched off"},
	{Name: "memory", Want: result.Exit, Says: "Out of memory", do: faultMemory,
		What: "memory runs out"},
	{Name: "corrupt", Want: result.Corrupt, Says: "checksum", What: "the record arrives damaged"},
	{Name: "noise", Want: result.Corrupt, Says: "belong to no frame",
		What: "text gets between the frames"},
	{Name: "duplicate", Want: result.Corrupt, Says: "two records", What: "the record comes twice"},
	{Name: "lost", Want: result.Missing, Says: "no record", What: "the record does not come"},
}

func isFault(job string) bool { return strings.HasPrefix(job, FaultPrefix) }

// faultName is the fault that a job stands for: what follows a second slash only tells jobs apart.
func faultName(job string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(job, FaultPrefix), "/")
	return name
}

// runFault lets a fault happen. If the guest survives, the scenario passes: the harness has to
// find out by other means.
func runFault(ctx context.Context, job string, log *kernelLog) result.Scenario {
	for _, f := range Faults {
		if f.Name != faultName(job) {
			continue
		}
		if f.do != nil {
			switch err := f.do(ctx, log); {
			case errors.Is(err, errNoStall):
				return result.Scenario{Verdict: result.Skip, Reason: err.Error()}
			case err != nil:
				return result.Scenario{Verdict: result.Error, Reason: err.Error()}
			}
		}
		return result.Scenario{Verdict: result.Pass}
	}
	return result.Scenario{Verdict: result.Error, Reason: "no such fault"}
}

// faultSwallows sends something else in place of a record, or nothing, and tells whether it did.
func faultSwallows(job string, to *wire.Writer, end wire.End) bool {
	switch faultName(job) {
	case "lost":
		return true
	case "corrupt":
		frame := wire.Append(nil, wire.Frame{Type: wire.TypeEnd, Body: []byte(`{"index":0}`)})
		frame[len(frame)-2] ^= 1
		_ = to.Raw(frame)
		return true
	case "noise":
		_ = to.Raw([]byte("[    1.234567] something was printed here\n"))
	}
	return false
}

// faultAfterEnd does what a fault does after its record was sent.
func faultAfterEnd(job string, to *wire.Writer, end wire.End) {
	switch faultName(job) {
	case "duplicate":
		_ = to.Send(wire.TypeEnd, end)
	case "late":
		if k, err := openKernelLog(true); err == nil {
			_ = faultWarn(context.Background(), k)
			_ = unix.Close(k.fd)
		}
	}
}

func sysrq(key string) error { return os.WriteFile("/proc/sysrq-trigger", []byte(key), 0) }

func faultWarn(_ context.Context, log *kernelLog) error {
	_, err := unix.Write(log.fd, []byte("<4>WARNING: CPU: 0 PID: 1 at weir fault on purpose\n"))
	return err
}

func faultStuck(context.Context, *kernelLog) error { select {} }

func faultCrash(context.Context, *kernelLog) error {
	go panic("on purpose")
	select {}
}

func faultPowerOff(context.Context, *kernelLog) error {
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// faultMemory takes memory until the kernel kills the worker.
func faultMemory(ctx context.Context, _ *kernelLog) error {
	var taken [][]byte
	for ctx.Err() == nil {
		b, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("take memory: %w", err)
		}
		taken = append(taken, b)
	}
	runtime.KeepAlive(taken)
	return ctx.Err()
}

// faultHang holds the only CPU for ever.
func faultHang(context.Context, *kernelLog) error { return holdCPU(-1, func() {}) }

// errNoStall is for kernels, as 7.2, whose RCU puts up with a held CPU.
var errNoStall = errors.New("RCU does not complain on this kernel")

// faultStall holds the CPU for longer than RCU puts up with, and then lets go. RCU complains only
// when it was about to wait for something, so it is kept busy before, and there are several tries.
func faultStall(ctx context.Context, _ *kernelLog) error {
	const timeout = "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout"
	if err := os.WriteFile(timeout, []byte("3"), 0); err != nil {
		return fmt.Errorf("shorten RCU's patience: %w", err)
	}
	if err := os.WriteFile(expedite, []byte("0"), 0); err != nil { // the patience is that of the other way
		return fmt.Errorf("let RCU take its time: %w", err)
	}
	log, err := openKernelLog(true)
	if err != nil {
		return err
	}
	defer unix.Close(log.fd)
	busy, cancel := context.WithCancel(ctx)
	defer cancel()
	var waiting atomic.Bool
	go keepRCUBusy(busy, &waiting)
	midway := func() { // in the middle of a wait
		for since := time.Now(); time.Since(since) < 300*time.Microsecond; runtime.Gosched() {
			if !waiting.Load() {
				since = time.Now()
			}
		}
	}
	for range 3 {
		if err := holdCPU(4*time.Second, midway); err != nil {
			return err
		}
		if strings.Contains(strings.Join(log.drain(), "\n"), "rcu") {
			return nil
		}
	}
	return errNoStall
}

// keepRCUBusy makes the kernel wait for RCU again and again, as closing a packet socket does, and
// tells when it waits.
func keepRCUBusy(ctx context.Context, waiting *atomic.Bool) {
	for ctx.Err() == nil {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return
		}
		waiting.Store(true)
		_ = unix.Close(fd)
		waiting.Store(false)
	}
}

// holdCPU takes the CPU from everything else, kernel threads included, for a time; for ever when
// it is negative. It begins when the function returns.
func holdCPU(d time.Duration, begin func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := os.WriteFile("/proc/sys/kernel/sched_rt_runtime_us", []byte("-1"), 0); err != nil {
		return fmt.Errorf("lift real-time throttling: %w", err)
	}
	// From 6.12 a server keeps a share for the others.
	servers, _ := filepath.Glob("/sys/kernel/debug/sched/fair_server/cpu*/runtime")
	for _, s := range servers {
		if err := os.WriteFile(s, []byte("0"), 0); err != nil {
			return fmt.Errorf("stop the fair server: %w", err)
		}
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 99}
	begin()
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("go real-time: %w", err)
	}
	for start := time.Now(); d < 0 || time.Since(start) < d; {
		_ = d
	}
	attr.Policy, attr.Priority = unix.SCHED_NORMAL, 0
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("stop being real-time: %w", err)
	}
	return nil
}
