package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/foreign"
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// notInstalled is the error for a program that this machine does not have.
type notInstalled struct{ name string }

// Error says which.
func (e *notInstalled) Error() string { return e.name + " is not installed" }

// probeEvery and probeLimit are how often a program is asked whether it has taken in all packets,
// and how long. One that never says so is ended then: it may have lost some.
const (
	probeEvery = 20 * time.Millisecond
	probeLimit = 5 * time.Second
)

// words fills in what a command may leave to the run.
func (p *play) words(command []string, packets uint64) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := strings.NewReplacer(spec.Self, self, "{dir}", p.dir, "{packets}", strconv.FormatUint(packets, 10))
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = r.Replace(w)
	}
	return words, nil
}

// installed checks that all is there that the scenario's program needs.
func installed(p *spec.Program) error {
	for _, name := range p.All() {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if _, err := os.Stat(name); err != nil || !strings.Contains(name, "/") {
			return &notInstalled{name}
		}
	}
	return nil
}

// startProgram runs another program in the agent's place, and waits until it watches.
func (p *play) startProgram(ctx context.Context) error {
	words, err := p.words(p.sc.Agent.Program.Command, 0)
	if err != nil {
		return err
	}
	a := &actor{logs: &logBuffer{}}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = a.logs, a.logs, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	if err := p.net.Do(p.sc.Agent.On[0].Host, cmd.Start); err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	a.end = func() error {
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-ended: // how it says that it was told to end is its own matter
			return nil
		case <-ctx.Done():
			return errors.Join(errors.New("the program does not end on SIGTERM"), a.abort())
		}
	}
	a.abort = func() error {
		err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		if errors.Is(err, unix.ESRCH) {
			err = nil
		}
		<-ended
		return err
	}
	p.agent = a
	return p.says(ctx, a, ended)
}

// says waits for the text by which the program says that it watches.
func (p *play) says(ctx context.Context, a *actor, ended chan error) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ready := []byte(p.sc.Agent.Program.Ready)
	for !bytes.Contains(a.log(), ready) {
		select {
		case err := <-ended:
			ended <- nil
			return fmt.Errorf("the program has ended (%v) before it was ready:\n%s", err, a.log())
		case <-ctx.Done():
			return fmt.Errorf("the program has not said %q:\n%s", ready, a.log())
		case <-tick.C:
		}
	}
	return nil
}

// stopProgram lets the program take in what has passed, and ends it.
func (p *play) stopProgram(ctx context.Context) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	p.model.Stop(p.now)
	err := p.agent.stop()
	p.logs = append(p.logs, p.agent.log()...)
	p.agent = nil
	return err
}

// settle asks the program until it says that it has taken in all packets.
func (p *play) settle(ctx context.Context) error {
	probe := p.sc.Agent.Program.Settled
	if probe == nil {
		return nil
	}
	var packets uint64
	for _, c := range p.witness {
		packets += c.Packets
	}
	command, err := p.words(probe.Command, packets)
	if err != nil {
		return err
	}
	says, err := p.words([]string{probe.Says}, packets)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var last []byte
	for {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		err := p.net.Do(p.sc.Agent.On[0].Host, cmd.Start)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("ask the program: %w", err)
		}
		if err == nil {
			_ = cmd.Wait() // what counts is what it has said
		}
		if bytes.Contains(out.Bytes(), []byte(says[0])) {
			return nil
		}
		if out.Len() > 0 {
			last = out.Bytes()
		}
		select {
		case <-ctx.Done():
			p.logs = fmt.Appendf(p.logs, "weir: the program never said %q; its last answer:\n%s\n", says[0], last)
			return nil
		case <-tick.C:
		}
	}
}

// judgeProgram compares what another program has written with the model.
func (p *play) judgeProgram(out *result.Scenario) error {
	for _, c := range p.witness {
		out.Packets += c.Packets
	}
	truth := p.mapped.Truth(p.model.Flows())
	got, err := p.mapped.Read(p.sc.Agent.Program.Flows, p.flows)
	if err != nil {
		out.Verdict, out.Reason = result.Fail, "the map does not fit what the program wrote: "+err.Error()
		return nil
	}
	diffs, known := p.mapped.Compare(truth, got, golden.TopologyNames(p.sc.Topology), p.sc.Expect.Known)
	out.Differences = diffs
	out.Verdict, out.Reason = verdict(diffs, true)
	if known > 0 && out.Verdict == result.Pass {
		out.Reason = fmt.Sprintf("known differences: %d", known)
	}
	return nil
}

// prepareProgram reads the program's map, and checks that the program is there.
func (p *play) prepareProgram(job *Job) error {
	m, err := spec.ParseFlowMap(job.MapFile, job.Map)
	if err != nil {
		return err
	}
	p.mapped = (*foreign.Map)(m)
	return installed(p.sc.Agent.Program)
}
