package chain_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
)

// maxLinks is how many members a chain of links can have.
const maxLinks = 63

// eachLinks runs a test for chains of links at both hooks.
func eachLinks(t *testing.T, fn func(t *testing.T, b *bed, w way)) {
	t.Helper()
	for _, w := range []way{{hook.Ingress, hook.TCXLinks}, {hook.Egress, hook.TCXLinks}} {
		t.Run(w.String(), func(t *testing.T) {
			b := newBed(t)
			b.need(w)
			fn(t, b, w)
		})
	}
}

// linkMember is a member that says what it proceeds on, as the rules' interpreter wants it.
func (b *bed) linkMember(w way, number, generation int, verdict hook.Verdict) chain.Member {
	m := b.member(w.kind, number, 0, verdict, generation)
	m.ProceedOn = []string{"next", "ok", "pipe"}
	return m
}

// links is a chain of links of members in their order.
func (b *bed) links(w way, members []chain.Member) chain.Chain {
	members = slices.Clone(members)
	for i := range members {
		members[i].Priority = i
	}
	return b.chain(w.kind, w.backend, members...)
}

// edit changes one member, drawn by chance: it inserts, replaces or removes one.
func (b *bed) edit(r *rand.Rand, w way, members []chain.Member, number int) []chain.Member {
	members = slices.Clone(members)
	verdict := []hook.Verdict{hook.TCOk, hook.TCPipe, hook.TCNext}[r.IntN(3)]
	at := r.IntN(len(members))
	switch op := r.IntN(3); {
	case op == 0 && len(members) < maxLinks:
		return slices.Insert(members, at, b.linkMember(w, number, number, verdict))
	case op == 1 && len(members) > 1:
		return slices.Delete(members, at, at+1)
	}
	m := b.linkMember(w, int(members[at].Constants["member"]), number, verdict)
	members[at] = m
	return members
}

// Chains of up to 63 links, in orders drawn by chance, and changes of one member: packets meet what the rules say, and
// programs of members that stay are the same.
func TestLinks(t *testing.T) {
	eachLinks(t, func(t *testing.T, b *bed, w way) {
		r := rand.New(rand.NewPCG(7, 8))
		for round, n := range []int{maxLinks, 1 + r.IntN(maxLinks)} {
			var members []chain.Member
			for _, number := range r.Perm(maxLinks)[:n] {
				members = append(members, b.linkMember(w, number, round, hook.TCOk))
			}
			for change := range 2 + *rounds {
				switch last := 1 + *rounds; {
				case change == last: // a member in the middle drops
					m := &members[len(members)/2]
					*m = b.linkMember(w, int(m.Constants["member"]), change, hook.TCShot)
				case change > 0:
					members = b.edit(r, w, members, 100*(round+1)+change)
				}
				before := b.hook(w.kind, w.backend).Own
				c := b.links(w, members)
				require.Equal(t, w.backend, func() string { ch := b.mustApply(c); return ch.Backend }())
				after := b.hook(w.kind, w.backend).Own
				require.Len(t, after, len(members))
				if change > 0 {
					require.LessOrEqual(t, len(slices.DeleteFunc(after, func(id ebpf.ProgramID) bool { return slices.Contains(before, id) })), 1)
				}
				trace, passes := expected(w.kind, members)
				sent, passed := b.send(w.kind, 2)
				wantTraces(t, trace, b.traces(w.kind, sent))
				require.Equal(t, passes, len(passed) == 2, "%d of 2 passed", len(passed))
				require.True(t, func() bool { ch := b.mustApply(c); return ch.Unchanged() }())
			}
			b.manager(func(m *chain.Manager) {
				_, err := m.Delete(chain.ApplyOptions{}, b.chain(w.kind, "").Key)
				require.NoError(t, err)
			})
			require.Empty(t, b.hook(w.kind, w.backend).Own)
			b.clean(0)
		}
	})
}

// What would have packets meet a part of a change is refused, and nothing is changed: here is what they would meet.
func TestLinksRefused(t *testing.T) {
	eachLinks(t, func(t *testing.T, b *bed, w way) {
		one, two := b.linkMember(w, 1, 1, hook.TCOk), b.linkMember(w, 2, 1, hook.TCOk)
		b.mustApply(b.links(w, []chain.Member{one, two}))
		before := b.snapshot()
		newOne, newTwo := b.linkMember(w, 1, 2, hook.TCOk), b.linkMember(w, 2, 2, hook.TCOk)
		broken, closed, drops := newOne, newOne, newOne
		broken.Program, closed.ProceedOn, drops.ProceedOn = "tc_broken", []string{"ok"}, []string{"next", "drop"}
		var many []chain.Member
		for i := range maxLinks + 1 {
			many = append(many, b.linkMember(w, i, 1, hook.TCOk))
		}
		for name, c := range map[string]struct {
			members []chain.Member
			err     string
		}{
			"two replaced":  {[]chain.Member{newOne, newTwo}, hook.ErrSteps.Error() + "; this change takes 2 steps: [replace m01 replace m02]"},
			"moved":         {[]chain.Member{two, one}, "this change takes 1 steps: [move m0"},
			"refused":       {[]chain.Member{broken, two}, "member m01: load program tc_broken"},
			"without next":  {[]chain.Member{closed, two}, "member m01: proceed_on lacks next"},
			"with drop":     {[]chain.Member{drops, two}, "member m01: proceed_on: a packet can go on with next, ok and pipe only"},
			"too many":      {many, "64 are enabled; a chain has at most 63"},
			"other backend": {nil, "it is attached by tcx-links; to attach it by tcx, delete it first"},
		} {
			t.Run(name, func(t *testing.T) {
				next := b.links(w, c.members)
				if c.members == nil {
					next = b.chain(w.kind, hook.TCX, one)
				}
				_, err := b.apply(&chain.Spec{Chains: []chain.Chain{next}}, chain.ApplyOptions{})
				require.ErrorContains(t, err, c.err)
				require.Equal(t, before, b.snapshot())
			})
		}
		b.meets(w.kind, []step{{1, 1}, {2, 1}})
		b.mustApply(b.links(w, []chain.Member{newOne, two}))
		b.meets(w.kind, []step{{1, 2}, {2, 1}}) // a generation of neither: what links cannot help between two steps
		b.mustApply(b.links(w, []chain.Member{newOne, newTwo}))
		b.meets(w.kind, []step{{1, 2}, {2, 2}})
	})
}

// Packets that come without a pause meet the chain of before or of after each change of one member, and never an older
// one than the packet before.
func TestLinksUnderLoad(t *testing.T) {
	eachLinks(t, func(t *testing.T, b *bed, w way) {
		r := rand.New(rand.NewPCG(9, 10))
		members := []chain.Member{b.linkMember(w, 1, 0, hook.TCOk), b.linkMember(w, 2, 0, hook.TCOk), b.linkMember(w, 3, 0, hook.TCOk)}
		var chains [][]step
		apply := func() {
			b.mustApply(b.links(w, members))
			trace, _ := expected(w.kind, members)
			chains = append(chains, trace)
		}
		apply()
		stop := b.load(w.kind)
		for change := range 3 + *swaps {
			members = b.edit(r, w, members, 10+change)
			apply()
		}
		sent := min(stop(), numbers)
		require.NoError(t, b.onOneCPU(func() error { return b.fence(w.kind) }))
		var all []uint32
		for n := range uint32(sent) {
			all = append(all, n)
		}
		traces := b.traces(w.kind, all)
		for len(traces) > 0 && len(traces[len(traces)-1]) == 0 { // the other CPUs have sent other numbers
			traces = traces[:len(traces)-1]
		}
		require.NotEmpty(t, traces)
		at := 0
		for n, trace := range traces {
			next := slices.IndexFunc(chains[at:], func(c []step) bool { return slices.Equal(c, trace) })
			require.GreaterOrEqual(t, next, 0, "packet %d met %v, after chain %d of %v", n, trace, at, chains)
			at += next
		}
		t.Logf("%d packets, %d changes: the last packet met chain %d", len(traces), len(chains)-1, at)
	})
}

// A chain of links of which some are gone is told, and put right; so is one that a killed weir has not finished.
func TestLinksIncomplete(t *testing.T) {
	eachLinks(t, func(t *testing.T, b *bed, w way) {
		var members []chain.Member
		var trace []step
		for i := range 3 {
			members = append(members, b.linkMember(w, i, 1, hook.TCOk))
			trace = append(trace, step{uint16(i), 1})
		}
		c := b.links(w, members)
		b.mustApply(c)
		files, err := filepath.Glob(filepath.Join(b.pin, "*", "links", "*"))
		require.NoError(t, err)
		require.Len(t, files, 3)
		l, err := link.LoadPinnedLink(files[1], nil)
		require.NoError(t, err)
		require.NoError(t, l.Detach())
		require.NoError(t, l.Close())
		require.NoError(t, os.Remove(files[1]))

		b.manager(func(m *chain.Manager) { require.Equal(t, chain.Incomplete, m.List()[0].Drift) })
		require.Equal(t, chain.Incomplete, b.mustApply(c).Drift)
		b.meets(w.kind, trace)
		require.True(t, func() bool { ch := b.mustApply(c); return ch.Unchanged() }())
		b.clean(1)
		require.Len(t, b.hook(w.kind, w.backend).Own, 3)
	})
}

// A weir that is killed at any stage of a change leaves links as they were, or as they shall be.
func TestLinksKilled(t *testing.T) {
	eachLinks(t, func(t *testing.T, b *bed, w way) {
		for _, stage := range stages {
			t.Run(string(stage), func(t *testing.T) {
				done := stage == chain.Swapped || stage == chain.Committed || stage == chain.Retired
				one, two := b.linkMember(w, 1, 1, hook.TCOk), b.linkMember(w, 2, 1, hook.TCOk)
				b.mustApply(b.links(w, []chain.Member{one, two}))
				before, after := []step{{1, 1}, {2, 1}}, []step{{1, 1}, {2, 1}, {3, 1}}
				c := b.links(w, []chain.Member{one, two, b.linkMember(w, 3, 1, hook.TCOk)})
				b.killed(stage, job{Spec: &chain.Spec{Chains: []chain.Chain{c}}})
				if done {
					before = after
				}
				b.meets(w.kind, before)
				b.manager(func(m *chain.Manager) { require.Empty(t, m.List()[0].Drift) })
				ch := b.mustApply(c)
				require.Equal(t, done, ch.Unchanged(), fmt.Sprint(ch.Steps))
				b.meets(w.kind, after)
				b.clean(1)
				b.killed(stage, job{Delete: []chain.Key{c.Key}})
				b.manager(func(m *chain.Manager) {
					if len(m.List()) > 0 {
						_, err := m.Delete(chain.ApplyOptions{}, c.Key)
						require.NoError(t, err)
					}
				})
				require.Empty(t, b.hook(w.kind, w.backend).Own)
				b.clean(0)
			})
		}
	})
}
