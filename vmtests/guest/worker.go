package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/bench"
	"github.com/weirnet/weir/sim/differ"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/wire"
)

const (
	// beatEvery is how often a guest that runs scenarios shows that it is alive.
	beatEvery = 500 * time.Millisecond
	// cancelGrace is what a scenario has to return in after it was cancelled.
	cancelGrace = 2 * time.Second
)

// worker runs what the host orders.
type worker struct {
	opts   Options
	line   *os.File
	from   *wire.Reader
	to     *wire.Writer
	kernel *kernelLog
	runner Runner
	differ *differ.Differ
	orders wire.Orders
	hooks  *occupied

	cancelled chan int // number of a scenario that the host gave up
}

// workerMain is the worker process; it returns the exit status.
func workerMain(opts Options) int {
	signal.Ignore(unix.SIGPIPE)
	w := &worker{opts: opts, differ: differ.New(), cancelled: make(chan int, 1)}
	if err := w.work(); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "weir: guest:", err)
		return 1
	}
	return 0
}

func (w *worker) work() error {
	line, err := openLine()
	if err != nil {
		return err
	}
	w.line = line
	w.from, w.to = wire.NewReader(line), wire.NewWriter(line)
	if w.kernel, err = openKernelLog(true); err != nil {
		return err
	}
	ready := wire.Ready{
		Release: release(),
		Modules: loadedModules(),
		Absent:  absentModules(),
	}
	if err := w.prepare(&ready); err != nil {
		ready.Error = err.Error()
	}
	ready.UpMs = upMillis()
	if err := w.to.Send(wire.TypeReady, ready); err != nil {
		return err
	}
	if w.orders, err = w.receiveOrders(); err != nil {
		return err
	}
	if now := w.orders.Now; !now.IsZero() {
		tv := unix.NsecToTimeval(now.UnixNano())
		_ = unix.Settimeofday(&tv)
	}
	if w.orders.Shell {
		return w.shell()
	}
	if w.runner == nil {
		return errors.New(ready.Error)
	}
	if w.orders.Instruction > 0 {
		return w.count()
	}
	return w.runAll()
}

// prepare does all that every restored guest would have to do again, and takes down what it shows.
func (w *worker) prepare(ready *wire.Ready) (err error) {
	before := time.Now()
	if w.runner, err = w.opts.NewRunner(); err != nil {
		return fmt.Errorf("load datapath: %w", err)
	}
	ready.LoadMs = time.Since(before).Milliseconds()
	if ready.Verified, err = w.runner.Verified(); err != nil {
		return fmt.Errorf("ask for the verifier's effort: %w", err)
	}
	if ready.Memory, err = w.runner.Memory(); err != nil {
		return err
	}
	if err := w.runner.Probe(); err != nil {
		return fmt.Errorf("ask for what the kernel can: %w", err)
	}
	if w.hooks, err = occupyHooks(); err != nil {
		return fmt.Errorf("keep hooks in use: %w", err)
	}
	debug.FreeOSMemory() // what loading took
	return nil
}

// count counts instructions.
func (w *worker) count() error {
	all, err := bench.Instructions(w.orders.Instruction)
	c := wire.Count{Instructions: all}
	if err != nil {
		c.Error = err.Error()
	}
	if err := w.to.Send(wire.TypeCount, c); err != nil {
		return err
	}
	return w.goodBye(wire.Bye{})
}

// receiveOrders waits for the host's orders, unless the guest was started with them. While it waits the
// snapshot is taken; everything after it happens in a restored guest.
func (w *worker) receiveOrders() (wire.Orders, error) {
	packed, err := os.ReadFile(initramfs.Orders)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.ReceiveOrders(w.from, w.to)
	}
	if err != nil {
		return wire.Orders{}, fmt.Errorf("read orders: %w", err)
	}
	return wire.UnpackOrders(packed)
}

// loadedModules are the names of the modules that the initramfs holds.
func loadedModules() []string {
	var names []string
	for line := range strings.Lines(readText(initramfs.ModuleList)) {
		name, _, _ := strings.Cut(line, ".ko")
		names = append(names, name)
	}
	return names
}

// absentModules are the wanted modules that the kernel has neither as a file nor built in. The
// packages of some kernels do not list what is built in, so the kernel itself is asked.
func absentModules() []string {
	return slices.DeleteFunc(strings.Fields(readText(initramfs.AbsentList)), func(m string) bool {
		_, err := os.Stat("/sys/module/" + m)
		return err == nil
	})
}

// runAll runs the scenarios and says good-bye.
func (w *worker) runAll() error {
	go w.listen()
	stop := make(chan struct{})
	defer close(stop)
	go w.beat(stop)
	bye := wire.Bye{Planned: len(w.orders.Jobs)}
	for i, job := range w.orders.Jobs {
		if late := w.kernel.drain(); i > 0 && len(late) > 0 {
			if err := w.to.Send(wire.TypeLate, wire.Late{Index: i - 1, Kernel: late}); err != nil {
				return err
			}
		}
		w.kernel.mark(wire.Marker(i))
		if err := w.to.Send(wire.TypeStart, wire.Start{Index: i}); err != nil {
			return err
		}
		drainLine(w.line) // a scenario that kills the machine must be known to have started
		end := w.runOne(i, job)
		if w.orders.Faults && faultSwallows(job.Name, w.to, end) {
			continue
		}
		bye.Recorded++
		if err := w.to.Send(wire.TypeEnd, end); err != nil {
			return err
		}
		if w.orders.Faults {
			faultAfterEnd(job.Name, w.to, end)
		}
	}
	if late := w.kernel.drain(); len(late) > 0 && bye.Planned > 0 {
		if err := w.to.Send(wire.TypeLate,
			wire.Late{Index: bye.Planned - 1, Kernel: late}); err != nil {
			return err
		}
	}
	return w.goodBye(bye)
}

// goodBye is the last thing a guest says. It does nothing after that but wait for its end: what
// is still on the line would be lost with the machine.
func (w *worker) goodBye(bye wire.Bye) error {
	if err := w.to.Send(wire.TypeBye, bye); err != nil {
		return err
	}
	select {}
}

// runOne runs a scenario and makes its record.
func (w *worker) runOne(index int, job runner.Job) wire.End {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	start := time.Now()
	done := make(chan result.Scenario, 1)
	go func() { done <- w.guarded(ctx, job) }()
	end := wire.End{Index: index}
	if !w.finished(index, done, &end.Scenario) {
		cancel(errors.New("the host gave the scenario up"))
		end.Scenario = givenUp(done)
	}
	end.Scenario.Name = job.Name
	if end.Scenario.Millis == 0 {
		end.Scenario.Millis = time.Since(start).Milliseconds()
	}
	end.Kernel = w.kernel.drain()
	return end
}

// finished waits for scenario number index, and tells whether it returned before it was given up.
func (w *worker) finished(index int, done <-chan result.Scenario, s *result.Scenario) bool {
	for {
		select {
		case *s = <-done:
			return true
		case given := <-w.cancelled:
			if given == index {
				return false
			}
		}
	}
}

// givenUp waits a little for a scenario that was cancelled. One that does not return is left
// behind, with the stacks of all goroutines as its log.
func givenUp(done <-chan result.Scenario) result.Scenario {
	select {
	case s := <-done:
		s.Reason = strings.TrimSuffix("it was given up: "+s.Reason, ": ")
		s.Verdict = result.Hang
		return s
	case <-time.After(cancelGrace):
		return result.Scenario{Verdict: result.Hang, AgentLog: stacks(),
			Reason: "it did not return when it was given up"}
	}
}

// guarded runs a scenario and makes a verdict of a panic of the runner.
func (w *worker) guarded(ctx context.Context, job runner.Job) (s result.Scenario) {
	defer func() {
		if p := recover(); p != nil {
			s = result.Scenario{Name: job.Name, Verdict: result.Error, AgentLog: string(debug.Stack()),
				Reason: fmt.Sprintf("the runner panicked: %v", p)}
		}
	}()
	if w.orders.Faults && isFault(job.Name) {
		return runFault(ctx, job.Name, w.kernel)
	}
	if differ.IsJob(job) {
		return w.differ.Run(ctx, job)
	}
	return w.runner.Run(ctx, job)
}

// listen hears the host while scenarios run.
func (w *worker) listen() {
	for {
		f, err := w.from.Next()
		if err != nil && !errors.Is(err, wire.ErrCorrupt) {
			return
		}
		var c wire.Cancel
		if err == nil && f.Type == wire.TypeCancel && f.Decode(&c) == nil {
			w.cancelled <- c.Index
		}
	}
}

func (w *worker) beat(stop <-chan struct{}) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			_ = w.to.Send(wire.TypeBeat, wire.Beat{BusyMs: busyMillis(readText("/proc/stat"))})
		}
	}
}

// busyMillis is the CPU time that was not idle, from the first line of /proc/stat, which counts
// hundredths of a second: user, nice, system, idle, iowait, irq, softirq.
func busyMillis(stat string) int64 {
	line, _, _ := strings.Cut(stat, "\n")
	var ticks int64
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err == nil && i <= 7 && i != 4 && i != 5 {
			ticks += n
		}
	}
	return ticks * 10
}

func stacks() string {
	buf := make([]byte, 64<<10)
	return string(buf[:runtime.Stack(buf, true)])
}

// upMillis is the time since the kernel started.
func upMillis() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return ts.Nano() / 1e6
}
