package program

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// returning is a member whose program does nothing but give a verdict. It has no type information, like
// an object that was stripped.
func returning(kind hook.Kind, name string, v hook.Verdict, proceed ...hook.Verdict) Member {
	return Member{Name: name, Proceed: proceed, Object: &ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{"main": {Name: "main", Type: kind.ProgramType(), License: "GPL",
			Instructions: asm.Instructions{
				asm.Mov.Imm32(asm.R0, int32(v)).WithSymbol("main"),
				asm.Return(),
			}}}}}
}

func build(t testing.TB, kind hook.Kind, members ...Member) *Generation {
	t.Helper()
	kerneltest.NeedRoot(t)
	require.NoError(t, rlimit.RemoveMemlock())
	g, err := Build(kind, members, nil)
	require.NoError(t, err)
	t.Cleanup(func() { g.Close() })
	require.NoError(t, g.Verify())
	return g
}

// run gives a packet to a generation and returns its verdict.
func run(t *testing.T, g *Generation) hook.Verdict {
	t.Helper()
	v, _, err := g.Head().Test(make([]byte, 64))
	require.NoError(t, err)
	return hook.Verdict(int32(v))
}

// TestVerdicts holds the verdict of chains of two members against the rules, for all verdicts of both.
func TestVerdicts(t *testing.T) {
	for _, kind := range hook.Kinds() {
		var all []hook.Verdict
		for _, name := range []string{"next", "ok", "drop", "pipe", "stolen", "aborted", "pass", "redirect"} {
			if v, err := kind.Verdict(name); err == nil {
				all = append(all, v)
			}
		}
		for _, first := range all {
			for _, second := range all {
				for set := range 1 << len(all) {
					var proceed []hook.Verdict
					want, on := first, false
					for i, v := range all {
						if set>>i&1 == 1 {
							proceed = append(proceed, v)
							on = on || v == first
						}
					}
					if on {
						want = second
						for _, v := range proceed {
							if v == second {
								want = kind.End(second)
							}
						}
					}
					if set%7 != 3 && set != 0 && set != 1<<len(all)-1 {
						continue // a seventh of the policies, and the two ends
					}
					g := build(t, kind, returning(kind, "a", first, proceed...), returning(kind, "b", second, proceed...))
					require.Equal(t, want, run(t, g), "%s: %d then %d, proceed on %d", kind, first, second, proceed)
					require.NoError(t, g.Close())
				}
			}
		}
	}
}

// Members whose stack is full, or hides how it is used, are called instead.
func TestForms(t *testing.T) {
	for name, c := range map[string]struct {
		code asm.Instructions
		form string
	}{
		"no stack":   {nil, "inline"},
		"some stack": {asm.Instructions{asm.Mov.Imm(asm.R4, 7), asm.StoreMem(asm.R10, -24, asm.R4, asm.DWord)}, "inline"},
		"by a register": {asm.Instructions{asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -16),
			asm.Mov.Imm(asm.R4, 7), asm.StoreMem(asm.R2, 0, asm.R4, asm.DWord)}, "inline"},
		"full stack": {asm.Instructions{asm.Mov.Imm(asm.R4, 7), asm.StoreMem(asm.R10, -512, asm.R4, asm.DWord)}, "called"},
		"hidden": {asm.Instructions{asm.Mov.Reg(asm.R2, asm.R10), asm.Mov.Imm(asm.R3, -8),
			asm.Add.Reg(asm.R2, asm.R3), asm.StoreMem(asm.R2, 0, asm.R3, asm.DWord)}, "called"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range hook.Kinds() {
				first := returning(kind, "a", kind.Pass(), kind.Pass())
				main := first.Object.Programs["main"]
				main.Instructions = append(c.code, main.Instructions[0].WithSymbol(""), asm.Return())
				main.Instructions[0] = main.Instructions[0].WithSymbol("main")
				g := build(t, kind, first, returning(kind, "b", kind.Drop()))
				require.Equal(t, kind.Drop(), run(t, g))
				info, err := g.Head().Info()
				require.NoError(t, err)
				code, err := info.Instructions()
				require.NoError(t, err)
				form := "inline"
				for _, ins := range code {
					if ins.IsFunctionCall() {
						form = "called"
					}
				}
				require.Equal(t, c.form, form)
			}
		})
	}
}

// A chain that is broken fails open or closed, as the member before the break says.
func TestBrokenChain(t *testing.T) {
	for _, kind := range hook.Kinds() {
		for _, closed := range []bool{false, true} {
			first := returning(kind, "a", kind.Pass(), kind.Pass())
			first.FailClosed = closed
			g := build(t, kind, first, returning(kind, "b", kind.Pass(), kind.Pass()))
			require.NoError(t, g.array.Delete(uint32(1)))
			want := kind.Pass()
			if closed {
				want = kind.Drop()
			}
			require.Equal(t, want, run(t, g))
			require.ErrorContains(t, g.Verify(), "slot 1")
		}
	}
}

func TestBuildErrors(t *testing.T) {
	_, err := Build(hook.XDP, nil, nil)
	require.ErrorContains(t, err, "1 to 30 members, not 0")
	_, err = Build(hook.XDP, make([]Member, MaxMembers+1), nil)
	require.ErrorContains(t, err, "1 to 30 members, not 31")
}

// A generation that was pinned is the same when it is opened.
func TestPin(t *testing.T) {
	kind := hook.Ingress
	g := build(t, kind, returning(kind, "a", 0, 0), returning(kind, "b", hook.TCShot))
	dir := filepath.Join(bpffs.Folder, fmt.Sprintf("weir-program-test-%d", os.Getpid()))
	require.NoError(t, bpffs.Ensure(dir))
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, g.Pin(filepath.Join(dir, "one")))
	require.Error(t, g.Pin(filepath.Join(dir, "one")))
	want, err := g.IDs()
	require.NoError(t, err)
	require.NoError(t, g.Close())
	g, err = Open(filepath.Join(dir, "one"))
	require.NoError(t, err)
	defer g.Close()
	got, err := g.IDs()
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, g.Verify())
	require.Equal(t, hook.TCShot, run(t, g))
	_, err = Open(filepath.Join(dir, "two"))
	require.ErrorContains(t, err, "open the pinned generation")
}

// BenchmarkHop measures what a packet costs in chains of so many members that do nothing.
func BenchmarkHop(b *testing.B) {
	for _, kind := range []hook.Kind{hook.XDP, hook.Ingress} {
		for _, n := range []int{1, 2, 8, MaxMembers} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				var members []Member
				for i := range n {
					members = append(members, returning(kind, fmt.Sprintf("m%d", i), kind.Pass(), kind.Pass()))
				}
				g := build(b, kind, members...)
				b.ResetTimer()
				_, took, err := g.Head().Benchmark(make([]byte, 64), b.N, nil)
				require.NoError(b, err)
				b.ReportMetric(float64(took.Nanoseconds()), "ns/packet")
			})
		}
	}
}
