package agent

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// pinFolder is a folder on the BPF file system that must be gone when the test ends.
func pinFolder(t testing.TB) string {
	t.Helper()
	const prefix = "weir-test-"
	left, err := filepath.Glob(filepath.Join(bpffs.Folder, prefix+"*"))
	require.NoError(t, err)
	for _, dir := range left { // of tests that were killed
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), prefix))
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			require.NoError(t, os.RemoveAll(dir))
		}
	}
	path := filepath.Join(bpffs.Folder, prefix+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(path)) })
	return path
}

// watching is a configuration for the far end.
func (p *pair) watching(t testing.TB) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far, As: "far"}}
	cfg.Interval, cfg.Active = minEvery, minEvery
	cfg.Output = filepath.Join(t.TempDir(), "flows.jsonl")
	return cfg
}

// attached lists the programs on the far end, attachedTo those on any: "tcx ingress name", "tc egress name".
func (p *pair) attached(t testing.TB) []string { return attachedTo(t, p.far, farName) }

func attachedTo(t testing.TB, namespace, name string) []string {
	t.Helper()
	all := []string{}
	inside(t, namespace, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for name, at := range map[string]ebpf.AttachType{
			"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
			if !haveTCX(t) {
				break
			}
			found, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
			if err != nil {
				return err
			}
			for _, prog := range found.Programs {
				all = append(all, "tcx "+name+" "+programName(prog.ID))
			}
		}
		for name, parent := range map[string]uint32{
			"ingress": netlink.HANDLE_MIN_INGRESS, "egress": netlink.HANDLE_MIN_EGRESS} {
			filters, err := netlink.FilterList(l, parent)
			if err != nil && err != unix.EINVAL && err != unix.ENOENT { // no clsact qdisc
				return err
			}
			for _, f := range filters {
				if b, ok := f.(*netlink.BpfFilter); ok {
					all = append(all, "tc "+name+" "+b.Name)
				}
			}
		}
		return nil
	})
	slices.Sort(all)
	return all
}

func programName(id ebpf.ProgramID) string {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err.Error()
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return err.Error()
	}
	if strings.HasPrefix(info.Name, "weir_hook_") {
		return "weir"
	}
	return info.Name
}

func ours(mode string) []string { return []string{mode + " egress weir", mode + " ingress weir"} }

// run runs an agent until the returned function is called.
func run(t testing.TB, a *Agent) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func modes(t *testing.T, test func(t *testing.T, mode string)) {
	for _, mode := range []string{bpf.TCX, bpf.TC} {
		t.Run(mode, func(t *testing.T) {
			kerneltest.NeedRoot(t)
			if mode == bpf.TCX && !haveTCX(t) {
				t.Skip("skipped: this kernel has no tcx (6.6)")
			}
			test(t, mode)
		})
	}
}

// haveTCX asks the kernel what is attached by tcx to the loopback device.
func haveTCX(t testing.TB) bool {
	t.Helper()
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
	return err == nil
}

func TestStopLeavesNothing(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		for _, pin := range []string{"", pinFolder(t)} {
			p := newPair(t)
			cfg := p.watching(t)
			cfg.Interfaces[0].Hook = mode
			cfg.Pin = pin
			cfg.Control = filepath.Join(t.TempDir(), "control.sock")
			a, err := New(cfg, Options{})
			require.NoError(t, err)
			require.Equal(t, ours(mode), p.attached(t))
			require.NoError(t, run(t, a)())
			require.Empty(t, p.attached(t))
			require.NoFileExists(t, cfg.Control)
			if pin != "" {
				require.NoDirExists(t, pin)
			}
		}
	})
}

func TestNewFailsCleanly(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		cfg.Pin = pinFolder(t)
		tests := []struct {
			name  string
			extra Interface
			want  []string
		}{
			{"interface", Interface{Name: "eth7", Namespace: p.far},
				[]string{"eth7", "there are: lo", farName}},
			{"namespace", Interface{Name: farName, Namespace: "nowhere"},
				[]string{"enter network namespace nowhere", "no such file"}},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				cfg := cfg
				cfg.Interfaces = append(slices.Clone(cfg.Interfaces), test.extra)
				_, err := New(cfg, Options{})
				require.Error(t, err)
				for _, part := range test.want {
					require.ErrorContains(t, err, part)
				}
				require.Empty(t, p.attached(t))
				require.NoDirExists(t, cfg.Pin)
			})
		}
	})
}

func TestNewRefuses(t *testing.T) {
	kerneltest.NeedRoot(t)
	p := newPair(t)
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"output", func(c *Config) { c.Output = "/nowhere/flows" },
			"open the flow file: open /nowhere/flows"},
		{"pin", func(c *Config) { c.Pin = t.TempDir() }, "use a folder below /sys/fs/bpf"},
		{"config", func(c *Config) { c.Table.Size = 0 }, "configuration: table.size: 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := p.watching(t)
			test.change(&cfg)
			_, err := New(cfg, Options{})
			require.ErrorContains(t, err, test.want)
			require.Empty(t, p.attached(t))
		})
	}
}

// foreign attaches programs of somebody else's: a tc filter on the clsact qdisc, and a tcx program.
func (p *pair) foreign(t testing.TB) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign",
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	require.NoError(t, err)
	t.Cleanup(func() { prog.Close() })
	inside(t, p.far, func() error {
		l, err := netlink.LinkByName(farName)
		if err != nil {
			return err
		}
		index := l.Attrs().Index
		if haveTCX(t) {
			tcx, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog,
				Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			t.Cleanup(func() { tcx.Close() })
		}
		clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index,
			Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := netlink.QdiscAdd(clsact); err != nil {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1,
			Protocol: unix.ETH_P_ALL}, Fd: prog.FD(), Name: "foreign", DirectAction: true})
	})
}

func TestForeignProgramsSurvive(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		p.foreign(t)
		foreign := p.attached(t)
		require.Contains(t, foreign, "tc ingress foreign")
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		l := newLedger()
		a, err := New(cfg, Options{Sink: l})
		require.NoError(t, err)
		with := append(slices.Clone(foreign), ours(mode)...)
		slices.Sort(with)
		require.Equal(t, with, p.attached(t))
		p.send(t, p.udp(t, 1, 2, 0))
		settled(t, p, a, 1)
		require.NoError(t, run(t, a)())
		require.Equal(t, foreign, p.attached(t))
		require.Equal(t, uint64(1), l.sum.Packets)
	})
}

// TestAnchors has weir stand before or behind another owner's program, and stay there when others come.
func TestAnchors(t *testing.T) {
	if !haveTCX(t) {
		t.Skip("skipped: this kernel has no tcx (6.6)")
	}
	for anchor, want := range map[string][]string{"": {"weir", "foreign"}, anchorHead: {"weir", "foreign"},
		anchorTail: {"foreign", "weir"}} {
		t.Run(anchor, func(t *testing.T) {
			p := newPair(t)
			p.foreign(t)
			cfg := p.watching(t)
			cfg.Interfaces[0].Anchor = anchor
			a, err := New(cfg, Options{Sink: newLedger()})
			require.NoError(t, err)
			var found []string
			inside(t, p.far, func() error {
				all, err := link.QueryPrograms(link.QueryOptions{Target: farIndex, Attach: ebpf.AttachTCXIngress})
				if err != nil {
					return err
				}
				for _, prog := range all.Programs {
					found = append(found, programName(prog.ID))
				}
				return nil
			})
			require.Equal(t, want, found)
			require.NoError(t, a.stop())
		})
	}
	for text, want := range map[string]string{
		"interfaces: [{name: eth0, anchor: top}]":         `interfaces[0].anchor: "top"; want head or tail`,
		"interfaces: [{name: eth0, anchor: x, hook: tc}]": "interfaces[0].anchor: ",
		"discover: {anchor: tail, hook: tc}":              "discover.anchor: tail: a tc filter has none",
	} {
		_, err := parseConfig("weir.yaml", []byte(text), nil, nil)
		require.ErrorContains(t, err, want, text)
	}
}

// TestOneAgentPerSocket starts a second agent on the first one's control socket; the first must not
// notice.
func TestOneAgentPerSocket(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	cfg.Pin = pinFolder(t)
	l := newLedger()
	first, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	stop := run(t, first)
	ctx := context.Background()
	client := control.Dial(cfg.Control)
	eventually(t, "the first agent to answer", func() bool {
		_, err := client.Counters(ctx)
		return err == nil
	})
	p.send(t, p.udp(t, 1, 2, 0))

	second, err := New(cfg, Options{})
	if err == nil {
		err = second.Run(ctx)
	}
	require.ErrorContains(t, err, "another agent")

	p.send(t, p.udp(t, 1, 2, 0), p.udp(t, 3, 4, 0))
	settled(t, p, first, 3)
	require.NoError(t, stop())
	require.Equal(t, uint64(3), l.sum.Packets)
	require.Empty(t, l.wrong)
}

// TestOneAgentPerPinFolder is the same without a control socket.
func TestOneAgentPerPinFolder(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Pin = pinFolder(t)
	l := newLedger()
	first, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	p.send(t, p.udp(t, 1, 2, 0))
	second, err := New(cfg, Options{})
	if err == nil {
		_ = second.stop()
	}
	require.ErrorContains(t, err, "another agent")
	p.send(t, p.udp(t, 1, 2, 0))
	settled(t, p, first, 2)
	require.NoError(t, first.stop())
	require.Equal(t, uint64(2), l.sum.Packets)
}

func TestInterfaceGoesAway(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		tests := []struct {
			name   string
			remove func(p *pair)
		}{
			{"interface", func(p *pair) {
				inside(t, p.far, func() error {
					l, err := netlink.LinkByName(farName)
					if err != nil {
						return err
					}
					return netlink.LinkDel(l)
				})
			}},
			{"namespace", func(p *pair) { nstest.Drop(p.far) }},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				p := newPair(t)
				cfg := p.watching(t)
				cfg.Interfaces[0].Hook = mode
				cfg.Pin = pinFolder(t)
				l := newLedger()
				a, err := New(cfg, Options{Sink: l})
				require.NoError(t, err)
				p.send(t, p.udp(t, 1, 2, 0))
				settled(t, p, a, 1)
				test.remove(p)
				require.NoError(t, run(t, a)())
				require.Equal(t, uint64(1), l.sum.Packets)
				require.NoDirExists(t, cfg.Pin)
			})
		}
	})
}

// TestNoLeak starts and stops agents and counts what they leave in this process.
func TestNoLeak(t *testing.T) {
	p := newPair(t)
	leavesNothing(t, func() {
		cfg := p.watching(t)
		cfg.Control = filepath.Join(t.TempDir(), "control.sock")
		a, err := New(cfg, Options{})
		require.NoError(t, err)
		stop := run(t, a)
		client := control.Dial(cfg.Control)
		eventually(t, "the agent to answer", func() bool {
			_, err := client.Counters(context.Background())
			return err == nil
		})
		require.NoError(t, stop())

		cfg.Interfaces = append(cfg.Interfaces, Interface{Name: "missing", Namespace: p.far})
		_, err = New(cfg, Options{})
		require.Error(t, err)
	})
}

// leavesNothing checks that rounds of something leave no descriptors and no goroutines in this process.
func leavesNothing(t testing.TB, round func()) {
	t.Helper()
	round() // what is made once
	runtime.GC()
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 3 {
		round()
	}
	eventually(t, "descriptors and goroutines to go", func() bool {
		return openFiles(t) <= fds && runtime.NumGoroutine() <= goroutines
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

// TestSweepsByItself lets the ticker do the work.
func TestSweepsByItself(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Lifetimes = map[string]time.Duration{"unreplied": 50 * time.Millisecond}
	a, err := New(cfg, Options{})
	require.NoError(t, err)
	stop := run(t, a)
	p.send(t, p.udp(t, 1, 2, 0))
	eventually(t, "a record in the file", func() bool {
		data, err := os.ReadFile(cfg.Output)
		return err == nil && strings.Contains(string(data), `"end":"idle"`)
	})
	require.NoError(t, stop())
}
