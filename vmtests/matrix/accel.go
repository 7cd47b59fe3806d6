package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/vmtests/guest"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/wire"
)

// host is what is remembered about the host that guests run on.
type host struct {
	Name   string     `json:"host"` // what the rest holds for
	Accel  qemu.Accel `json:"accel,omitempty"`
	Reason string     `json:"reason,omitempty"` // for Accel
	Tried  time.Time  `json:"tried,omitzero"`
	TSCkHz int        `json:"tsc_khz,omitempty"`
}

// platform is how guests are run: what is part of every snapshot.
type platform struct {
	accel  qemu.Accel
	tscKHz int
	cpus   int
}

// decide chooses the accelerator. That /dev/kvm can be opened means nothing: there are hosts
// where stock kernels hang on it. So a kernel is booted once, and the outcome is remembered.
func decide(ctx context.Context, c Config, s *snapshots) (platform, error) {
	file := filepath.Join(c.Cache, "host.json")
	name := hostName()
	var h host
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &h) != nil || h.Name != name {
		h = host{Name: name}
	}
	before := h
	if h.TSCkHz == 0 {
		h.TSCkHz = qemu.MeasureTSC()
	}
	p := platform{accel: c.Accel, tscKHz: h.TSCkHz, cpus: max(c.CPUs, 1)}
	if c.Exact {
		p.accel = qemu.TCG
	}
	if p.accel != qemu.TCG && p.accel != qemu.KVM {
		if p.accel, err = h.choose(ctx, c, s); err != nil {
			return p, err
		}
	}
	if h != before {
		if data, err = json.MarshalIndent(h, "", "  "); err == nil {
			_ = os.WriteFile(file, data, 0o644) // what is not remembered is found out again
		}
	}
	return p, nil
}

// choose gives the accelerator of the host, by a trial boot if it has to.
func (h *host) choose(ctx context.Context, c Config, s *snapshots) (qemu.Accel, error) {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return qemu.TCG, nil
	}
	_ = dev.Close()
	if h.Accel != "" {
		return h.Accel, nil
	}
	for _, f := range c.Kernels {
		if f.Err != nil {
			continue
		}
		h.Accel, h.Tried = qemu.KVM, time.Now().UTC().Truncate(time.Second)
		if err := s.tryKVM(ctx, f.Kernel, c.Limits.Trial); err != nil {
			h.Accel, h.Reason = qemu.TCG, err.Error()
		}
		return h.Accel, ctx.Err()
	}
	return qemu.TCG, nil
}

// tryKVM boots a kernel with KVM up to the first sign of life of PID 1.
func (s *snapshots) tryKVM(ctx context.Context, k kernel.Kernel, limit time.Duration) error {
	dir, err := s.temporary()
	if err != nil {
		return fmt.Errorf("try KVM: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := s.buildInitrd(dir, k, nil); err != nil {
		return err
	}
	vm, err := qemu.Start(ctx, qemu.Machine{
		Accel: qemu.KVM, Kernel: k.Image, Initrd: filepath.Join(dir, fileInitrd),
		MemoryMiB: memoryMiB, CPUs: 1, Append: []string{guest.Argument},
	})
	if err != nil {
		return fmt.Errorf("try KVM: %w", err)
	}
	defer vm.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { // a machine that KVM cannot run stops at once: no need to wait for the limit
		if broken := vm.Broken(ctx); broken != nil {
			stop(broken)
		}
	}()
	if _, err := await(ctx, vm, wire.TypeHello, limit); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("try KVM: %w", err)
	}
	return nil
}

// hostName names what the memory of a host depends on: the machine, its CPU and its kernel.
func hostName() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	id, _ := os.ReadFile("/etc/machine-id")
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	model := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(cpus)
	if model == nil {
		model = [][]byte{nil, nil}
	}
	return fmt.Sprintf("%.32s, %s, %s %s", id, model[1], unix.ByteSliceToString(u.Release[:]),
		unix.ByteSliceToString(u.Version[:]))
}
