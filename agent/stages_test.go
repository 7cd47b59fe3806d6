package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/chain/member"
	"github.com/weirnet/weir/bpf/latency"
)

// Stages are the packet path and the features that stand on hooks.
func TestStageNames(t *testing.T) {
	require.ElementsMatch(t, append(onHooks(), chain.StageFlow), chain.StageNames())
}

// chainKey names a chain at the far end.
func (p *pair) chainKey(kind hook.Kind) chain.Key {
	return chain.Key{Namespace: p.far, Interface: farName, Hook: kind}
}

// staged are chains at both hooks of the far end, with stages and a member of priority 50.
func (p *pair) staged(object, backend string, priority int, stages ...string) *chain.Spec {
	spec := &chain.Spec{}
	for _, kind := range []hook.Kind{hook.Ingress, hook.Egress} {
		members := []chain.Member{{Name: "m", Priority: 50, Object: object, Program: "tc_member",
			Constants: map[string]int64{"verdict": int64(hook.TCNext)}}}
		for _, stage := range stages {
			members = append(members, chain.Member{Name: stage, Stage: stage, Priority: priority})
		}
		spec.Chains = append(spec.Chains, chain.Chain{Key: p.chainKey(kind), Backend: backend, Members: members})
	}
	return spec
}

// memberObject is a file with the members of tests.
func memberObject(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "member.o")
	require.NoError(t, os.WriteFile(file, member.Object(), 0o600))
	return file
}

// TestStagesTell: in chains, the packet path and features tell what they tell elsewhere. They go into chains, move and
// leave them while the agent runs.
func TestStagesTell(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		cfg.Features = latency.Features()
		cfg.Control = filepath.Join(t.TempDir(), "control.sock")
		cfg.Chains = &Chains{State: t.TempDir(), Pin: pinFolder(t)}
		a, err := New(cfg, Options{})
		require.NoError(t, err)
		stop := run(t, a)
		eventually(t, "the agent to answer", func() bool { return control.Answers(cfg.Control) })
		require.Len(t, p.attached(t), 6)
		client := api.Dial(t.Context(), cfg.Control)
		object := memberObject(t)
		// apply puts the stages before or behind a member that lets packets pass.
		apply := func(priority int) {
			t.Helper()
			names := append([]string{chain.StageFlow}, latency.Features()...)
			_, err := client.Apply(p.staged(object, mode, priority, names...), chain.ApplyOptions{})
			require.NoError(t, err)
			require.Len(t, p.attached(t), 2, "the chains alone")
		}
		accounted := func(frames ...[]byte) uint64 {
			t.Helper()
			before := ingress(t, a)
			p.send(t, frames...)
			return ingress(t, a) - before
		}
		frame := p.udp(t, 4000, 4001, 10)

		apply(10)
		require.EqualValues(t, 2, accounted(frame, frame))
		apply(90)
		require.EqualValues(t, 2, accounted(frame, frame))
		resolver := p.ask(t, exampleQuery)
		speaker, _ := p.talk(t)
		_, err = client.Delete(chain.ApplyOptions{}, p.chainKey(hook.Ingress), p.chainKey(hook.Egress))
		require.NoError(t, err)
		require.Len(t, p.attached(t), 6)
		require.EqualValues(t, 2, accounted(frame, frame))
		require.NoError(t, stop())
		require.Empty(t, p.attached(t))

		flows, dns := readLatency(t, cfg.Output)
		require.Len(t, dns, 1)
		require.Equal(t, flow.DNSAnswered, dns[0].Outcome)
		require.Equal(t, resolver.Port(), dns[0].ClientPort)
		require.Zero(t, dns[0].Repeats)
		require.True(t, slices.ContainsFunc(flows, func(r flow.Record) bool { return r.Lookups != nil && r.SrcPort == resolver.Port() }))
		require.True(t, slices.ContainsFunc(flows, func(r flow.Record) bool { return r.Handshake != nil && r.SrcPort == speaker.Port() }))
	})
}

// TestKilledStages kills agents whose packet path is in chains while packets come: it goes on there, the next agent
// adopts it, and every packet that the interface has received is in the flow file.
func TestKilledStages(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.pinned(t)
		cfg.Interfaces[0].Hook = mode
		cfg.Chains = &Chains{State: t.TempDir(), Pin: pinFolder(t)}
		object, client := memberObject(t), api.Dial(t.Context(), cfg.Control)
		agent := startProcess(t, cfg)
		before := p.received(t)
		f := p.flood(t, 64)
		for round := range 3 {
			_, err := client.Apply(p.staged(object, mode, 40+10*round, chain.StageFlow), chain.ApplyOptions{})
			require.NoError(t, err)
			agent.kill(t)
			require.Len(t, p.attached(t), 2, "chains outlive the agent")
			agent = startProcess(t, cfg)
			require.Len(t, p.attached(t), 2)
		}
		_, err := client.Delete(chain.ApplyOptions{}, p.chainKey(hook.Ingress), p.chainKey(hook.Egress))
		require.NoError(t, err)
		agent.kill(t)
		agent = startProcess(t, cfg)
		f.end(t)
		want := p.receivedSince(t, before)
		agent.accounts(t, want)
		agent.end(t)
		require.Equal(t, want, delivered(t, cfg.Output))
		require.Empty(t, p.attached(t))
	})
}

// ingress is how many packets were accounted that came in.
func ingress(t *testing.T, a *Agent) (n uint64) {
	t.Helper()
	all, err := a.Counters()
	require.NoError(t, err)
	for _, h := range all.Hooks {
		if h.Hook.Direction == flow.Ingress {
			n += h.Accounted.Packets
		}
	}
	return n
}
