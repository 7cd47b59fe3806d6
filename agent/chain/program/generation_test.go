package program

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// stripped is a member like those of Returning, without type information.
func stripped(kind hook.Kind, name string, v hook.Verdict, proceed ...hook.Verdict) Member {
	m := Returning(kind, name, v, proceed...)
	code := m.Object.Programs["main"].Instructions
	code[0] = btf.WithFuncMetadata(code[0], nil)
	return m
}

// way is a hook and a wiring.
type way struct {
	kind   hook.Kind
	wiring Wiring
}

func (w way) String() string { return string(w.kind) + "/" + string(w.wiring) }

// each runs a test for all hooks and the wirings that they and this kernel have.
func each(t *testing.T, fn func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range []way{{hook.XDP, TailCalls}, {hook.XDP, Dispatcher}, {hook.Ingress, TailCalls}, {hook.Egress, TailCalls}} {
		t.Run(w.String(), func(t *testing.T) {
			need(t, w.wiring)
			fn(t, w)
		})
	}
}

// need skips the test where the kernel cannot load programs of a type that the wiring needs.
func need(t testing.TB, w Wiring) {
	t.Helper()
	kerneltest.NeedRoot(t)
	require.NoError(t, rlimit.RemoveMemlock())
	if w == Dispatcher {
		if err := features.HaveProgramType(ebpf.Extension); err != nil {
			t.Skipf("skipped: this kernel cannot replace functions: %v", err)
		}
	}
}

func build(t testing.TB, w way, members ...Member) *Generation {
	t.Helper()
	need(t, w.wiring)
	g, err := Build(w.kind, w.wiring, members, nil)
	require.NoError(t, err)
	t.Cleanup(func() { g.Close() })
	require.NoError(t, g.Verify())
	return g
}

// run gives a packet to a generation and returns its verdict.
func run(t *testing.T, g *Generation) hook.Verdict {
	t.Helper()
	v, _, err := g.Heads()[0].Test(make([]byte, 64))
	require.NoError(t, err)
	return hook.Verdict(int32(v))
}

// TestVerdicts holds the verdict of chains of two members against the rules, for all verdicts of both.
func TestVerdicts(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		kind := w.kind
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
					g := build(t, w, Returning(kind, "a", first, proceed...), Returning(kind, "b", second, proceed...))
					require.Equal(t, want, run(t, g), "%s: %d then %d, proceed on %d", kind, first, second, proceed)
					require.NoError(t, g.Close())
				}
			}
		}
	})
}

// The forms of members.
const inARegister, onTheStack, calledForm = "in a register", "on the stack", "called"

// A member keeps its context where there is room for it; else it is called, if the kernel allows that.
func TestForms(t *testing.T) {
	store := asm.Instructions{asm.Mov.Imm(asm.R4, 7), asm.StoreMem(asm.R10, -24, asm.R4, asm.DWord)}
	pointer := asm.Instructions{asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -16),
		asm.Mov.Imm(asm.R4, 7), asm.StoreMem(asm.R2, 0, asm.R4, asm.DWord)}
	hidden := asm.Instructions{asm.Mov.Reg(asm.R2, asm.R10), asm.Mov.Imm(asm.R3, -8),
		asm.Add.Reg(asm.R2, asm.R3), asm.StoreMem(asm.R2, 0, asm.R3, asm.DWord)}
	full := asm.Instructions{asm.Mov.Imm(asm.R4, 7), asm.StoreMem(asm.R10, -512, asm.R4, asm.DWord)}
	var registers asm.Instructions
	for r := asm.R6; r <= asm.R9; r++ {
		registers = append(registers, asm.Mov.Imm(r, 1))
	}
	for name, c := range map[string]struct {
		code asm.Instructions
		form string
	}{
		"no stack":                 {nil, inARegister},
		"full stack":               {full, inARegister},
		"hidden":                   {hidden, inARegister},
		"registers, no stack":      {registers, onTheStack},
		"registers, some stack":    {slices.Concat(registers, store), onTheStack},
		"registers, by a register": {slices.Concat(registers, pointer), onTheStack},
		"registers, hidden":        {slices.Concat(registers, hidden), calledForm},
		"registers, full stack":    {slices.Concat(registers, full), calledForm},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range hook.Kinds() {
				first := stripped(kind, "a", kind.Pass(), kind.Pass())
				main := first.Object.Programs["main"]
				main.Instructions = slices.Concat(c.code, asm.Instructions{main.Instructions[0].WithSymbol(""), asm.Return()})
				main.Instructions[0] = main.Instructions[0].WithSymbol("main")
				if refused := callOf(t, main); refused != nil && c.form == calledForm {
					_, err := Build(kind, TailCalls, []Member{first, stripped(kind, "b", kind.Drop())}, nil)
					require.ErrorContains(t, err, "member a: load program main: as a function of another one, because it uses all of the "+
						"registers R6 to R9 and it leaves less than 8 of its 512 bytes of stack alone: ")
					require.ErrorContains(t, err, "combined stack size of 2 calls is 544")
					continue
				}
				g := build(t, way{kind, TailCalls}, first, stripped(kind, "b", kind.Drop()))
				require.Equal(t, kind.Drop(), run(t, g))
				require.Equal(t, c.form, formOf(t, g))
			}
		})
	}
}

// callOf asks the kernel whether it lets a program be called by another one.
func callOf(t *testing.T, p *ebpf.ProgramSpec) error {
	t.Helper()
	need(t, TailCalls)
	code := asm.Instructions{asm.Call.Label("main").WithSymbol("outer"), asm.Return()}
	caller, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: p.Type, License: "GPL", Instructions: append(code, p.Instructions...)})
	if err != nil {
		return err
	}
	return caller.Close()
}

// formOf tells how the first member keeps its context.
func formOf(t *testing.T, g *Generation) string {
	t.Helper()
	info, err := g.Heads()[0].Info()
	require.NoError(t, err)
	code, err := info.Instructions()
	require.NoError(t, err)
	calls := func(ins asm.Instruction) bool { return ins.IsFunctionCall() }
	switch first := code[0]; {
	case slices.ContainsFunc(code, calls):
		return calledForm
	case first.OpCode.Class().IsStore() && first.Src == asm.R1:
		return onTheStack
	case first.OpCode.ALUOp() == asm.Mov && first.Src == asm.R1:
		return inARegister
	}
	return "unknown"
}

// A chain that is broken fails open or closed, as the member before the break says.
func TestBrokenChain(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		for _, closed := range []bool{false, true} {
			first := Returning(w.kind, "a", w.kind.Pass(), w.kind.Pass())
			first.FailClosed = closed
			g := build(t, w, first, Returning(w.kind, "b", w.kind.Pass(), w.kind.Pass()))
			switch wires := g.wires.(type) {
			case *tailCalls:
				require.NoError(t, wires.array.Delete(uint32(1)))
			case *dispatched:
				require.NoError(t, wires.links[1].Close())
				wires.links = wires.links[:1]
			}
			want := w.kind.Pass()
			if closed {
				want = w.kind.Drop()
			}
			require.Equal(t, want, run(t, g))
			require.Error(t, g.Verify())
		}
	})
}

// A dispatcher also tells that its first member is gone.
func TestFirstGone(t *testing.T) {
	w := way{hook.XDP, Dispatcher}
	first := Returning(w.kind, "a", hook.XDPPass)
	first.FailClosed = true
	g := build(t, w, first)
	wires := g.wires.(*dispatched)
	require.NoError(t, wires.links[0].Close())
	wires.links = nil
	require.Equal(t, hook.XDPDrop, run(t, g))
	require.ErrorContains(t, g.Verify(), "the dispatcher has 0 members, not 1")
}

// Verify tells members that have changed places.
func TestVerifyDispatcher(t *testing.T) {
	w := way{hook.XDP, Dispatcher}
	g := build(t, w, Returning(w.kind, "a", hook.XDPPass, hook.XDPPass), Returning(w.kind, "b", hook.XDPPass))
	wires := g.wires.(*dispatched)
	slices.Reverse(wires.links)
	require.ErrorContains(t, g.Verify(), "member0 of the dispatcher is program")
}

// A member may change the size of packets, in a dispatcher too.
func TestResize(t *testing.T) {
	for _, wiring := range []Wiring{TailCalls, Dispatcher} {
		t.Run(string(wiring), func(t *testing.T) {
			m := Returning(hook.XDP, "a", hook.XDPPass, hook.XDPPass)
			p := m.Object.Programs["main"]
			code := asm.Instructions{asm.Mov.Imm(asm.R2, -4), asm.FnXdpAdjustTail.Call(), asm.Mov.Imm(asm.R0, int32(hook.XDPPass)), asm.Return()}
			moveHead(&code[0], &p.Instructions[0])
			p.Instructions = code
			g := build(t, way{hook.XDP, wiring}, m, m)
			_, out, err := g.Heads()[0].Test(make([]byte, 64))
			require.NoError(t, err)
			require.Len(t, out, 64-2*4)
		})
	}
}

// What a dispatcher cannot have is told before anything is loaded.
func TestSuits(t *testing.T) {
	plain := Returning(hook.XDP, "a", hook.XDPPass)
	calling := Returning(hook.XDP, "c", hook.XDPPass)
	calling.Object.Maps = map[string]*ebpf.MapSpec{"steps": {Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1}}
	p := calling.Object.Programs["main"]
	code := asm.Instructions{asm.LoadMapPtr(asm.R2, 0).WithReference("steps"), p.Instructions[0], p.Instructions[1]}
	moveHead(&code[0], &code[1])
	p.Instructions = code
	require.NoError(t, Dispatcher.Suits([]Member{plain, plain}))
	for want, members := range map[string][]Member{
		"11 members; there is room for 10":                                       slices.Repeat([]Member{plain}, 11),
		"member b: the object has no type information (BTF) about function main": {plain, stripped(hook.XDP, "b", hook.XDPPass)},
		"member c: function main makes tail calls, by map steps":                 {plain, calling},
	} {
		require.EqualError(t, Dispatcher.Suits(members), want)
	}
	require.NoError(t, TailCalls.Suits([]Member{calling, stripped(hook.XDP, "b", hook.XDPPass)}))
	require.EqualError(t, TailCalls.Suits(slices.Repeat([]Member{plain}, 31)), "31 members; there is room for 30")
}

// On this kernel a dispatcher can be had, or the reason is told.
func TestProbe(t *testing.T) {
	need(t, TailCalls)
	require.NoError(t, TailCalls.Probe())
	if err := Dispatcher.Probe(); features.HaveProgramType(ebpf.Extension) == nil {
		require.NoError(t, err)
	} else {
		require.ErrorContains(t, err, "this kernel cannot replace functions of XDP programs: ")
	}
}

func TestBuildErrors(t *testing.T) {
	_, err := Build(hook.XDP, TailCalls, nil, nil)
	require.ErrorContains(t, err, "1 to 30 members, not 0")
	_, err = Build(hook.XDP, TailCalls, make([]Member, 31), nil)
	require.ErrorContains(t, err, "1 to 30 members, not 31")
	_, err = Build(hook.XDP, Dispatcher, make([]Member, 11), nil)
	require.ErrorContains(t, err, "1 to 10 members, not 11")
}

// A generation that was pinned is the same when it is opened.
func TestPin(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		g := build(t, w, Returning(w.kind, "a", w.kind.Pass(), w.kind.Pass()), Returning(w.kind, "b", w.kind.Drop()))
		dir := filepath.Join(bpffs.Folder, fmt.Sprintf("weir-program-test-%d", os.Getpid()))
		require.NoError(t, bpffs.Ensure(dir))
		t.Cleanup(func() { os.RemoveAll(dir) })
		require.NoError(t, g.Pin(filepath.Join(dir, "one")))
		require.Error(t, g.Pin(filepath.Join(dir, "one")))
		want, err := g.IDs()
		require.NoError(t, err)
		heads, err := g.HeadIDs()
		require.NoError(t, err)
		require.NoError(t, g.Close())
		g, err = Open(filepath.Join(dir, "one"))
		require.NoError(t, err)
		defer g.Close()
		require.Equal(t, w.wiring, g.Wiring())
		got, err := g.IDs()
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NoError(t, g.Verify())
		require.Equal(t, w.kind.Drop(), run(t, g))
		got, err = HeadIDs(filepath.Join(dir, "one"))
		require.NoError(t, err)
		require.Equal(t, heads, got)
		_, err = Open(filepath.Join(dir, "two"))
		require.ErrorContains(t, err, "open the pinned generation")
	})
}
