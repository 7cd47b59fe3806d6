package matrix

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/vmtests/guest"
	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/wire"
)

const (
	memoryMiB = 640
	// kept is how many snapshots of a kernel stay: each build of the binary makes another.
	kept = 2
)

// The files of a snapshot's folder.
const (
	fileInitrd = "initrd"
	fileRAM    = "ram"
	fileState  = "state"
	fileFacts  = "snapshot.json"
	fileCounts = "instructions.json"
)

// snapshot is a guest that is ready to work.
type snapshot struct {
	dir     string
	kernel  kernel.Kernel
	on      platform
	facts   facts
	created bool // not found in the cache
}

// facts are what is known about the guest of a snapshot.
type facts struct {
	Ready      wire.Ready `json:"ready"`
	BootMillis int64      `json:"boot_ms"` // from the start of QEMU to ready
	// Crashes are the errors of boots before this one in which the guest ended by itself.
	Crashes []string `json:"crashes,omitempty"`
}

func (s *snapshot) machine() qemu.Machine {
	return machineIn(s.dir, s.kernel, s.on)
}

// machineIn is the one that is booted, and restored, in a folder.
func machineIn(dir string, k kernel.Kernel, on platform) qemu.Machine {
	return qemu.Machine{
		Accel: on.accel, TSCkHz: on.tscKHz,
		Kernel: k.Image, Initrd: filepath.Join(dir, fileInitrd),
		RAM: filepath.Join(dir, fileRAM), MemoryMiB: memoryMiB, CPUs: on.cpus,
		Append: []string{guest.Argument},
	}
}

// exactIn is the exact machine that is booted in a folder.
func exactIn(dir string, k kernel.Kernel) qemu.Machine {
	return qemu.Machine{
		Accel: qemu.TCG, Exact: true, Kernel: k.Image, Initrd: filepath.Join(dir, fileInitrd),
		MemoryMiB: memoryMiB, CPUs: 1, Seed: usualSeed, Append: []string{guest.Argument},
	}
}

// usualSeed is that of exact machines whose runs are to be the same.
const usualSeed = 1

// restore starts a guest from the snapshot.
func (s *snapshot) restore(ctx context.Context) (*qemu.VM, error) {
	return qemu.Restore(ctx, s.machine(), filepath.Join(s.dir, fileState))
}

// snapshots keeps snapshots below a folder.
type snapshots struct {
	dir    string
	binary string // what becomes /init
	files  []initramfs.File
	sum    string // of the binary and the files
	limits Limits
}

func newSnapshots(cache, binary string, files []initramfs.File, limits Limits) (*snapshots, error) {
	f, err := os.Open(binary)
	if err != nil {
		return nil, fmt.Errorf("read own binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("read own binary: %w", err)
	}
	for _, file := range files {
		fmt.Fprintln(h, file.Path, file.Mode, len(file.Body))
		h.Write(file.Body)
	}
	dir := filepath.Join(cache, "snapshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make snapshot folder: %w", err)
	}
	return &snapshots{dir: dir, binary: binary, files: files, sum: hex.EncodeToString(h.Sum(nil)),
		limits: limits}, nil
}

// key names the folder of a snapshot: another binary, other files, another kernel, machine or QEMU make another.
func (s *snapshots) key(k kernel.Kernel, on platform) (string, error) {
	program, err := exec.LookPath(qemu.Program)
	if err != nil {
		return "", fmt.Errorf("find QEMU: %w", err)
	}
	fi, err := os.Stat(program)
	if err != nil {
		return "", fmt.Errorf("find QEMU: %w", err)
	}
	h := sha256.New()
	fmt.Fprintln(h, s.sum, k.SHA256, initramfs.Modules)
	fmt.Fprintln(h, program, fi.Size(), fi.ModTime().UnixNano())
	fmt.Fprintln(h, machineIn("", k, on).Args())
	if on.accel == qemu.KVM { // the guest sees the host's CPU
		cpu, _ := os.ReadFile("/proc/cpuinfo")
		if i := bytes.Index(cpu, []byte("\n\n")); i >= 0 {
			cpu = cpu[:i]
		}
		fmt.Fprintf(h, "%s", cpu)
	}
	return prefix(k, on) + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// prefix is what the names of a kernel's snapshots have in common.
func prefix(k kernel.Kernel, on platform) string {
	if on.cpus > 1 {
		return fmt.Sprintf("%s-smp%d_", k.Release, on.cpus)
	}
	return k.Release + "_"
}

// get finds the snapshot of a kernel, or boots the kernel and makes it.
func (s *snapshots) get(
	ctx context.Context, k kernel.Kernel, on platform,
) (*snapshot, error) {
	key, err := s.key(k, on)
	if err != nil {
		return nil, err
	}
	snap := &snapshot{dir: filepath.Join(s.dir, key), kernel: k, on: on}
	data, err := os.ReadFile(filepath.Join(snap.dir, fileFacts))
	if err == nil && json.Unmarshal(data, &snap.facts) == nil {
		now := time.Now()
		_ = os.Chtimes(snap.dir, now, now) // the newest are kept
		return snap, nil
	}
	snap.created = true
	return snap, s.create(ctx, snap)
}

// temporary makes a folder. One that a killed process has left is removed in time.
func (s *snapshots) temporary() (string, error) {
	dir, err := os.MkdirTemp(s.dir, ".new-*")
	if err != nil {
		return "", fmt.Errorf("make snapshot folder: %w", err)
	}
	return dir, nil
}

// drop forgets a snapshot that turned out to be of no use.
func (s *snapshots) drop(snap *snapshot) { _ = os.RemoveAll(snap.dir) }

// create boots the kernel and puts the snapshot in place in one step.
func (s *snapshots) create(ctx context.Context, snap *snapshot) error {
	tmp, err := s.temporary()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := s.buildInitrd(tmp, snap.kernel, nil); err != nil {
		return err
	}
	vm, facts, err := bootAgain(func() (*qemu.VM, facts, error) {
		return boot(ctx, machineIn(tmp, snap.kernel, snap.on), s.limits)
	})
	if err != nil {
		return fmt.Errorf("boot %s: %w", snap.kernel.Release, err)
	}
	defer vm.Close()
	if facts.Ready.Error != "" {
		return fmt.Errorf("boot %s: %s", snap.kernel.Release, facts.Ready.Error)
	}
	if err := vm.Save(filepath.Join(tmp, fileState)); err != nil {
		return err
	}
	vm.Close()
	snap.facts = facts
	data, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := os.WriteFile(filepath.Join(tmp, fileFacts), data, 0o644); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	_ = os.RemoveAll(snap.dir) // an unusable one
	if err := os.Rename(tmp, snap.dir); err != nil {
		if _, serr := os.Stat(filepath.Join(snap.dir, fileFacts)); serr == nil {
			return nil // another process was faster
		}
		return fmt.Errorf("place snapshot: %w", err)
	}
	s.prune(prefix(snap.kernel, snap.on))
	return nil
}

func (s *snapshots) buildInitrd(dir string, k kernel.Kernel, orders []byte) error {
	f, err := os.Create(filepath.Join(dir, fileInitrd))
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	err = initramfs.Build(f, s.binary, k.Modules, initramfs.Modules, s.files, orders)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("write initramfs: %w", cerr)
	}
	return err
}

// prune removes all but the newest snapshots of a kernel, and what a killed process has left.
func (s *snapshots) prune(prefix string) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	type folder struct {
		name string
		used time.Time
	}
	var of []folder
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			continue
		}
		if strings.HasPrefix(e.Name(), ".new-") && time.Since(fi.ModTime()) > time.Hour {
			_ = os.RemoveAll(filepath.Join(s.dir, e.Name()))
		}
		if strings.HasPrefix(e.Name(), prefix) {
			of = append(of, folder{e.Name(), fi.ModTime()})
		}
	}
	slices.SortFunc(of, func(a, b folder) int { return b.used.Compare(a.used) })
	for _, f := range of[min(kept, len(of)):] {
		_ = os.RemoveAll(filepath.Join(s.dir, f.name))
	}
}

// bootAgain boots until a guest gets ready, or has crashed as often as guests may: a crash would cost all scenarios of
// a kernel. It hides none: the report tells of each.
func bootAgain(boot func() (*qemu.VM, facts, error)) (*qemu.VM, facts, error) {
	var crashes []string
	for {
		vm, f, err := boot()
		if err == nil {
			f.Crashes = crashes
			return vm, f, nil
		}
		crashes = append(crashes, err.Error())
		if !errors.Is(err, errEnded) || len(crashes) == attempts {
			return nil, facts{}, err
		}
	}
}

// boot starts a machine and waits for its guest to be ready. The error holds the end of the
// console.
func boot(ctx context.Context, m qemu.Machine, limits Limits) (*qemu.VM, facts, error) {
	vm, err := qemu.Start(ctx, m)
	if err != nil {
		return nil, facts{}, err
	}
	start := time.Now()
	var f facts
	frame, err := await(ctx, vm, wire.TypeReady, limits.Boot)
	if err == nil {
		err = frame.Decode(&f.Ready)
	}
	if err != nil {
		vm.Kill()
		console := strings.TrimSpace(vm.Console.Text() + "\n" + vm.Complaint())
		vm.Close()
		return nil, facts{}, fmt.Errorf("%w; the end of its console:\n%s", err,
			clip(console[max(0, len(console)-2000):]))
	}
	f.BootMillis = time.Since(start).Milliseconds()
	return vm, f, nil
}

// errNotReady is why a boot failed.
var errNotReady = errors.New("the guest did not get ready")

// errEnded is errNotReady of a guest that has ended by itself.
var errEnded = fmt.Errorf("%w: it ended", errNotReady)

// await reads the line up to a frame of a type. The machine must have been started just before.
// Nothing may be read from the line at the same time, and when await fails the line is lost.
func await(ctx context.Context, vm *qemu.VM, want wire.Type, limit time.Duration) (
	wire.Frame, error,
) {
	type outcome struct {
		frame wire.Frame
		err   error
	}
	found := make(chan outcome, 1)
	go func() {
		r := wire.NewReader(vm.Control)
		for {
			f, err := r.Next()
			if err == nil && f.Type == wire.TypeDied {
				var died wire.Died
				err = errors.Join(f.Decode(&died),
					fmt.Errorf("its process ended: %s: %s", died.How, died.Stderr))
			}
			if err != nil || f.Type == want {
				found <- outcome{f, err}
				return
			}
		}
	}()
	watch := newStopwatch(vm)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-found:
			if errors.Is(o.err, io.EOF) {
				return o.frame, errEnded
			}
			return o.frame, o.err
		case <-ctx.Done():
			return wire.Frame{}, ctx.Err()
		case <-tick.C:
			if watch.elapsed() > limit {
				return wire.Frame{}, fmt.Errorf("%w within %v", errNotReady, limit)
			}
		}
	}
}
