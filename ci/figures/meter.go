package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// meter measures.
type meter struct {
	options
	binary   string
	progress io.Writer
	speed    benched
	labels   benchmarks // nil until they have run
}

// measure measures a bar, and says on the progress what it is about to do.
func (m *meter) measure(ctx context.Context, b bar) figure {
	fmt.Fprintf(m.progress, "measuring %s: %s\n", b.name, b.what)
	f := b.measure(m, ctx)
	if ctx.Err() != nil && f.verdict != unknown {
		return notMeasured("interrupted")
	}
	return f
}

// outcome is what became of one run of weir.
type outcome struct {
	code           int // -1: it did not start, or a signal ended it
	stdout, stderr string
	took           time.Duration
}

// harness tells that the run says nothing about the scenarios.
func (o outcome) harness() bool { return o.code != result.ExitGood && o.code != result.ExitRed }

// String is the exit code and the last thing that was said.
func (o outcome) String() string {
	last := ""
	for _, text := range []string{o.stdout, o.stderr} {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if l := strings.TrimSpace(lines[len(lines)-1]); l != "" {
			last = ": " + l
		}
	}
	return fmt.Sprintf("exit code %d%s", o.code, last)
}

// weir runs the binary with more in its environment. When the context ends, weir gets the time to
// clean up.
func (m *meter) weir(ctx context.Context, env []string, args ...string) outcome {
	return command(ctx, env, m.binary, args...)
}

// command runs any program as weir is run.
func command(ctx context.Context, env []string, name string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	start := time.Now()
	err := cmd.Run()
	o := outcome{took: time.Since(start), stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		o.code = exit.ExitCode()
	case err != nil:
		o.code = -1
		o.stderr += "\n" + err.Error()
	}
	return o
}

// busyEnv makes this program a busy loop.
const busyEnv = "WEIR_FIGURES_BUSY"

// beBusy keeps a CPU busy until the parent goes away.
func beBusy() {
	for parent := os.Getppid(); os.Getppid() == parent; {
		for x := range 1 << 24 {
			_ = x
		}
	}
	os.Exit(0)
}

// startBusy starts n busy loops, each a process.
func startBusy(n int) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var loops []*exec.Cmd
	stop = func() {
		for _, l := range loops {
			_ = l.Process.Kill()
			_ = l.Wait()
		}
	}
	for range n {
		l := exec.Command(self)
		l.Env = append(slices.Clone(os.Environ()), busyEnv+"=1")
		if err := l.Start(); err != nil {
			stop()
			return nil, err
		}
		loops = append(loops, l)
	}
	return stop, nil
}
