// Package qemu runs virtual machines: it builds the command line, starts QEMU, watches and kills
// it, reads the console, and saves and restores snapshots.
//
// No QEMU outlives the process that started it. Nothing is trusted about its exit code: a guest
// that panics makes it exit with status 0, as a clean power-off does.
package qemu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Program is the QEMU that is started.
const Program = "qemu-system-x86_64"

// Accel is how a guest's instructions are run.
type Accel string

// The accelerators. Auto is decided by a trial boot.
const (
	Auto Accel = "auto"
	TCG  Accel = "tcg"
	KVM  Accel = "kvm"
)

// ParseAccel reads an accelerator's name.
func ParseAccel(s string) (Accel, error) {
	switch a := Accel(s); a {
	case Auto, TCG, KVM:
		return a, nil
	}
	return "", fmt.Errorf("unknown accelerator %q: want %s, %s or %s", s, Auto, TCG, KVM)
}

// Machine describes a virtual machine. Machines that restore a snapshot must be equal to the one
// that saved it in everything but Incoming.
type Machine struct {
	Accel     Accel // TCG or KVM
	Kernel    string
	Initrd    string
	Append    []string // kernel arguments after the usual ones
	MemoryMiB int
	CPUs      int
	// TSCkHz is the rate of the host's time stamp counter, see MeasureTSC; zero leaves it to an
	// emulated guest to find out.
	TSCkHz int
	// Exact makes every run of the machine the same: instructions are counted, and its clock goes by
	// them, not by the host's. It is for one CPU and TCG, and for guests that nothing is sent to:
	// when that would arrive is the host's matter.
	Exact bool
	// Seed is what QEMU draws from for an exact machine, and so what makes a run of it another one.
	Seed uint64
	// Record is a file for all that comes to an exact machine from outside, Replay one from which it comes
	// again, so that the run is the same in whatever the guest sees. Either may be empty.
	Record, Replay string
	// Debug is where QEMU waits for a debugger before anything runs: "tcp::1234", as it has it. Empty: it
	// does not.
	Debug string
	// RAM is a file that holds the guest's memory; empty keeps it anonymous. The file is
	// written to, unless Incoming is set: then it is copied on write.
	RAM string
	// Incoming waits for the state of a snapshot instead of booting.
	Incoming bool
}

// usual are the kernel arguments of every guest. A panic, an oops or a lockup ends QEMU at once
// (with -no-reboot). The second line switches off what guards against neighbours that a guest
// does not have: together that is about a tenth of the time of scenarios under emulation.
var usual = []string{
	"console=ttyS0", "quiet", "panic=-1", "oops=panic", "softlockup_panic=1", "hung_task_panic=1",
	"mitigations=off", "init_on_alloc=0", "hardened_usercopy=off", "randomize_kstack_offset=off",
	"apparmor=0", "audit=0", "random.trust_cpu=on",
}

// emulated are further arguments of guests under emulation. What a kernel would try out at boot,
// with the clock in hand, goes wrong when the host is busy; and a CPU that the host lets stand still is no
// stall of the kernel's.
var emulated = []string{"no_timer_check", "tsc=reliable", "rcupdate.rcu_cpu_stall_timeout=300"}

// ExactStart is what the clock of an exact machine shows when it starts.
var ExactStart = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// ExactInstruction is how long an instruction takes by the clock of an exact machine, in ns.
const ExactInstruction = 1 << exactShift

const exactShift = 2

// exact are QEMU's arguments that make a machine exact: an instruction takes 4 ns, idling takes no
// time of the host, and what QEMU draws at random begins with the same seed.
func (m Machine) exact() []string {
	count := fmt.Sprintf("shift=%d,sleep=off", exactShift)
	switch {
	case m.Record != "":
		count += ",rr=record,rrfile=" + escape(m.Record)
	case m.Replay != "":
		count += ",rr=replay,rrfile=" + escape(m.Replay)
	}
	return []string{"-icount", count, "-seed", strconv.FormatUint(m.Seed, 10),
		"-rtc", "clock=vm,base=" + ExactStart.Format("2006-01-02T15:04:05")}
}

// emulatedCPU is the CPU of guests under emulation: all that QEMU can do, but for fast string
// instructions. Told that there are some, kernels and Go copy and clear memory byte by byte, which
// was measured to be a quarter of the time in which an agent starts.
// Without cmpxchg16b either: after one that an interrupt follows, QEMU 7.2 gives the guest flags that no CPU has, and
// 6.12, whose allocator uses it, panics. Kernels have another way then.
const emulatedCPU = "max,erms=off,cx16=off"

// The file descriptors that QEMU inherits.
const (
	fdConsole = 3 + iota
	fdControl
	fdMonitor
	fdState
)

// Args is the command line, without the program.
func (m Machine) Args() []string {
	accel, cpu := "tcg", emulatedCPU
	if m.Accel == KVM {
		accel, cpu = "kvm", "host"
	}
	if m.Exact {
		cpu += ",rdrand=off,rdseed=off"
	}
	machine := "q35"
	var ram []string
	if m.RAM != "" {
		share := "on"
		if m.Incoming {
			share = "off"
		}
		machine += ",memory-backend=ram"
		ram = []string{"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=%s,share=%s",
			m.MemoryMiB, escape(m.RAM), share)}
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-M", machine, "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(max(m.CPUs, 1)), "-m", strconv.Itoa(m.MemoryMiB),
	}
	args = append(args, ram...)
	if m.Exact {
		args = append(args, m.exact()...)
	}
	if m.Debug != "" {
		args = append(args, "-S", "-gdb", m.Debug)
	}
	line := "socket,id=%s,fd=%d"
	if m.Exact {
		line = "file,id=%s,path=/dev/fd/%d"
	}
	args = append(args, "-chardev", fmt.Sprintf(line, "console", fdConsole),
		"-chardev", fmt.Sprintf(line, "control", fdControl),
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", fdMonitor))
	args = append(args, "-serial", "chardev:console", "-serial", "chardev:control",
		"-mon", "chardev=monitor,mode=control",
		"-kernel", m.Kernel, "-initrd", m.Initrd,
		"-append", strings.Join(m.arguments(), " "))
	if m.Incoming {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// arguments are those of the kernel.
func (m Machine) arguments() []string {
	args := slices.Clone(usual)
	if m.Accel != KVM {
		args = append(args, emulated...)
		if m.TSCkHz > 0 {
			args = append(args, fmt.Sprintf("tsc_early_khz=%d", m.TSCkHz))
		}
	}
	if m.Exact {
		args = append(args, "nokaslr")
	}
	return append(args, m.Append...)
}

// escape writes a path for a comma-separated option.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
