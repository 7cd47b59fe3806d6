package chain_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/ifaces"
)

// attachOthers puts two programs of other owners on the far end's hook.
func (b *bed) attachOthers(w way) {
	b.t.Helper()
	for i, name := range []string{"first", "second"} {
		p := foreign(b.t, w.kind, name)
		b.inside(1, func() error {
			if w.backend == hook.TC {
				return attachFilter(p, w.kind, name, uint16(100+i))
			}
			at, err := ifaces.Find("", far)
			if err != nil {
				return err
			}
			kind := ebpf.AttachTCXIngress
			if w.kind == hook.Egress {
				kind = ebpf.AttachTCXEgress
			}
			l, err := link.AttachTCX(link.TCXOptions{Interface: at.Index, Program: p, Attach: kind})
			if err == nil {
				b.t.Cleanup(func() { l.Close() })
			}
			return err
		})
	}
}

func attachFilter(p *ebpf.Program, kind hook.Kind, name string, priority uint16) error {
	l, err := netlink.LinkByName(far)
	if err != nil {
		return err
	}
	_ = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index,
		Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}) // or it is there
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if kind == hook.Egress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	return netlink.FilterAdd(&netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: l.Attrs().Index, Parent: parent, Handle: 1, Priority: priority, Protocol: unix.ETH_P_ALL},
		Fd: p.FD(), Name: name, DirectAction: true})
}

func names(all []hook.Program) (names []string) {
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names
}

// Programs of other owners stay what and where they are, through the whole life of a chain, and the
// chain goes to its place among them.
func TestForeign(t *testing.T) {
	for _, w := range []way{{hook.Ingress, hook.TCX}, {hook.Egress, hook.TCX}, {hook.Ingress, hook.TC},
		{hook.Egress, hook.TC}, {hook.Ingress, hook.TCXLinks}} {
		t.Run(w.String(), func(t *testing.T) {
			b := newBed(t)
			b.need(w)
			b.attachOthers(w)
			others := b.hook(w.kind, w.backend).Others
			require.Equal(t, []string{"first", "second"}, names(others))
			places := map[hook.Place]int{{}: 2, {At: hook.Tail}: 2, {At: hook.Head}: 0}
			if w.backend != hook.TC {
				places[hook.Place{At: hook.Before, Program: "second"}] = 1
				places[hook.Place{At: hook.After, Program: "first"}] = 1
			}
			for place, at := range places {
				c := b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, hook.TCOk, 1))
				c.Place = place
				for generation := range 3 {
					c.Members = []chain.Member{b.member(w.kind, 1, 1, hook.TCOk, generation)}
					b.mustApply(c)
					s := b.hook(w.kind, w.backend)
					require.Equal(t, others, s.Others, place)
					require.Equal(t, at, s.OwnAt, place)
				}
				b.manager(func(m *chain.Manager) {
					all := m.List()
					require.Equal(t, others, slices.Concat(all[0].Before, all[0].After))
					require.Len(t, all[0].Before, at)
					_, err := m.Delete(chain.ApplyOptions{}, c.Key)
					require.NoError(t, err)
				})
				require.Equal(t, hook.State{Others: others}, b.hook(w.kind, w.backend))
			}
			c := b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, hook.TCOk, 1))
			c.Place = hook.Place{At: hook.Before, Program: "third"}
			_, err := b.apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{})
			require.ErrorContains(t, err, "place before third: ")
			require.Equal(t, hook.State{Others: others}, b.hook(w.kind, w.backend))
			b.manager(func(m *chain.Manager) { require.Empty(t, m.List()) })
			b.clean(0)
		})
	}
}

// An XDP program or an ingress qdisc of another owner is not displaced.
func TestForeignRefused(t *testing.T) {
	t.Run("xdp", func(t *testing.T) {
		b := newBed(t)
		p := foreign(t, hook.XDP, "other")
		b.inside(1, func() error {
			at, err := ifaces.Find("", far)
			if err != nil {
				return err
			}
			l, err := link.AttachXDP(link.XDPOptions{Interface: at.Index, Program: p})
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		})
		before := b.hook(hook.XDP, hook.XDPLink)
		require.Equal(t, []string{"other"}, names(before.Others))
		c := b.chain(hook.XDP, "", b.member(hook.XDP, 1, 1, hook.XDPPass, 1))
		_, err := b.apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{Force: true})
		require.ErrorIs(t, err, hook.ErrForeign)
		require.Equal(t, before, b.hook(hook.XDP, hook.XDPLink))
		b.clean(0)
	})
	t.Run("ingress qdisc", func(t *testing.T) {
		b := newBed(t)
		b.inside(1, func() error {
			l, err := netlink.LinkByName(far)
			if err != nil {
				return err
			}
			return netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index,
				Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}})
		})
		c := b.chain(hook.Ingress, hook.TC, b.member(hook.Ingress, 1, 1, hook.TCOk, 1))
		_, err := b.apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{Force: true})
		require.ErrorIs(t, err, hook.ErrForeign)
		require.ErrorContains(t, err, `a qdisc "ingress"`)
		b.clean(0)
	})
}

// What happens to a chain behind weir's back is told, and mended.
func TestDrift(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		c := b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, pass(w.kind), 1))
		drift := func() (d chain.Drift) {
			b.manager(func(m *chain.Manager) {
				all := m.List()
				require.Len(t, all, 1)
				d = all[0].Drift
			})
			return d
		}
		b.mustApply(c)
		require.Equal(t, chain.None, drift())

		b.displace(w, foreign(t, w.kind, "other"))
		require.Equal(t, chain.Replaced, drift())
		_, err := b.apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{})
		require.ErrorIs(t, err, chain.ErrReplaced)
		b.manager(func(m *chain.Manager) {
			_, err := m.Delete(chain.ApplyOptions{}, c.Key)
			require.ErrorIs(t, err, chain.ErrReplaced)
		})
		changes, err := b.apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{Force: true})
		require.NoError(t, err)
		require.Equal(t, chain.Replaced, changes[0].Drift)
		require.Equal(t, chain.None, drift())
		b.meets(w.kind, []step{{1, 1}})

		b.takeOff(w)
		require.Equal(t, chain.Detached, drift())
		require.Equal(t, chain.Detached, b.mustApply(c).Drift)
		require.Equal(t, chain.None, drift())
		b.meets(w.kind, []step{{1, 1}})
		b.clean(1)

		b.inside(1, func() error { // another interface of the same name
			l, err := netlink.LinkByName(far)
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		})
		require.Equal(t, chain.Gone, drift())
		b.link("near1", far)
		require.Equal(t, chain.Gone, drift())
		require.Equal(t, chain.Gone, b.mustApply(c).Drift)
		require.Equal(t, chain.None, drift())
		b.clean(1)

		require.NoError(t, os.Remove(filepath.Join(b.state, "chains.json"))) // pins are all that is left
		before := b.hook(w.kind, w.backend).Own
		ch := b.mustApply(c)
		require.False(t, ch.Unchanged())
		require.NotEqual(t, before, b.hook(w.kind, w.backend).Own)
		require.True(t, func() bool { c := b.mustApply(c); return c.Unchanged() }())
		b.clean(1)
	})
}

// takeOff removes a chain from its hook, as another owner would.
func (b *bed) takeOff(w way) {
	b.t.Helper()
	if w.backend != hook.TC {
		files, err := filepath.Glob(filepath.Join(b.pin, "*", "link"))
		require.NoError(b.t, err)
		l, err := link.LoadPinnedLink(files[0], nil)
		require.NoError(b.t, err)
		defer l.Close()
		require.NoError(b.t, l.Detach())
		return
	}
	b.inside(1, func() error {
		l, err := netlink.LinkByName(far)
		if err != nil {
			return err
		}
		return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index,
			Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
	})
}
