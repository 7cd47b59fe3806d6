package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Save writes the machine's state, all but its memory, to the file named state. The memory stays
// in the RAM file of the machine, so the two together are the snapshot: kill the machine then,
// for it would go on changing the memory. The guest does not run any more after Save.
func (vm *VM) Save(state string) error {
	if vm.machine.RAM == "" {
		return errors.New("save snapshot: the machine has no RAM file")
	}
	out, err := os.Create(state)
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	err = vm.save(out)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

func (vm *VM) save(out io.Writer) error {
	// The guest runs until the very end, so that the state says "running" and a restored guest
	// goes on by itself.
	if err := vm.shareMemory(); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = vm.monitor.call("getfd", map[string]any{"fdname": "state"}, w, nil)
	_ = w.Close() // QEMU has its own now, so that the pipe ends when QEMU closes it
	if err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, r)
		copied <- err
	}()
	if err := vm.monitor.call("migrate", map[string]any{"uri": "fd:state"}, nil, nil); err != nil {
		return err
	}
	if err := <-copied; err != nil {
		return err
	}
	return vm.waitMigrated()
}

// shareMemory keeps memory that is a file out of the state.
func (vm *VM) shareMemory() error {
	return vm.monitor.call("migrate-set-capabilities", map[string]any{
		"capabilities": []any{map[string]any{"capability": "x-ignore-shared", "state": true}},
	}, nil, nil)
}

// waitMigrated waits until a migration whose data has passed is over, a matter of milliseconds.
func (vm *VM) waitMigrated() error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		var info struct {
			Status string
			Desc   string `json:"error-desc"`
		}
		if err := vm.monitor.call("query-migrate", nil, nil, &info); err != nil {
			return err
		}
		switch info.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("state of the machine: %s %s", info.Status, info.Desc)
		}
	}
}

// Restore starts a machine from the snapshot that its RAM file and the file named state are. The
// guest goes on where it was when it was saved. Any number of machines can be restored from one
// snapshot, also at the same time.
func Restore(ctx context.Context, m Machine, state string) (*VM, error) {
	in, err := os.Open(state)
	if err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	defer in.Close()
	m.Incoming = true
	vm, err := start(ctx, m, in)
	if err != nil {
		return nil, err
	}
	if err := vm.restore(); err != nil {
		vm.Close()
		if c := vm.Complaint(); c != "" {
			err = fmt.Errorf("%w: %s", err, c)
		}
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	return vm, nil
}

func (vm *VM) restore() error {
	if err := vm.shareMemory(); err != nil {
		return err
	}
	if err := vm.monitor.call("migrate-incoming",
		map[string]any{"uri": fmt.Sprintf("fd:%d", fdState)}, nil, nil); err != nil {
		return err
	}
	// What is sent to the guest before its serial line has its state back is lost.
	return vm.monitor.await("RESUME")
}
