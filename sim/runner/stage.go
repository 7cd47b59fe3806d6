package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// Stage is a scenario that a person plays step by step, in the shell of a guest: its topology
// stands, the agent watches, and the traffic waits for orders.
type Stage struct {
	// Runner is the runner to use; it is asked for when the stage is set up.
	Runner func() *Runner

	play  *play
	want  *wanted
	out   result.Scenario
	begun time.Time
	next  int // step
}

// Help is one line per command: its name, two blanks, what it does.
func (s *Stage) Help() string {
	return `steps  the scenario's steps; > marks the next one
next  carry out the next step
play  carry out all steps that are left
advance DURATION  move the agent's clock
flows  what the agent has reported so far, in the form of golden files
ct  the connection table (ct json: in full)
counters  what became of the packets at every hook
`
}

// Setup builds the scenario's topology and starts the agent.
func (s *Stage) Setup(ctx context.Context, job Job, out io.Writer) error {
	var err error
	s.out, s.begun, s.next = result.Scenario{Name: job.Name}, time.Now(), 0
	if s.play, s.want, err = s.Runner().begin(ctx, job, &s.out); err != nil {
		return err
	}
	sc := s.play.sc
	fmt.Fprintf(out, "%s: %s\n", sc.Name, sc.Summary)
	for _, h := range sc.Topology.Hosts {
		fmt.Fprintf(out, "  host %-12s network namespace %s\n", h.Name, filepath.Base(s.play.net.Path(h.Name)))
	}
	fmt.Fprintf(out, "the agent watches %v; %d steps wait (steps, next, play; help)\n",
		sc.Agent.On, len(sc.Steps))
	return nil
}

// Steps is how many steps the scenario has.
func (s *Stage) Steps() int { return len(s.play.sc.Steps) }

// PlayTo carries out the steps before step n, counted from 0.
func (s *Stage) PlayTo(ctx context.Context, n int, out io.Writer) error {
	for s.next < n {
		if err := s.nextStep(ctx, nil, out); err != nil {
			return err
		}
	}
	return nil
}

// Do runs a function on a thread inside a host's network namespace. What it starts is inside, too.
func (s *Stage) Do(host string, f func() error) error {
	if s.play.sc.Topology.Host(host) == nil {
		return fmt.Errorf("there is no host %q", host)
	}
	return s.play.net.Do(host, f)
}

// Finish ends the agent, strikes the stage and judges what happened on it.
func (s *Stage) Finish(ctx context.Context) result.Scenario {
	err := s.Runner().conclude(s.play, s.want, s.play.finish(ctx), &s.out)
	if err != nil {
		s.out.Verdict, s.out.Reason = verdictOf(err), err.Error()
	}
	s.play = nil
	s.out.Millis = time.Since(s.begun).Milliseconds()
	return s.out
}

// Command carries out a command; known is false when it is not one of the stage's.
func (s *Stage) Command(ctx context.Context, args []string, out io.Writer) (known bool, err error) {
	commands := map[string]func(context.Context, []string, io.Writer) error{
		"steps": s.steps, "next": s.nextStep, "play": s.playAll, "advance": s.advance,
		"flows": s.flows, "ct": s.connections, "counters": s.counters,
	}
	run, known := commands[args[0]]
	if !known || s.play == nil {
		return false, nil
	}
	if s.play.agent == nil && args[0] != "steps" && args[0] != "next" && args[0] != "play" {
		return true, errors.New("the agent does not run")
	}
	return true, run(ctx, args[1:], out)
}

func (s *Stage) steps(_ context.Context, _ []string, out io.Writer) error {
	for i := range s.play.sc.Steps {
		mark := " "
		if i == s.next {
			mark = ">"
		}
		step := &s.play.sc.Steps[i]
		fmt.Fprintf(out, "%s %2d  line %-4d %s\n", mark, i+1, step.Line, kind(step))
	}
	return nil
}

func kind(s *spec.Step) string {
	switch {
	case s.Packet != nil:
		return "packet"
	case s.TCP != nil:
		return fmt.Sprintf("tcp, %d segments", len(s.TCP.Script))
	case s.UDP != nil:
		return fmt.Sprintf("udp, %d datagrams", len(s.UDP.Script))
	case s.Ping != nil:
		return fmt.Sprintf("ping, %d times", s.Ping.Count)
	case s.Burst != nil:
		return fmt.Sprintf("burst of %d flows", s.Burst.Flows)
	case s.Socket != nil:
		return s.Socket.Network + " sockets"
	case s.Replay != nil:
		return "replay of " + s.Replay.File
	case s.Link != nil:
		return fmt.Sprintf("link %s: %s", s.Link.Port, s.Link.Action)
	case s.Host != nil:
		return fmt.Sprintf("host %s: %s", s.Host.Host, s.Host.Action)
	case s.Impair != nil:
		return fmt.Sprintf("impair %s > %s", s.Impair.From, s.Impair.To)
	case s.Agent == "limit":
		return fmt.Sprintf("agent: limit, memory: %d KiB", s.Memory>>10)
	case s.Agent != "" && s.Table > 0:
		return fmt.Sprintf("agent: %s, table: %d", s.Agent, s.Table)
	case s.Agent != "":
		return "agent: " + s.Agent
	}
	return fmt.Sprintf("advance: %v", s.Advance)
}

func (s *Stage) nextStep(ctx context.Context, _ []string, out io.Writer) error {
	if s.next == len(s.play.sc.Steps) {
		return errors.New("all steps were carried out")
	}
	step := &s.play.sc.Steps[s.next]
	if err := errors.Join(s.play.step(ctx, step), s.play.watch()); err != nil {
		return err
	}
	s.next++
	_, err := fmt.Fprintf(out, "%d of %d: %s\n", s.next, len(s.play.sc.Steps), kind(step))
	return err
}

func (s *Stage) playAll(ctx context.Context, _ []string, out io.Writer) error {
	return s.PlayTo(ctx, s.Steps(), out)
}

func (s *Stage) advance(ctx context.Context, args []string, _ io.Writer) error {
	if len(args) != 1 {
		return errors.New("want one duration: advance 10s")
	}
	by, err := time.ParseDuration(args[0])
	if err == nil && by <= 0 {
		err = errors.New("time goes forward only")
	}
	if err != nil {
		return fmt.Errorf("advance %s: %w", args[0], err)
	}
	return s.play.advance(ctx, int64(by))
}

func (s *Stage) flows(ctx context.Context, _ []string, out io.Writer) error {
	if err := s.play.agent.client.Sweep(ctx); err != nil {
		return err
	}
	data, err := os.ReadFile(s.play.flowFile())
	if err != nil {
		return err
	}
	told, err := golden.ParseOutput(s.play.flowFile(), data)
	if err != nil {
		return err
	}
	names := golden.TopologyNames(s.play.sc.Topology)
	flows, _ := golden.Records(told.Flows, names)
	dns, _ := golden.TakeDNS(told.DNS, names)
	_, err = out.Write(golden.Encode(&golden.Golden{Flows: flows, DNS: dns,
		Drops: golden.Drops(told.Drops, names, s.play.namespaces)}))
	return err
}

func (s *Stage) connections(ctx context.Context, args []string, out io.Writer) error {
	all, err := s.play.agent.client.Connections(ctx)
	if err != nil {
		return err
	}
	if len(args) > 0 && args[0] == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	names := golden.TopologyNames(s.play.sc.Topology)
	_, err = out.Write(golden.Encode(&golden.Golden{Connections: golden.Connections(all, names)}))
	return err
}

func (s *Stage) counters(ctx context.Context, _ []string, out io.Writer) error {
	ledger, err := s.play.agent.client.Counters(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOOK\tMODE\tSEEN\tACCOUNTED\tOBSERVED\tLEFT OUT\tLOST")
	for _, h := range ledger.Hooks {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", h.Hook, h.Mode, h.Seen.Packets,
			h.Accounted.Packets, h.Observed.Packets, byReason(h.LeftOut), byReason(h.Lost))
	}
	return t.Flush()
}

// byReason is "reason: packets" for each reason, in their order; "-" for none.
func byReason(counts map[string]bpf.Count) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", reason, counts[reason].Packets))
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, ", ")
}
