package tc

import (
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// loopback is the ifindex of the only interface of a new network namespace.
const loopback = 1

var here = Place{Name: "test", Priority: 7, Handle: 0x74657374}

// inNamespace makes the test's thread one of a network namespace of its own, which goes with it.
func inNamespace(t *testing.T) {
	t.Helper()
	kerneltest.NeedRoot(t)
	require.NoError(t, rlimit.RemoveMemlock())
	runtime.LockOSThread() // never unlocked
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
}

func load(t *testing.T) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// is tells whether a program is our only filter.
func is(t *testing.T, h Hook, p *ebpf.Program) {
	t.Helper()
	info, err := p.Info()
	require.NoError(t, err)
	id, _ := info.ID()
	all, err := h.Filters()
	require.NoError(t, err)
	require.Len(t, all, 1)
	f := all[0].(*netlink.BpfFilter)
	require.Equal(t, int(id), f.Id)
	require.Equal(t, here.Handle, f.Handle)
	require.Equal(t, here.Priority, f.Priority)
}

func TestFilters(t *testing.T) {
	inNamespace(t)
	first, second := load(t), load(t)
	for _, h := range []Hook{{loopback, false}, {loopback, true}} {
		all, err := h.Filters()
		require.NoError(t, err)
		require.Empty(t, all)
		require.NoError(t, h.Delete(here))
		require.NoError(t, h.Add(here, first))
		is(t, h, first)
		require.ErrorIs(t, h.Add(here, second), unix.EEXIST)
		is(t, h, first)
		require.NoError(t, h.Swap(here, second))
		is(t, h, second)
		require.NoError(t, h.Put(here, first))
		is(t, h, first)
		require.NoError(t, h.Delete(here))
		require.NoError(t, h.Put(here, second))
		is(t, h, second)
		require.NoError(t, h.Delete(here))
	}
	gone := Hook{Interface: 999}
	all, err := gone.Filters()
	require.NoError(t, err)
	require.Empty(t, all)
	require.NoError(t, gone.Delete(here))
	require.ErrorIs(t, gone.Put(here, first), unix.ENODEV)
}

// Another owner's qdisc stays, and takes filters at the hook that both have only for those who do not mind.
func TestForeignQdisc(t *testing.T) {
	inNamespace(t)
	foreign := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: loopback, Parent: netlink.HANDLE_INGRESS}}
	require.NoError(t, netlink.QdiscAdd(foreign))
	h, p := Hook{Interface: loopback}, load(t)
	err := h.Add(here, p)
	require.ErrorIs(t, err, ErrForeign)
	require.ErrorContains(t, err, `qdisc "ingress"`)
	all, err := h.Filters()
	require.NoError(t, err)
	require.Empty(t, all)
	require.NoError(t, h.Put(here, p))
	is(t, h, p)
}

// A qdisc that was made for a filter goes when that cannot be had.
func TestFailedAdd(t *testing.T) {
	inNamespace(t)
	p := load(t)
	require.NoError(t, p.Close())
	require.Error(t, Hook{Interface: loopback}.Add(here, p))
	l, err := netlink.LinkByIndex(loopback)
	require.NoError(t, err)
	all, err := netlink.QdiscList(l)
	require.NoError(t, err)
	for _, q := range all {
		require.NotEqual(t, "clsact", q.Type())
	}
}
