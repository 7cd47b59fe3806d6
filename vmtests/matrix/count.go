package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/qemu"
	"github.com/weirnet/weir/vmtests/wire"
)

// instructions is how many instructions a packet costs on the kernel of a snapshot. They are counted once in
// an exact machine, whose every run gives the same, and kept beside the snapshot.
func (s *snapshots) instructions(ctx context.Context, snap *snapshot) (map[string]float64, error) {
	file := filepath.Join(snap.dir, fileCounts)
	var all map[string]float64
	if data, err := os.ReadFile(file); err == nil && json.Unmarshal(data, &all) == nil {
		return all, nil
	}
	all, err := s.count(ctx, snap.kernel)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("keep what was counted: %w", err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return nil, fmt.Errorf("keep what was counted: %w", err)
	}
	return all, nil
}

// count boots an exact machine that counts.
func (s *snapshots) count(ctx context.Context, k kernel.Kernel) (map[string]float64, error) {
	dir, err := s.temporary()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	vm, err := s.startExact(ctx, dir, k, wire.Orders{Now: qemu.ExactStart, Instruction: qemu.ExactInstruction})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	frame, err := await(ctx, vm, wire.TypeCount, s.limits.exact().Boot)
	if err != nil {
		return nil, err
	}
	var c wire.Count
	if err := frame.Decode(&c); err != nil {
		return nil, err
	}
	if c.Error != "" {
		return nil, errors.New(c.Error)
	}
	return c.Instructions, nil
}

// startExact boots an exact machine with orders; what it needs is put into dir.
func (s *snapshots) startExact(ctx context.Context, dir string, k kernel.Kernel, orders wire.Orders) (*qemu.VM, error) {
	if err := s.orderExact(dir, k, orders); err != nil {
		return nil, err
	}
	return qemu.Start(ctx, exactIn(dir, k))
}

// orderExact builds what an exact machine boots from, with its orders, in dir.
func (s *snapshots) orderExact(dir string, k kernel.Kernel, orders wire.Orders) error {
	packed, err := orders.Pack()
	if err != nil {
		return err
	}
	return s.buildInitrd(dir, k, packed)
}
