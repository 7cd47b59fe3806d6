package chain_test

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
)

// pass is the verdict that lets a packet pass by itself.
func pass(kind hook.Kind) hook.Verdict {
	if kind == hook.XDP {
		return hook.XDPPass
	}
	return hook.TCOk
}

// wantTraces checks that all packets met the same members.
func wantTraces(t *testing.T, want []step, got [][]step) {
	t.Helper()
	for _, g := range got {
		require.Equal(t, want, g)
	}
}

func TestApply(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		one, two := b.member(w.kind, 1, 10, pass(w.kind), 1), b.member(w.kind, 2, 20, pass(w.kind), 1)
		ch := b.mustApply(b.chain(w.kind, w.backend, one, two))
		require.Equal(t, w.backend, ch.Backend)
		require.Equal(t, uint64(1), ch.To)
		sent, passed := b.send(w.kind, 3)
		require.Len(t, passed, 3)
		wantTraces(t, []step{{1, 1}, {2, 1}}, b.traces(w.kind, sent))

		before := b.hook(w.kind, w.backend)
		ch = b.mustApply(b.chain(w.kind, "", one, two))
		require.True(t, ch.Unchanged())
		require.Empty(t, ch.Steps)
		require.Equal(t, before, b.hook(w.kind, w.backend))

		one.Priority = 30
		ch = b.mustApply(b.chain(w.kind, "", one, two))
		require.Len(t, ch.Steps, 1)
		require.Equal(t, uint64(2), ch.To)
		sent, _ = b.send(w.kind, 3)
		wantTraces(t, []step{{2, 1}, {1, 1}}, b.traces(w.kind, sent))

		two.Disabled = true
		b.mustApply(b.chain(w.kind, "", one, two))
		sent, _ = b.send(w.kind, 3)
		wantTraces(t, []step{{1, 1}}, b.traces(w.kind, sent))

		b.manager(func(m *chain.Manager) {
			_, err := m.Delete(chain.ApplyOptions{}, b.chain(w.kind, "").Key)
			require.NoError(t, err)
			require.Empty(t, m.List())
		})
		require.Empty(t, b.hook(w.kind, w.backend).Own)
		_, passed = b.send(w.kind, 3)
		require.Len(t, passed, 3)
	})
}

// expected is what members do to a packet, and whether it passes: an interpreter of the rules, without eBPF.
func expected(kind hook.Kind, members []chain.Member) (trace []step, passes bool) {
	verdict := hook.Verdict(-1)
	for _, m := range members {
		trace = append(trace, step{uint16(m.Constants["member"]), uint16(m.Constants["generation"])})
		verdict = hook.Verdict(m.Constants["verdict"])
		on := false
		for _, name := range m.ProceedOn {
			v, err := kind.Verdict(name)
			on = on || err == nil && v == verdict
		}
		if !on {
			break
		}
	}
	if kind == hook.XDP {
		return trace, verdict == hook.XDPPass
	}
	return trace, verdict != hook.TCShot
}

var rounds = flag.Int("rounds", 3, "how many chains TestRandomChains applies at each hook")

// TestRandomChains applies chains with members, orders, verdicts and policies drawn by chance, one
// over the other, and holds what packets meet against the rules.
func TestRandomChains(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		r := rand.New(rand.NewPCG(3, 4))
		verdicts := []string{"drop", "pass"}
		if w.kind != hook.XDP {
			verdicts = []string{"drop", "ok", "pipe", "next"}
		}
		for round := range *rounds {
			var members []chain.Member
			for order, n := range r.Perm(w.members())[:1+r.IntN(w.members())] {
				v, err := w.kind.Verdict(verdicts[len(verdicts)-1])
				if r.IntN(8) == 0 {
					v, err = w.kind.Verdict(verdicts[r.IntN(len(verdicts))])
				}
				require.NoError(t, err)
				m := b.member(w.kind, n, order, v, round)
				m.ProceedOn = []string{}
				for _, name := range verdicts {
					if name == verdicts[len(verdicts)-1] || r.IntN(2) == 0 {
						m.ProceedOn = append(m.ProceedOn, name)
					}
				}
				members = append(members, m)
			}
			shuffled := append([]chain.Member{}, members...)
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			b.mustApply(b.chain(w.kind, w.backend, shuffled...))
			trace, passes := expected(w.kind, members)
			sent, passed := b.send(w.kind, 2)
			wantTraces(t, trace, b.traces(w.kind, sent))
			require.Equal(t, passes, len(passed) == 2, "%d of 2 passed", len(passed))
		}
	})
}

// XDP chains are wired in the best way that their members and the kernel allow, or as they ask for; they go from
// one to the other in one swap, with their state.
func TestWirings(t *testing.T) {
	b := newBed(t)
	best, why := dispatcher, ""
	if features.HaveProgramType(ebpf.Extension) != nil {
		best, why = xdpLink, "xdp-dispatcher: this kernel cannot replace functions of XDP programs: "
	}
	members := func(n int) (all []chain.Member) {
		for i := range n {
			all = append(all, b.member(hook.XDP, i, i, hook.XDPPass, n))
		}
		return all
	}
	status := func() (s chain.Status) {
		b.manager(func(m *chain.Manager) { s = m.List()[0] })
		return s
	}
	ch := b.mustApply(b.chain(hook.XDP, "", members(2)...))
	require.Equal(t, best, ch.Backend)
	require.Equal(t, why != "", strings.HasPrefix(ch.Fallback, why) && ch.Fallback != "")
	sent, _ := b.send(hook.XDP, 3)
	wantTraces(t, []step{{0, 2}, {1, 2}}, b.traces(hook.XDP, sent))
	seen := b.seen(hook.XDP, "m00")

	ch = b.mustApply(b.chain(hook.XDP, xdpLink, members(2)...))
	require.Equal(t, xdpLink, ch.Backend)
	require.Empty(t, ch.Steps)
	require.Equal(t, best == dispatcher, !ch.Unchanged())
	require.Equal(t, xdpLink, status().Backend)
	require.Equal(t, seen, b.seen(hook.XDP, "m00"))
	b.meets(hook.XDP, []step{{0, 2}, {1, 2}})

	ch = b.mustApply(b.chain(hook.XDP, "", members(11)...))
	require.Equal(t, xdpLink, ch.Backend)
	if why == "" {
		require.Equal(t, "xdp-dispatcher: 11 members; there is room for 10", ch.Fallback)
	}
	require.Equal(t, ch.Fallback, status().Fallback)
	ch = b.mustApply(b.chain(hook.XDP, "", members(11)...))
	require.True(t, ch.Unchanged())
	require.Equal(t, ch.Fallback, status().Fallback)

	ch = b.mustApply(b.chain(hook.XDP, "", members(10)...))
	require.Equal(t, best, ch.Backend)
	require.Equal(t, best, status().Backend)
	sent, _ = b.send(hook.XDP, 3)
	require.Len(t, b.traces(hook.XDP, sent)[0], 10)
	b.clean(1)

	other := chain.Member{Name: "other", Object: b.object, Program: "xdp_enum"} // only the kernel knows that it does not fit
	ch = b.mustApply(b.chain(hook.XDP, "", append(members(2), other)...))
	require.Equal(t, xdpLink, ch.Backend)
	if why == "" {
		require.Contains(t, ch.Fallback, "xdp-dispatcher: member other: load program xdp_enum: ")
	}
	require.Equal(t, ch.Fallback, status().Fallback)
	sent, _ = b.send(hook.XDP, 3)
	wantTraces(t, []step{{0, 2}, {1, 2}}, b.traces(hook.XDP, sent))

	before := b.snapshot()
	_, err := b.apply(&chain.Spec{Chains: []chain.Chain{b.chain(hook.XDP, dispatcher, members(11)...)}}, chain.ApplyOptions{})
	require.ErrorContains(t, err, "11 are enabled; a chain has at most 10")
	if why != "" {
		_, err = b.apply(&chain.Spec{Chains: []chain.Chain{b.chain(hook.XDP, dispatcher, members(1)...)}}, chain.ApplyOptions{})
		require.ErrorContains(t, err, why)
	}
	require.Equal(t, before, b.snapshot())
}
