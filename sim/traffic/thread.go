package traffic

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// thread is an OS thread in a network namespace of its own, bound to one CPU. All packets are
// sent from it, so they all pass that CPU's backlog, in order.
type thread struct {
	work chan func()
	once sync.Once
	cpus []int // those this process may use; the thread is bound to the first
}

var errStoppedThread = errors.New("the traffic engine is closed")

func startThread() (*thread, error) {
	t := &thread{work: make(chan func())}
	ready := make(chan error)
	go t.main(t.work, ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("start the traffic thread: %w", err)
	}
	return t, nil
}

// main ends without unlocking, so the runtime ends the thread with it: nobody else shall run in
// its namespace or be bound to its CPU.
func (t *thread) main(work chan func(), ready chan error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The main thread cannot be ended, and /proc/self shows its namespace. While it is held
		// here, the next goroutine gets another one.
		done := make(chan error)
		go t.main(work, done)
		err := <-done
		runtime.UnlockOSThread()
		ready <- err
		return
	}
	err := t.prepare()
	ready <- err
	if err != nil {
		return
	}
	for f := range work {
		f()
	}
}

func (t *thread) prepare() error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("get CPU affinity: %w", err)
	}
	for cpu := 0; len(t.cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			t.cpus = append(t.cpus, cpu)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	return pin(t.cpus[0])
}

// pin binds the calling thread to a CPU.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to CPU %d: %w", cpu, err)
	}
	return nil
}

// do runs f on the thread.
func (t *thread) do(f func() error) (err error) {
	if t.work == nil {
		return errStoppedThread
	}
	done := make(chan struct{})
	t.work <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}

// stop ends the thread. do must not be running.
func (t *thread) stop() {
	t.once.Do(func() {
		close(t.work)
		t.work = nil
	})
}
