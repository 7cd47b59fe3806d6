package chain_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// discard is a sink that wants nothing.
type discard struct{}

func (discard) Write(*flow.Record) error { return nil }
func (discard) Flush() error             { return nil }

// watcher is an agent that watches the far end and owns its chains.
type watcher struct {
	*bed
	w      way
	cfg    agent.Config
	agent  *agent.Agent
	client *api.Client
}

// watch starts an agent; its packet path is put on the hook as the backend puts a chain.
func (b *bed) watch(w way, features ...string) *watcher {
	b.t.Helper()
	cfg := agent.DefaultConfig()
	cfg.Interfaces = []agent.Interface{{Name: far, Namespace: b.namespaces[1], Hook: mode(w)}}
	cfg.Control = filepath.Join(b.t.TempDir(), "control.sock")
	cfg.Chains = &agent.Chains{State: b.state, Pin: b.pin}
	cfg.Table.Size = 1024
	cfg.Features = features
	a := &watcher{bed: b, w: w, cfg: cfg, client: api.Dial(b.t.Context(), cfg.Control)}
	return a
}

// mode is how the agent attaches by itself where a chain is attached by a backend.
func mode(w way) string {
	if w.backend == hook.TC {
		return bpf.TC
	}
	return bpf.TCX
}

// start runs the agent.
func (a *watcher) start() (stop func()) {
	a.t.Helper()
	var err error
	a.agent, err = agent.New(a.cfg, agent.Options{Sink: discard{}})
	require.NoError(a.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.agent.Run(ctx) }()
	a.until("the agent answers", func() bool { return control.Answers(a.cfg.Control) })
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(a.t, <-ended)
		}
	}
	a.t.Cleanup(stop)
	return stop
}

// seen is how many packets the packet path has seen at the hook, and how it is attached there.
func (a *watcher) seen() (packets uint64, mode string) {
	a.t.Helper()
	all, err := a.agent.Counters()
	require.NoError(a.t, err)
	for _, h := range all.Hooks {
		if (h.Hook.Direction == flow.Egress) == (a.w.kind == hook.Egress) {
			packets += h.Seen.Packets
			if !h.Gone {
				mode = h.Mode
			}
		}
	}
	return packets, mode
}

// sees tells how many of so many packets the packet path sees, beside the fence.
func (a *watcher) sees(count int) uint64 {
	a.t.Helper()
	before, _ := a.seen()
	a.send(a.w.kind, count)
	after, _ := a.seen()
	return after - before
}

func (a *watcher) apply(members ...chain.Member) []chain.Change {
	a.t.Helper()
	changes, err := a.client.Apply(&chain.Spec{Chains: []chain.Chain{a.chain(a.w.kind, a.w.backend, members...)}}, chain.ApplyOptions{})
	require.NoError(a.t, err)
	require.Len(a.t, changes, 1)
	return changes
}

// stage is weir's own stage at a place.
func stage(name string, order int) chain.Member {
	return chain.Member{Name: "weir-" + name, Stage: name, Priority: order}
}

// eachTC runs a test for all backends of the traffic control that this kernel has.
func eachTC(t *testing.T, fn func(t *testing.T, b *bed, w way)) {
	t.Helper()
	for _, k := range []hook.Kind{hook.Ingress, hook.Egress} {
		for _, backend := range chain.Backends(k) {
			w := way{k, backend}
			t.Run(w.String(), func(t *testing.T) {
				b := newBed(t)
				b.need(w)
				fn(t, b, w)
			})
		}
	}
}

// The packet path sees what members before it let pass, and what those behind it drop, wherever it is in the chain; it
// goes back to where the agent puts it by itself when the chain has it no more. Where it is outlasts the agent.
func TestStages(t *testing.T) {
	eachTC(t, func(t *testing.T, b *bed, w way) {
		a := b.watch(w)
		stop := a.start()
		drops, passes := b.member(w.kind, 1, 50, hook.TCShot, 1), b.member(w.kind, 2, 60, hook.TCNext, 1)
		flow := func(order int) chain.Member { return stage(chain.StageFlow, order) }
		attached := func(want string) {
			t.Helper()
			_, mode := a.seen()
			require.Equal(t, want, mode)
		}
		attached(mode(w))
		require.EqualValues(t, 6, a.sees(5), "with the fence")

		a.apply(passes)
		attached(mode(w))
		a.apply(passes, flow(100)) // last
		attached(bpf.Chain)
		require.EqualValues(t, 6, a.sees(5))
		list, err := a.client.List()
		require.NoError(t, err)
		require.Equal(t, chain.StageFlow, list[0].Members[1].Stage)
		require.NotZero(t, list[0].Members[1].Program)
		unchanged := a.apply(passes, flow(100))
		require.True(t, unchanged[0].Unchanged())

		a.apply(drops, passes, flow(100)) // behind the member that drops
		sent, through := b.send(w.kind, 2)
		require.Empty(t, through)
		wantTraces(t, []step{{1, 1}}, b.traces(w.kind, sent))
		require.EqualValues(t, 1, a.sees(5), "the fence, that no member drops")

		if w.backend == hook.TCXLinks { // one step at a time
			a.apply(drops, passes)
			attached(bpf.TCX)
		}
		a.apply(drops, passes, flow(10)) // before it
		attached(bpf.Chain)
		require.EqualValues(t, 6, a.sees(5))

		if w.backend == hook.TCXLinks {
			a.apply(drops, passes)
		}
		a.apply(drops, passes, flow(55)) // between both
		require.EqualValues(t, 1, a.sees(5))
		a.apply(passes, flow(55))
		require.EqualValues(t, 6, a.sees(5))
		sent, _ = b.send(w.kind, 2)
		wantTraces(t, []step{{2, 1}}, b.traces(w.kind, sent))

		stop()
		sent, through = b.send(w.kind, 2) // nobody counts, and packets go their way
		require.Len(t, through, 2)
		wantTraces(t, []step{{2, 1}}, b.traces(w.kind, sent))
		a.start()
		attached(bpf.Chain)
		require.EqualValues(t, 6, a.sees(5))

		_, err = a.client.Delete(chain.ApplyOptions{}, b.chain(w.kind, "").Key)
		require.NoError(t, err)
		attached(mode(w))
		require.EqualValues(t, 6, a.sees(5))
	})
}

// The packet path comes into a chain, moves in it and leaves it while packets come without a pause: it sees each of
// them once, wherever it is.
func TestStagesUnderLoad(t *testing.T) {
	eachTC(t, func(t *testing.T, b *bed, w way) {
		a := b.watch(w)
		a.start()
		one, two := b.member(w.kind, 1, 50, hook.TCNext, 0), b.member(w.kind, 2, 60, hook.TCNext, 0)
		one.Program, two.Program = "tc_checked", "tc_checked"
		for i, m := range []*chain.Member{&one, &two} {
			m.Constants["position"], m.Constants["length"] = int64(i), 2
		}
		a.apply(one, two)
		l := b.openLedger(w.kind)
		dropped, before := b.dropped(w.kind), uint64(0)
		before, _ = a.seen()
		stop := b.load(w.kind)
		for range *swaps {
			for _, order := range []int{10, 100, 55} {
				a.apply(one, two, stage(chain.StageFlow, order))
				if w.backend == hook.TCXLinks {
					a.apply(one, two)
				}
			}
			a.apply(one, two)
		}
		sent := stop()
		lost := b.dropped(w.kind) - dropped
		seen := func() uint64 { n, _ := a.seen(); return n - before }
		b.until("all packets have gone", func() bool { return l.all(1)+lost >= sent })
		t.Logf("%d packets, %d rounds; the packet path has seen %d", sent, *swaps, seen())
		require.Zero(t, l.wrong())
		require.Equal(t, sent-lost, seen())
	})
}

// What cannot be a stage here is refused, and nothing changes.
func TestStagesRefused(t *testing.T) {
	b := newBed(t)
	w := way{hook.Ingress, hook.TC}
	a := b.watch(w)
	a.start()
	refused := func(c chain.Chain, want string) {
		t.Helper()
		_, err := a.client.Apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{})
		require.ErrorContains(t, err, want)
		list, err := a.client.List()
		require.NoError(t, err)
		require.Empty(t, list)
	}
	refused(b.chain(w.kind, w.backend, stage(chain.StageDNS, 1)),
		"stage dns: the agent does not run it; name dns in its configuration's `features`")
	near := b.chain(w.kind, w.backend, stage(chain.StageFlow, 1))
	near.Namespace, near.Interface = b.namespaces[0], "near0"
	refused(near, "stage flow: the agent does not watch this interface")
	var many []chain.Member
	for n := range 26 {
		many = append(many, b.member(w.kind, n, n, hook.TCNext, 1))
	}
	refused(b.chain(w.kind, w.backend, append(many, stage(chain.StageFlow, 1))...),
		"27 members, in which a packet takes 5 tail calls more; there is room for 30 together")
	_, err := a.client.Apply(&chain.Spec{Chains: []chain.Chain{b.chain(w.kind, w.backend, append(many[1:], stage(chain.StageFlow, 99))...)}}, chain.ApplyOptions{})
	require.ErrorContains(t, err, "26 members")
	a.apply(append(many[:24], stage(chain.StageFlow, 99))...)
	require.EqualValues(t, 6, a.sees(5), "the last of as many as there is room for")
}

// Without an agent, nobody runs stages.
func TestStagesWithoutAgent(t *testing.T) {
	b := newBed(t)
	_, err := b.apply(&chain.Spec{Chains: []chain.Chain{b.chain(hook.Ingress, hook.TC, stage(chain.StageFlow, 1))}}, chain.ApplyOptions{})
	require.ErrorIs(t, err, chain.ErrNoStages)
}
