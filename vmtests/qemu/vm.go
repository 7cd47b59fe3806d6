package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// VM is a running virtual machine.
type VM struct {
	// Control is the guest's second serial line.
	Control io.ReadWriteCloser
	// Console is what the guest prints on its first serial line.
	Console *Console

	machine Machine
	monitor *monitor
	process *os.Process
	stderr  *tail
	done    chan struct{}
	kill    sync.Once
	starved atomic.Int64 // nanoseconds, when last looked at
}

// Start starts a machine. It is killed when ctx ends, and by the kernel when this process dies.
func Start(ctx context.Context, m Machine) (*VM, error) {
	if m.Incoming {
		return nil, errors.New("start machine: a snapshot is restored by Restore")
	}
	return start(ctx, m, nil)
}

func start(ctx context.Context, m Machine, state *os.File) (*VM, error) {
	vm := &VM{machine: m, stderr: &tail{}, done: make(chan struct{})}
	lines, err := m.connect()
	if err != nil {
		return nil, err
	}
	defer lines.closeTheirs()
	cmd := exec.Command(Program, m.Args()...)
	cmd.ExtraFiles = lines.theirs
	if state != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, state)
	}
	cmd.Stdout, cmd.Stderr = vm.stderr, vm.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// The death signal comes when the thread that forked ends, not only the process.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the exit code says nothing
			close(vm.done)
		}
	}()
	if err := <-started; err != nil {
		_ = lines.closeOurs()
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	vm.process = cmd.Process
	vm.Console = readConsole(lines.console)
	vm.Control = lines.control
	vm.monitor = newMonitor(lines.monitor)
	go func() {
		select {
		case <-ctx.Done():
			vm.Kill()
		case <-vm.done:
		}
		<-vm.Console.closed
		_, _ = lines.console.Close(), lines.monitor.Close() // Control may hold unread frames
	}()
	return vm, nil
}

// Done is closed when QEMU has ended.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Kill ends QEMU and returns when it is gone and all of its console is in. It may be called at
// any time, also when QEMU has ended.
func (vm *VM) Kill() {
	vm.kill.Do(func() {
		select {
		case <-vm.done:
		default:
			_ = syscall.Kill(-vm.process.Pid, syscall.SIGKILL)
		}
	})
	<-vm.done
	<-vm.Console.closed
}

// quitLimit is how long QEMU may take to write down what it has recorded.
const quitLimit = 30 * time.Second

// Quit ends the machine in order, as its recording wants it. One that does not end is killed.
func (vm *VM) Quit() {
	if vm.monitor.call("quit", nil, nil, nil) == nil {
		select {
		case <-vm.done:
		case <-time.After(quitLimit):
		}
	}
	vm.Kill()
}

// Close kills the machine and frees what belongs to it.
func (vm *VM) Close() {
	vm.Kill()
	_ = vm.Control.Close()
}

// Printed is what the guest has printed on its console.
func (vm *VM) Printed() string { return vm.Console.Text() }

// Complaint is what QEMU itself said, in one line; empty if nothing.
func (vm *VM) Complaint() string {
	return strings.Join(strings.Fields(vm.stderr.String()), " ")
}

// Interrupt sends the guest a non-maskable interrupt. A guest that takes it for a reason to panic
// thereby tells where it hangs.
func (vm *VM) Interrupt() error { return vm.monitor.call("inject-nmi", nil, nil, nil) }

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailLimit = 4096

// Write keeps b; it does not fail.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - tailLimit; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

// String is what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
