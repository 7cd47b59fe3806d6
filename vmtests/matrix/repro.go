package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/wire"
)

// The files of a recording's folder, beside the initramfs.
const (
	fileRecording = "recording"
	fileKernel    = "bzImage"
	fileRepro     = "repro.json"
)

// Recording is a run of scenarios in an exact machine that can be repeated, whatever binary made it: the folder
// has the kernel and what it boots from as well.
type Recording struct {
	Line      string            `json:"line"` // of the kernel
	Release   string            `json:"release"`
	Seed      uint64            `json:"seed"`
	Jobs      []runner.Job      `json:"jobs"`
	Scenarios []result.Scenario `json:"scenarios"` // what came of them

	dir string
}

// Red tells that a scenario is red.
func (r *Recording) Red() bool {
	return slices.ContainsFunc(r.Scenarios, func(s result.Scenario) bool { return s.Verdict.Red() })
}

// RecordRun runs the jobs of c on its only kernel in an exact machine whose entropy, by which the kernel and Go
// order things, comes of a seed, and records that in a folder.
func RecordRun(ctx context.Context, c Config, dir string, seed uint64) (*Recording, error) {
	k := c.Kernels[0]
	if k.Err != nil {
		return nil, k.Err
	}
	limits := DefaultLimits.exact()
	snaps, err := newSnapshots(c.Cache, c.Binary, c.Files, limits)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder for the recording: %w", err)
	}
	r := &Recording{Line: k.Line, Release: k.Kernel.Release, Seed: seed, Jobs: c.Jobs, dir: dir}
	orders := r.orders()
	if err := snaps.orderExact(dir, k.Kernel, orders); err != nil {
		return nil, err
	}
	if err := copyFile(filepath.Join(dir, fileKernel), k.Kernel.Image); err != nil {
		return nil, err
	}
	m := r.machine()
	m.Record = filepath.Join(dir, fileRecording)
	if r.Scenarios, err = follow(ctx, m, orders); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, fileRepro), data, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("describe the recording: %w", err)
	}
	return r, nil
}

// OpenRecording reads what RecordRun has left in a folder.
func OpenRecording(dir string) (*Recording, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileRepro))
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	r := &Recording{dir: dir}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read the recording: %s: %w", fileRepro, err)
	}
	if len(r.Jobs) == 0 || len(r.Scenarios) != len(r.Jobs) {
		return nil, fmt.Errorf("read the recording: %s has %d results of %d scenarios", fileRepro, len(r.Scenarios), len(r.Jobs))
	}
	return r, nil
}

// Replay repeats the run, and returns what comes of the scenarios: the same. With debug, an address as QEMU has
// it ("tcp::1234"), it waits for a debugger first.
func (r *Recording) Replay(ctx context.Context, debug string) ([]result.Scenario, error) {
	m := r.machine()
	m.Replay, m.Debug = filepath.Join(r.dir, fileRecording), debug
	return follow(ctx, m, r.orders())
}

func (r *Recording) orders() wire.Orders { return wire.Orders{Jobs: r.Jobs, Now: qemu.ExactStart} }

func (r *Recording) machine() qemu.Machine {
	m := exactIn(r.dir, kernel.Kernel{Image: filepath.Join(r.dir, fileKernel)})
	m.Seed = r.Seed
	return m
}

// follow starts a machine that has its orders, and follows it to its end.
func follow(ctx context.Context, m qemu.Machine, orders wire.Orders) ([]result.Scenario, error) {
	vm, err := qemu.Start(ctx, m)
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	limits := DefaultLimits.exact()
	if m.Debug != "" { // it stands still as long as somebody looks
		limits.Silence, limits.Scenario, limits.Busy = forEver, forEver, forEver
	}
	s := newSession(vm, vm.Control, limits, orders)
	e := s.follow(ctx, wire.NewWriter(vm.Control))
	vm.Quit()
	if e.culprit == noScenario && e.verdict != result.Pass {
		return nil, fmt.Errorf("run guest: %s", e.reason)
	}
	e.took = 0 // by the host's clock
	var all []result.Scenario
	for i, got := range s.close(e) {
		if got == nil {
			got = &result.Scenario{Name: orders.Jobs[i].Name, Verdict: result.Error, Reason: "it did not run"}
		}
		all = append(all, *got)
	}
	return all, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy the kernel: %w", err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy the kernel: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy the kernel: %w", err)
	}
	return nil
}
