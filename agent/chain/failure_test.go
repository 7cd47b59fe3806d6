package chain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/mapargs"
	"github.com/weirnet/weir/agent/ifaces"
)

// snapshot is all that there is of chains: in the kernel, on the bpffs, on disk.
func (b *bed) snapshot(kinds ...hook.Kind) string {
	b.t.Helper()
	var all strings.Builder
	for _, root := range []string{b.pin, b.state} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				all.WriteString(path + "\n")
			}
			if err == nil && root == b.state && !d.IsDir() {
				text, err := os.ReadFile(path)
				all.Write(text)
				return err
			}
			if errors.Is(err, fs.ErrNotExist) && path == root {
				return nil
			}
			return err
		})
		require.NoError(b.t, err)
	}
	b.manager(func(m *chain.Manager) {
		text, err := json.MarshalIndent(m.List(), "", " ")
		require.NoError(b.t, err)
		all.Write(text)
	})
	return all.String()
}

// foreign is a program of another owner. It lets packets pass to whoever comes next.
func foreign(t testing.TB, kind hook.Kind, name string) *ebpf.Program {
	t.Helper()
	verdict := int32(-1)
	if kind == hook.XDP {
		verdict = int32(hook.XDPPass)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: kind.ProgramType(), License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// displace puts another program where a chain is, as another owner would.
func (b *bed) displace(w way, p *ebpf.Program) {
	b.t.Helper()
	b.inside(1, func() error {
		i, err := ifaces.Find("", far)
		if err != nil {
			return err
		}
		link, err := filepath.Glob(filepath.Join(b.pin, "*-"+string(w.kind), "link"))
		if err != nil {
			return err
		}
		point, err := hook.New(w.point(), hook.Target{Interface: i.Index, Kind: w.kind,
			Pin: strings.Join(link, "")})
		if err != nil {
			return err
		}
		s, err := point.State()
		if err != nil {
			return err
		}
		return point.Swap(s.Own, []*ebpf.Program{p})
	})
}

// fillMap gives a map arguments.
func fillMap(name string, args mapargs.Args) func(*chain.Member) {
	return func(m *chain.Member) { m.Maps = map[string]mapargs.Args{name: args} }
}

// An apply that fails changes nothing, wherever it fails.
func TestFailedApply(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		good := b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, pass(w.kind), 1),
			b.member(w.kind, 2, 2, pass(w.kind), 1))
		b.mustApply(good)
		before := b.snapshot()
		text := filepath.Join(t.TempDir(), "text")
		require.NoError(t, os.WriteFile(text, []byte("no object"), 0o600))
		for name, c := range map[string]struct {
			change func(*chain.Member)
			err    string
		}{
			"missing file":       {func(m *chain.Member) { m.Object = "/nowhere" }, "/nowhere: open: no such file"},
			"a folder":           {func(m *chain.Member) { m.Object = t.TempDir() }, "is no regular file"},
			"not an object":      {func(m *chain.Member) { m.Object = text }, "is no eBPF object: it is not in ELF format"},
			"another object":     {func(m *chain.Member) { m.SHA256 = strings.Repeat("0", 64) }, "checksum is another"},
			"unknown program":    {func(m *chain.Member) { m.Program = "none" }, `no program "none"`},
			"which program":      {func(m *chain.Member) { m.Program = "" }, "which program?"},
			"refused program":    {func(m *chain.Member) { m.Program = strings.Split(m.Program, "_")[0] + "_broken" }, "return p->number;"},
			"unknown constant":   {func(m *chain.Member) { m.Constants["none"] = 1 }, "constant none: the object has no such constant (there are: generation, length, member, position, verdict)"},
			"unknown map":        {fillMap("none", `"1"`), "map none: the object has no such map (there are: "},
			"bad map value":      {fillMap("seen", `"1,x"`), `map seen: 2 entries; the map has room for 1`},
			"no map value":       {fillMap("seen", `"x"`), `map seen: entry 0: value: "x" is no integer`},
			"shared map":         {fillMap("traces", `[]`), "map traces: members share it"},
			"too large constant": {func(m *chain.Member) { m.Constants["member"] = 1 << 16 }, "constant member: 65536 does not fit 2 bytes"},
		} {
			t.Run(name, func(t *testing.T) {
				bad := good
				bad.Members = []chain.Member{b.member(w.kind, 3, 0, pass(w.kind), 2),
					b.member(w.kind, 1, 1, pass(w.kind), 2), b.member(w.kind, 2, 2, pass(w.kind), 2)}
				c.change(&bad.Members[1])
				_, err := b.apply(&chain.Spec{Chains: []chain.Chain{bad}}, chain.ApplyOptions{})
				require.ErrorContains(t, err, "member m01: ")
				require.ErrorContains(t, err, c.err)
				require.Equal(t, before, b.snapshot())
			})
		}
		t.Run("another chain", func(t *testing.T) {
			next, other := good, good
			next.Members = next.Members[:1]
			other.Interface = "none0"
			_, err := b.apply(&chain.Spec{Chains: []chain.Chain{next, other}}, chain.ApplyOptions{})
			require.ErrorContains(t, err, "find interface none0: Link not found (there are: ")
			require.Equal(t, before, b.snapshot())
		})
		t.Run("unwritable store", func(t *testing.T) {
			next := good
			next.Members = next.Members[:1]
			file := filepath.Join(b.state, "chains.json")
			b.progress = func(s chain.Stage) { // a folder with something in it is not replaced by a file
				if s == chain.Built {
					require.NoError(t, os.Rename(file, file+"-"))
					require.NoError(t, os.MkdirAll(filepath.Join(file, "x"), 0o700))
				}
			}
			_, err := b.apply(&chain.Spec{Chains: []chain.Chain{next}}, chain.ApplyOptions{})
			b.progress = nil
			require.ErrorContains(t, err, "chains.json: file exists")
			require.NoError(t, os.RemoveAll(file))
			require.NoError(t, os.Rename(file+"-", file))
			require.Equal(t, before, b.snapshot())
		})
		sent, passed := b.send(w.kind, 3)
		require.Len(t, passed, 3)
		wantTraces(t, []step{{1, 1}, {2, 1}}, b.traces(w.kind, sent))
	})
}

// A store that has no room left is not written, and nothing else is changed.
func TestFullDisk(t *testing.T) {
	b := newBed(t)
	const size = 64 << 10 // bytes; a store of one chain has less than 2 KiB
	require.NoError(t, unix.Mount("none", b.state, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(b.state, unix.MNT_DETACH)) })
	good := b.chain(hook.Ingress, "", b.member(hook.Ingress, 1, 1, hook.TCOk, 1))
	b.mustApply(good)
	full := filepath.Join(b.state, "full")
	require.ErrorIs(t, os.WriteFile(full, make([]byte, 2*size), 0o600), unix.ENOSPC)
	before := b.snapshot()

	next := b.chain(hook.Ingress, "", b.member(hook.Ingress, 1, 1, hook.TCOk, 2))
	_, err := b.apply(&chain.Spec{Chains: []chain.Chain{next}}, chain.ApplyOptions{})
	require.ErrorIs(t, err, unix.ENOSPC)
	require.Equal(t, before, b.snapshot())
	b.meets(hook.Ingress, []step{{1, 1}})

	require.NoError(t, os.Remove(full))
	b.mustApply(next)
	b.meets(hook.Ingress, []step{{1, 2}})
}

// Two interfaces have chains of their own; they change together, or neither does.
func TestTwoInterfaces(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		b.link("near1", "far1")
		spec := func(generation int) *chain.Spec {
			one := b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, pass(w.kind), generation))
			two := b.chain(w.kind, w.backend, b.member(w.kind, 2, 1, pass(w.kind), generation))
			two.Interface = "far1"
			return &chain.Spec{Chains: []chain.Chain{one, two}}
		}
		_, err := b.apply(spec(1), chain.ApplyOptions{})
		require.NoError(t, err)
		before := b.snapshot()
		bad := spec(2)
		bad.Chains[1].Members[0].Program = strings.Split(bad.Chains[1].Members[0].Program, "_")[0] + "_broken"
		_, err = b.apply(bad, chain.ApplyOptions{})
		require.ErrorContains(t, err, "far1 "+string(w.kind)+": member m02: ")
		require.Equal(t, before, b.snapshot())

		_, err = b.apply(&chain.Spec{Chains: spec(2).Chains[:1]}, chain.ApplyOptions{})
		require.NoError(t, err)
		b.manager(func(m *chain.Manager) {
			all := m.List()
			require.Len(t, all, 2, "the other one is still remembered")
			require.Equal(t, []uint64{2, 1}, []uint64{all[0].Generation, all[1].Generation})
			_, err := m.Apply(&chain.Spec{Chains: spec(2).Chains[:1]}, chain.ApplyOptions{Prune: true})
			require.NoError(t, err)
			require.Len(t, m.List(), 1)
		})
		b.clean(1)
	})
}

// When the second of two chains cannot be swapped, the first is swapped back.
func TestSwapBack(t *testing.T) {
	for _, backend := range []string{hook.TCX, hook.TC} {
		t.Run(backend, func(t *testing.T) {
			b := newBed(t)
			in, out := way{hook.Ingress, backend}, way{hook.Egress, backend}
			b.need(in)
			spec := func(generation int) *chain.Spec {
				return &chain.Spec{Chains: []chain.Chain{
					b.chain(in.kind, backend, b.member(in.kind, 1, 1, hook.TCOk, generation)),
					b.chain(out.kind, backend, b.member(out.kind, 2, 1, hook.TCOk, generation))}}
			}
			_, err := b.apply(spec(1), chain.ApplyOptions{})
			require.NoError(t, err)
			before := b.hook(in.kind, backend)
			other := foreign(t, out.kind, "other")
			b.progress = func(s chain.Stage) {
				if s == chain.Swapped {
					b.displace(out, other)
					b.progress = nil
				}
			}
			_, err = b.apply(spec(2), chain.ApplyOptions{})
			require.ErrorIs(t, err, hook.ErrChanged)
			require.Equal(t, before, b.hook(in.kind, backend))
			sent, _ := b.send(in.kind, 3)
			wantTraces(t, []step{{1, 1}}, b.traces(in.kind, sent))
			files, err := filepath.Glob(filepath.Join(b.pin, "*", "generation-2"))
			require.NoError(t, err)
			require.Empty(t, files)

			_, err = b.apply(spec(2), chain.ApplyOptions{})
			require.ErrorIs(t, err, chain.ErrReplaced)
			_, err = b.apply(spec(2), chain.ApplyOptions{Force: true})
			require.NoError(t, err)
			sent, _ = b.send(out.kind, 3)
			wantTraces(t, []step{{2, 2}}, b.traces(out.kind, sent))
		})
	}
}

// victimStage is the environment variable that makes the test binary a weir that applies a chain and
// kills itself at a stage; victimJob is what it applies.
const (
	victimStage = "WEIR_TEST_KILL_AT"
	victimJob   = "WEIR_TEST_KILL_JOB"
)

type job struct {
	State, Pin string
	Spec       *chain.Spec
	Delete     []chain.Key
}

func victim() {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(victimJob)), &j); err != nil {
		panic(err)
	}
	m, err := chain.Open(chain.Options{State: j.State, Pin: j.Pin, Progress: func(s chain.Stage) {
		if string(s) == os.Getenv(victimStage) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	if err != nil {
		panic(err)
	}
	if j.Spec != nil {
		_, err = m.Apply(j.Spec, chain.ApplyOptions{})
	} else {
		_, err = m.Delete(chain.ApplyOptions{}, j.Delete...)
	}
	panic(errors.Join(errors.New("not killed"), err))
}

// killed does a job in a process that is killed at a stage.
func (b *bed) killed(stage chain.Stage, j job) {
	b.t.Helper()
	j.State, j.Pin = b.state, b.pin
	text, err := json.Marshal(j)
	require.NoError(b.t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimStage+"="+string(stage), victimJob+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(b.t, err, &exit)
	require.Equal(b.t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", out)
}

var stages = []chain.Stage{chain.Built, chain.Intended, chain.Pinned, chain.Swapped, chain.Retired,
	chain.Committed}

// A weir that is killed at any stage of an apply leaves the chain as it was, or as it shall be, and
// working; the next apply finishes the job and clears up.
func TestKilledApply(t *testing.T) {
	each(t, func(t *testing.T, b *bed, w way) {
		for _, stage := range stages {
			t.Run(string(stage), func(t *testing.T) {
				done := stage == chain.Swapped || stage == chain.Committed || stage == chain.Retired
				run := func(generation int, before []step, was uint64) {
					c := b.chain(w.kind, w.backend, b.member(w.kind, 1, 1, pass(w.kind), generation),
						b.member(w.kind, 2, 2, pass(w.kind), generation))
					after := []step{{1, uint16(generation)}, {2, uint16(generation)}}
					b.killed(stage, job{Spec: &chain.Spec{Chains: []chain.Chain{c}}})
					running := after
					if !done {
						running = before
					}
					b.meets(w.kind, running)
					b.manager(func(m *chain.Manager) {
						if all := m.List(); len(running) > 0 {
							require.Len(t, all, 1)
							require.Empty(t, all[0].Drift)
							require.NotZero(t, all[0].Generation)
						}
					})
					ch := b.mustApply(c)
					require.Equal(t, done, ch.Unchanged())
					b.meets(w.kind, after)
					b.clean(1)
				}
				run(1, nil, 0)
				run(2, []step{{1, 1}, {2, 1}}, 1)

				b.killed(stage, job{Delete: []chain.Key{b.chain(w.kind, "").Key}})
				if done {
					require.Empty(t, b.hook(w.kind, w.backend).Own)
				} else {
					b.meets(w.kind, []step{{1, 2}, {2, 2}})
				}
				b.manager(func(m *chain.Manager) {
					if len(m.List()) > 0 {
						_, err := m.Delete(chain.ApplyOptions{}, b.chain(w.kind, "").Key)
						require.NoError(t, err)
					}
					require.Empty(t, m.List())
				})
				require.Empty(t, b.hook(w.kind, w.backend).Own)
				b.clean(0)
			})
		}
	})
}

// Restore ends what a killed weir has begun: the chain stays the one that packets meet.
func TestRestoreKilled(t *testing.T) {
	for _, stage := range stages {
		t.Run(string(stage), func(t *testing.T) {
			b := newBed(t)
			next := b.chain(hook.Ingress, "", b.member(hook.Ingress, 1, 1, hook.TCOk, 2))
			b.mustApply(b.chain(hook.Ingress, "", b.member(hook.Ingress, 1, 1, hook.TCOk, 1)))
			b.killed(stage, job{Spec: &chain.Spec{Chains: []chain.Chain{next}}})
			sent, _ := b.send(hook.Ingress, 1)
			running := b.traces(hook.Ingress, sent)[0]
			b.manager(func(m *chain.Manager) {
				all := m.Restore()
				require.Len(t, all, 1)
				require.NoError(t, all[0].Err)
			})
			b.meets(hook.Ingress, running)
			b.clean(1)
			b.manager(func(m *chain.Manager) {
				revision := m.Revision()
				require.True(t, m.Restore()[0].Unchanged())
				require.Equal(t, revision, m.Revision())
			})
		})
	}
}

// meets checks which members packets meet, and that they pass.
func (b *bed) meets(kind hook.Kind, want []step) {
	b.t.Helper()
	sent, passed := b.send(kind, 3)
	require.Len(b.t, passed, 3)
	if len(want) == 0 {
		return
	}
	for _, got := range b.traces(kind, sent) {
		require.Equal(b.t, want, got)
	}
}

// clean checks that so many generations are pinned, and no more.
func (b *bed) clean(generations int) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.pin, "*", "generation-*"))
	require.NoError(b.t, err)
	require.Len(b.t, files, generations)
	if generations == 0 {
		files, err := filepath.Glob(filepath.Join(b.pin, "*"))
		require.NoError(b.t, err)
		require.Empty(b.t, files)
	}
}
