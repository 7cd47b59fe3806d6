package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Starved is how long the machine has wanted a CPU of the host in vain so far: the longest time
// that one of QEMU's threads was runnable and did not run. A deadline that leaves it out means
// the same on an idle host and on a busy one. It is zero where the kernel does not tell, and what
// it was last when the machine has ended.
func (vm *VM) Starved() time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", vm.process.Pid))
	longest := vm.starved.Load()
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the thread is gone
		}
		var ran, waited int64
		if _, err := fmt.Sscan(string(data), &ran, &waited); err == nil {
			longest = max(longest, waited)
		}
	}
	vm.starved.Store(longest)
	return time.Duration(longest)
}

// Broken watches for a machine that the accelerator gave up on. It returns what QEMU calls its
// state then, and nil when ctx ends or the machine does.
func (vm *VM) Broken(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var state struct{ Status string }
		if vm.monitor.call("query-status", nil, nil, &state) != nil {
			return nil
		}
		if state.Status == "internal-error" || state.Status == "guest-panicked" {
			return fmt.Errorf("the machine stopped: %s", state.Status)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-vm.done:
			return nil
		case <-tick.C:
		}
	}
}
