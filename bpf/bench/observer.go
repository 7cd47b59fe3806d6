package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/control"
)

// observer is a program that watches an interface.
type observer struct {
	name, what string
	command    []string // its files are in the folder it runs in; nil: nobody
	needs      []string // other programs
	prepare    func(dir string) error
	ready      func(ctx context.Context, dir string) bool
	// drained has it read what it has not yet; nil: it does so when it has nothing else to do.
	drained func(ctx context.Context, dir string) error
	// asked tells of how many packets it has told, while it runs; told, when it has ended in order. One of them is nil.
	asked func(ctx context.Context, dir string) (uint64, error)
	told  func(dir string) (uint64, error)
}

// observers are all that are compared, nobody first.
func observers(weir []string) []*observer {
	return []*observer{
		{name: "nobody", what: "no observer"},
		{name: "weir", what: "weir agent: flows as JSON lines into a file",
			command: slices.Concat(weir, []string{"agent", "--config", "weir.yaml"}),
			prepare: configureWeir, ready: weirAnswers, drained: sweepWeir, told: weirTold},
		{name: "tcpdump", what: "tcpdump -s 96 -w /dev/null: packets, not flows",
			command: []string{"tcpdump", "-n", "-i", farEnd, "-s", "96", "-w", "/dev/null"},
			ready:   says("listening on"), told: tcpdumpTold},
		{name: "softflowd", what: "softflowd: flows as NetFlow",
			command: []string{"softflowd", "-d", "-i", farEnd, "-p", "pid", "-c", "control", "-n", "127.0.0.1:9"},
			needs:   []string{"softflowctl"},
			ready:   exists("control"), asked: softflowdTold},
	}
}

// missing is why an observer cannot be measured; "" when it can.
func (o *observer) missing() string {
	if o.command == nil {
		return ""
	}
	for _, name := range append([]string{o.command[0]}, o.needs...) {
		if _, err := exec.LookPath(name); err != nil {
			return "not installed"
		}
	}
	return ""
}

// observing is an observer that runs; with no command, nobody.
type observing struct {
	cmd *exec.Cmd
	dir string
}

// logFile is where an observer's output goes.
const logFile = "log"

// observerPatience is how long an observer may take to start, to read what it has not yet, or to end.
const observerPatience = 20 * time.Second

// begin starts an observer in the namespace of this thread, and waits until it watches.
func (o *observer) begin(ctx context.Context) (*observing, error) {
	p := &observing{}
	if o.command == nil {
		return p, nil
	}
	var err error
	if p.dir, err = os.MkdirTemp("", "weir-bench-*"); err != nil {
		return nil, err
	}
	if err := o.start(p); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	if err := poll(ctx, func() bool { return o.ready(ctx, p.dir) }); err != nil {
		return nil, errors.Join(fmt.Errorf("wait until it watches: %w: %s", err, p.said()), p.kill())
	}
	return p, nil
}

func (o *observer) start(p *observing) error {
	if o.prepare != nil {
		if err := o.prepare(p.dir); err != nil {
			return err
		}
	}
	log, err := os.Create(filepath.Join(p.dir, logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(o.command[0], o.command[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, log, log
	return p.cmd.Start()
}

// settle lets an observer read what it has not yet, and ends it. It returns the CPU time that it took until
// then, and the number of packets that it tells of.
func (o *observer) settle(ctx context.Context, p *observing) (cpu time.Duration, told uint64, err error) {
	if p.cmd == nil {
		return 0, 0, nil
	}
	if o.drained != nil {
		err = o.drained(ctx, p.dir)
	} else {
		err = p.idle(ctx)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("wait until it has read all: %w: %s", err, p.said())
	}
	if cpu, err = p.cpu(); err != nil {
		return 0, 0, err
	}
	if o.asked != nil {
		told, err = o.asked(ctx, p.dir)
		return cpu, told, err
	}
	if err := p.end(); err != nil {
		return 0, 0, fmt.Errorf("end it: %w: %s", err, p.said())
	}
	told, err = o.told(p.dir)
	return cpu, told, err
}

// end asks the process to end, and waits.
func (p *observing) end() error {
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	timeout := time.AfterFunc(observerPatience, func() { _ = p.cmd.Process.Kill() })
	defer timeout.Stop()
	return p.cmd.Wait()
}

// kill ends what is left of it, and removes its files.
func (p *observing) kill() error {
	if p.cmd == nil {
		return nil
	}
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // tells that it was killed
	}
	return os.RemoveAll(p.dir)
}

// said is its output.
func (p *observing) said() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, logFile)) // to explain another error
	return strings.TrimSpace(string(text))
}

// idle waits until the process has taken next to no CPU time for a while: what it has not read by then waits for
// more to come.
func (p *observing) idle(ctx context.Context) error {
	const quiet = 10 // polls
	idle, last := 0, time.Duration(0)
	var failed error
	err := poll(ctx, func() bool {
		now, err := p.cpu()
		if idle++; now-last > pollEvery/100 {
			idle = 0
		}
		last, failed = now, err
		return err != nil || idle >= quiet
	})
	return errors.Join(failed, err)
}

const pollEvery = 40 * time.Millisecond

func poll(ctx context.Context, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, observerPatience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// cpu is the CPU time of all its threads, also of those that have ended. Unlike the times in /proc it is exact, not
// counted in ticks of a clock: clock_getcpuclockid(3).
func (p *observing) cpu() (time.Duration, error) {
	if p.cmd == nil {
		return 0, nil
	}
	const scheduled = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|scheduled), &at); err != nil {
		return 0, fmt.Errorf("ask for CPU time: %w", err)
	}
	return time.Duration(at.Nano()), nil
}

func says(text string) func(context.Context, string) bool {
	return func(_ context.Context, dir string) bool {
		log, err := os.ReadFile(filepath.Join(dir, logFile))
		return err == nil && strings.Contains(string(log), text)
	}
}

func exists(name string) func(context.Context, string) bool {
	return func(_ context.Context, dir string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
}

func configureWeir(dir string) error {
	text := "interfaces: [{name: " + farEnd + "}]\noutput: flows.jsonl\ncontrol: " + filepath.Join(dir, "control") + "\n"
	return os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(text), 0o600)
}

func weirAnswers(ctx context.Context, dir string) bool {
	_, err := control.Dial(filepath.Join(dir, "control")).Counters(ctx)
	return err == nil
}

func sweepWeir(ctx context.Context, dir string) error {
	return control.Dial(filepath.Join(dir, "control")).Sweep(ctx)
}

// weirTold adds up the records.
func weirTold(dir string) (sum uint64, err error) {
	f, err := os.Open(filepath.Join(dir, "flows.jsonl"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r struct{ Packets uint64 }
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return 0, fmt.Errorf("read weir's records: %w", err)
		}
		sum += r.Packets
	}
	return sum, lines.Err()
}

func tcpdumpTold(dir string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil {
		return 0, err
	}
	return number(string(text), `(\d+) packets? captured`)
}

func softflowdTold(ctx context.Context, dir string) (uint64, error) {
	text, err := exec.CommandContext(ctx, "softflowctl", "-c", filepath.Join(dir, "control"), "statistics").Output()
	if err != nil {
		return 0, fmt.Errorf("ask softflowd: %w", err)
	}
	return number(string(text), `Packets processed: (\d+)`)
}

// number is the number in what a pattern finds.
func number(text, pattern string) (uint64, error) {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("want %s in %q", pattern, text)
	}
	return strconv.ParseUint(m[1], 10, 64)
}
