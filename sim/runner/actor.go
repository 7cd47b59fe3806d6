package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/settings"
	"github.com/weirnet/weir/sim/cgroup"
)

// actor is the agent on stage: inside this process, or as a process of its own.
type actor struct {
	client *control.Client
	logs   *logBuffer
	end    func() error // ends it in order
	abort  func() error // ends it at once
	signal func(os.Signal) error
	ended  chan error    // of a process: holds how it ended, once it has
	group  *cgroup.Group // of a process whose memory can be bounded
	pid    int           // likewise
	dead   bool          // killed; a process's attachments live on
	paused bool          // stopped by SIGSTOP
}

func (a *actor) stop() error { return a.end() }

func (a *actor) kill() error {
	if a.dead {
		return nil
	}
	a.dead = true
	return a.abort()
}

// pause stops the process, or lets it go on.
func (a *actor) pause(on bool) error {
	sig := unix.SIGCONT
	if on {
		sig = unix.SIGSTOP
	}
	a.paused = on
	return a.signal(sig)
}

func (a *actor) log() []byte { return a.logs.bytes() }

// logBuffer takes a log while others read it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

func (p *play) lifetimes() map[conntrack.State]time.Duration {
	all := map[conntrack.State]time.Duration{}
	for _, s := range conntrack.States() {
		if d, ok := p.sc.Agent.Lifetimes[s.String()]; ok {
			all[s] = d
		}
	}
	return all
}

func (p *play) tableFull() string {
	if p.sc.Agent.TableFull != "" {
		return p.sc.Agent.TableFull
	}
	return agent.DefaultConfig().Table.Full
}

func (p *play) flowFile() string {
	if p.sc.Agent.Program != nil {
		return filepath.Join(p.dir, p.sc.Agent.Program.Flows)
	}
	return filepath.Join(p.dir, "flows.jsonl")
}

func (p *play) controlFile() string { return filepath.Join(p.dir, "control.sock") }

// config is the agent's configuration, as a user would write it.
func (p *play) config() agent.Config {
	cfg := agent.DefaultConfig()
	for _, on := range p.sc.Agent.On {
		cfg.Interfaces = append(cfg.Interfaces, agent.Interface{
			Name: on.Interface, Namespace: p.net.Path(on.Host), As: on.Host, Hook: p.sc.Agent.Hook,
			Zone: p.sc.Agent.Zone(on),
		})
	}
	if p.table > 0 {
		cfg.Table.Size = p.table
	}
	cfg.Table.Full = p.tableFull()
	cfg.Lifetimes = p.sc.Agent.Lifetimes
	cfg.Sweep = p.sc.Agent.Sweep
	cfg.FastPath = fastPath
	cfg.MidStream, cfg.Tunnels = p.sc.Agent.MidStream, p.sc.Agent.Tunnels
	cfg.Sample, cfg.Filters = p.sc.Agent.Sample, p.sc.Agent.Filters
	cfg.Features, cfg.DNS = p.sc.Agent.Features, p.dns()
	p.labels(&cfg.Labels)
	cfg.Output = p.flowFile()
	cfg.Control = p.controlFile()
	cfg.Clock = agent.Clock{Virtual: true, Start: p.now}
	return cfg
}

// fastPath has few slots, so that flows compete for them, and gives them at once, so that they are
// used.
var fastPath = agent.FastPath{Slots: 256, After: 1}

func (p *play) startAgent(ctx context.Context) error {
	cfg := p.config()
	a := &actor{client: control.Dial(cfg.Control), logs: &logBuffer{}}
	run := p.runInside
	if p.sc.Agent.Process {
		run = p.runProcess
	}
	if err := run(ctx, a, cfg); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	if p.agent != nil {
		p.logs = append(p.logs, p.agent.log()...)
	}
	p.agent = a
	clear(p.gone)
	p.clock = p.now
	return nil
}

// runInside runs the agent in this process, on the datapath that is loaded already if it fits.
func (p *play) runInside(ctx context.Context, a *actor, cfg agent.Config) error {
	opts := agent.Options{Log: slog.New(slog.NewTextHandler(a.logs, nil))}
	if dp := p.runner.datapath(&cfg); dp != nil {
		if err := dp.Reset(); err != nil {
			return err
		}
		opts.Datapath = dp
	}
	run, err := agent.New(cfg, opts)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run.Run(life) }()
	a.end = func() error {
		cancel()
		return <-ended
	}
	a.abort = a.end // a goroutine cannot be killed; scenarios that kill use a process
	return p.answers(ctx, a, ended)
}

// runProcess runs the agent as its users do.
func (p *play) runProcess(ctx context.Context, a *actor, cfg agent.Config) error {
	cfg.Pin = p.pin()
	data, err := yaml.Marshal(cfg)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "weir.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	command := p.runner.opts.Agent
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		command = []string{self, "agent"}
	}
	cmd := exec.Command(command[0], append(command[1:], "--config", file)...)
	cmd.Env = withoutSettings(os.Environ())
	if p.sc.Agent.Limited {
		cmd.Env = withoutCollector(cmd.Env)
	}
	cmd.Stdout, cmd.Stderr = a.logs, a.logs
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	a.ended, a.signal = ended, cmd.Process.Signal
	a.end = func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		return <-ended
	}
	a.abort = func() error {
		err := cmd.Process.Kill()
		<-ended
		return err
	}
	if p.sc.Agent.Limited {
		if err := p.confine(a, cmd.Process.Pid); err != nil {
			return errors.Join(err, a.kill())
		}
	}
	return p.answers(ctx, a, ended)
}

// pin is where the tables of a killed agent wait for the next one.
func (p *play) pin() string { return filepath.Join(bpfFolder, filepath.Base(p.dir)) }

// An agent that starts is asked whether it is there, first soon, and then less and less often: on one CPU,
// who asks takes the time of who starts.
const (
	askFirst = time.Millisecond
	askLast  = 20 * time.Millisecond
)

// answers waits until the agent's control socket answers.
func (p *play) answers(ctx context.Context, a *actor, ended chan error) error {
	for wait := askFirst; ; wait = min(2*wait, askLast) {
		if _, err := a.client.Counters(ctx); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("the agent has ended: %w\n%s", err, a.log())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), a.kill())
		case <-time.After(wait):
		}
	}
}

// withoutSettings is an environment without the agent's keys: a scenario says how its agent runs, not
// who runs the scenario.
func withoutSettings(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, settings.Prefix) })
}

// withoutCollector is an environment in which Go collects garbage as it does by itself: what is good for a
// guest is too much for an agent with a limit.
func withoutCollector(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		return strings.HasPrefix(v, "GOGC=") || strings.HasPrefix(v, "GOMEMLIMIT=")
	})
}
