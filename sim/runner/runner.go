// Package runner runs one scenario: it builds the topology, starts the agent, sends the
// traffic, collects what the agent reports and judges it.
package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/require"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/topology"
)

// Job is a scenario to run. It carries the files' contents so that it can be sent to a guest.
type Job struct {
	Name       string `json:"name"`                  // path below scenarios/, without .yaml
	File       string `json:"file"`                  // for error messages
	Variant    string `json:"variant,omitempty"`     // of the scenario's matrix; it is part of the name
	Spec       []byte `json:"spec"`                  // the scenario, YAML
	GoldenFile string `json:"golden_file,omitempty"` // for error messages
	Golden     []byte `json:"golden,omitempty"`      // the golden file; empty: there is none
	// KernelGoldens are the golden files of kernel lines that have their own, by line.
	KernelGoldens map[string]GoldenFile `json:"kernel_goldens,omitempty"`

	MapFile string `json:"map_file,omitempty"` // of a scenario with another program, for errors
	Map     []byte `json:"map,omitempty"`      // what it calls our terms
	// Captures are those that the scenario replays, by the name it has for them.
	Captures map[string][]byte `json:"captures,omitempty"`
}

// Programs are the programs and files that the job runs in the agent's place: none of a scenario of
// weir's own agent, and of what is no scenario.
func (j Job) Programs() []string {
	sc, err := j.Scenario()
	if err != nil || sc.Agent.Program == nil {
		return nil
	}
	return sc.Agent.Program.All()
}

// GoldenFile is a golden file and its content.
type GoldenFile struct {
	File string `json:"file"` // for error messages
	Data []byte `json:"data"`
}

// Scenario reads the job's scenario, and puts its captures in their places.
func (j Job) Scenario() (*spec.Scenario, error) {
	sc, err := spec.ParseVariant(j.File, j.Spec, j.Variant)
	if err != nil {
		return nil, err
	}
	for i := range sc.Steps {
		r := sc.Steps[i].Replay
		if r == nil {
			continue
		}
		data, ok := j.Captures[r.File]
		if !ok {
			return nil, &spec.Error{File: j.File, Line: sc.Steps[i].Line, Column: 1, Key: "replay",
				Msg: fmt.Sprintf("there is no capture %q", r.File), Hint: "its path is relative to the scenario's file"}
		}
		r.Data = data
	}
	return sc, nil
}

// Base is the name of the scenario, which all variants of its matrix have in common.
func (j Job) Base() string { return strings.TrimSuffix(j.Name, "["+j.Variant+"]") }

// Options say how scenarios are run.
type Options struct {
	// Keep leaves the topology and the agent's files in place afterwards.
	Keep bool
	// Agent is the command that runs the agent as a process, for scenarios that kill it; the
	// arguments of `weir agent` are appended. Empty: this very program.
	Agent []string
	// Pcap is a folder for a recording of every link, in a folder of the scenario's name; empty:
	// none is made.
	Pcap string
}

// deadline is how long one scenario may take. Nothing in a scenario waits for time to pass, so
// only what got stuck reaches it.
const deadline = 60 * time.Second

// Runner runs scenarios one after the other. It loads the datapath once for each size of the tables.
type Runner struct {
	opts   Options
	dp     *bpf.Datapath         // with tables of the default size
	sized  map[int]*bpf.Datapath // with others, by their size in entries
	prober require.Prober
	// features is what is known of the agent's features: why one cannot run, nil if it can.
	features map[string]error
}

// New removes what killed runs have left behind and loads the datapath. It needs root.
func New(opts Options) (*Runner, error) {
	if _, err := topology.Sweep(topology.Options{}); err != nil {
		return nil, fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	if err := sweepFiles(); err != nil {
		return nil, fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	dp, err := load(agent.DefaultConfig().Table.Size)
	if err != nil {
		return nil, err
	}
	return &Runner{opts: opts, dp: dp, sized: map[int]*bpf.Datapath{}, features: map[string]error{}}, nil
}

// load loads the datapath for agents inside this process.
func load(table int) (*bpf.Datapath, error) {
	cfg := agent.DefaultConfig()
	cfg.Clock.Virtual, cfg.FastPath, cfg.Table.Size = true, fastPath, table
	opts, err := cfg.DatapathOptions()
	if err != nil {
		return nil, err
	}
	return bpf.Load(opts)
}

// maxKept is up to which size of the tables a datapath stays loaded: loading is most of what a scenario
// costs under emulation, and these take little memory.
const maxKept = 4096

// keep loads the datapath that a scenario's agent runs on, if it is not loaded yet, and is one that stays.
func (r *Runner) keep(a *spec.Agent) error {
	if a.Process || a.Program != nil || a.Sweep != "" || a.Table == 0 || a.Table > maxKept || r.sized[a.Table] != nil {
		return nil
	}
	dp, err := load(a.Table)
	if err == nil {
		r.sized[a.Table] = dp
	}
	return err
}

// datapath is the loaded one that fits an agent's configuration; nil when there is none.
func (r *Runner) datapath(cfg *agent.Config) *bpf.Datapath {
	switch {
	case cfg.Sweep != "":
		return nil
	case cfg.Table.Size == agent.DefaultConfig().Table.Size:
		return r.dp
	}
	return r.sized[cfg.Table.Size]
}

// Probe finds out what scenarios may ask of the kernel, which takes as long as some of them. Without it the
// first scenario that asks waits for the answer.
func (r *Runner) Probe() error {
	for _, name := range agent.Features() {
		_ = r.lacks(name) // why is for the scenarios that need it
	}
	_, err := r.prober.Missing(require.Names())
	return err
}

// Verified is how many instructions the kernel's verifier has walked for each program of the
// datapath, and of the features that can run on this kernel.
func (r *Runner) Verified() (map[string]int, error) {
	all, err := r.dp.VerifierEffort()
	if err != nil {
		return nil, err
	}
	return all, addFeatures(all)
}

// Memory is how many bytes each of the datapath's maps takes, as the kernel says.
func (r *Runner) Memory() (map[string]uint64, error) { return r.dp.MapMemory() }

// Close unloads the datapath.
func (r *Runner) Close() error {
	err := r.dp.Close()
	for _, dp := range r.sized {
		err = errors.Join(err, dp.Close())
	}
	return err
}

// Run runs one scenario. It does not return an error: whatever happens is the verdict.
func (r *Runner) Run(ctx context.Context, job Job) result.Scenario {
	start := time.Now()
	out := result.Scenario{Name: job.Name}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	if err := r.run(ctx, job, &out); err != nil {
		out.Verdict, out.Reason = verdictOf(err), err.Error()
	}
	out.Millis = time.Since(start).Milliseconds()
	return out
}

// lacking is the error of a scenario that requires what the kernel does not have.
type lacking []string

func (l lacking) Error() string { return "this kernel has no " + strings.Join(l, ", ") }

// verdictOf tells what this machine cannot do from what went wrong.
func verdictOf(err error) result.Verdict {
	var missing *topology.Unsupported
	var program *notInstalled
	if errors.As(err, &missing) || errors.As(err, &program) || errors.As(err, new(lacking)) ||
		errors.Is(err, ebpf.ErrNotSupported) {
		return result.Skip
	}
	return result.Error
}

func (r *Runner) run(ctx context.Context, job Job, out *result.Scenario) error {
	play, want, err := r.begin(ctx, job, out)
	if err != nil {
		return err
	}
	return r.conclude(play, want, play.run(ctx), out)
}

// begin sets a scenario's stage, and reads its golden files.
func (r *Runner) begin(ctx context.Context, job Job, out *result.Scenario) (*play, *wanted, error) {
	sc, err := job.Scenario()
	if err != nil {
		return nil, nil, err
	}
	sc.Name = job.Name
	out.Summary = sc.Summary
	kernel, err := release()
	if err != nil {
		return nil, nil, err
	}
	want, err := wantedOf(&job, &sc.Expect, kernel)
	if err != nil {
		return nil, nil, err
	}
	if out.Missing, err = r.prober.Missing(sc.Requires); err != nil {
		return nil, nil, err
	}
	if len(out.Missing) > 0 {
		return nil, nil, lacking(out.Missing)
	}
	if err := r.keep(&sc.Agent); err != nil { // before what is held is counted: it stays
		return nil, nil, err
	}
	before, err := holds()
	if err != nil {
		return nil, nil, err
	}
	play, err := newPlay(ctx, r, sc, &job)
	if play != nil {
		play.before = before
	}
	return play, want, err
}

// conclude strikes the stage and judges what was collected, unless it went wrong.
func (r *Runner) conclude(play *play, want *wanted, err error, out *result.Scenario) error {
	out.AgentLog, out.OutOfMemory = play.log(), play.starved
	if r.opts.Keep {
		out.AgentLog += play.kept()
	}
	if err = errors.Join(err, play.close()); err != nil {
		return err
	}
	if !r.opts.Keep {
		leaks, err := leaked(play.before)
		if err != nil {
			return err
		}
		play.leaks = append(play.leaks, leaks...)
	}
	judge := func() error { return play.judge(want, out) }
	if play.mapped != nil {
		judge = func() error { return play.judgeProgram(out) }
	}
	if err := judge(); err != nil {
		return err
	}
	kernel, err := release()
	if f := play.sc.Expect.FailsOn(kernel); err == nil && f != nil {
		forgive(f, time.Now(), out)
	}
	return err
}
