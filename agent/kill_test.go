package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// process is an agent in a process of its own: this test binary, started again.
type process struct {
	cmd    *exec.Cmd
	log    safeBuffer
	file   string // of its configuration
	client *control.Client
}

// safeBuffer is a buffer that can be read while a process writes to it.
type safeBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *safeBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *safeBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// configure writes its configuration file.
func (p *process) configure(t testing.TB, cfg Config) {
	t.Helper()
	data, err := yaml.Marshal(cfg)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(p.file, data, 0o600))
}

func startProcess(t testing.TB, cfg Config) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "weir.yaml")
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), AsAgent+"="+file)
	return startCommand(t, cmd, file, cfg)
}

// startCommand starts an agent that reads its configuration from a file.
func startCommand(t testing.TB, cmd *exec.Cmd, file string, cfg Config) *process {
	t.Helper()
	p := &process{cmd: cmd, file: file, client: control.Dial(cfg.Control)}
	p.configure(t, cfg)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill(t)
		}
		if t.Failed() {
			t.Logf("the agent process: %s", p.log.String())
		}
	})
	eventually(t, "the agent process to answer", func() bool {
		_, err := p.client.Counters(t.Context())
		return err == nil
	})
	return p
}

// accounts waits until just so much has passed its first hook, and is accounted.
func (p *process) accounts(t testing.TB, want bpf.Count) {
	t.Helper()
	eventually(t, "the last packets to pass the hook", func() bool {
		c, err := p.client.Counters(t.Context())
		require.NoError(t, err)
		return c.Hooks[0].Seen == want && c.Hooks[0].Accounted == want
	})
}

func (p *process) kill(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait() // tells that it was killed
}

// end ends it in order.
func (p *process) end(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), p.log.String())
}

// delivered adds up a flow file as a receiver does: records that overlap tell of the same packets.
func delivered(t testing.TB, file string) bpf.Count {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	legs := map[legKey][]flow.Record{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r flow.Record
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue // cut off when its writer was killed
		}
		k := legOf(&r)
		legs[k] = append(legs[k], r)
	}
	require.NoError(t, lines.Err())
	var sum bpf.Count
	for _, records := range legs {
		sum.Add(union(records))
	}
	return sum
}

// union adds up the records of one leg; they are cumulative.
func union(records []flow.Record) bpf.Count {
	slices.SortFunc(records, func(a, b flow.Record) int { return cmp.Compare(a.PacketsBefore, b.PacketsBefore) })
	var sum, told bpf.Count
	for _, r := range records {
		var fresh bpf.Count
		fresh, told = untold(told, &r)
		sum.Add(fresh)
	}
	return sum
}

// untold is what of a record those before it have not told, which reach up to a count of packets; and up to
// where all of them reach.
func untold(told bpf.Count, r *flow.Record) (fresh, to bpf.Count) {
	to = bpf.Count{Packets: r.PacketsBefore + r.Packets, Bytes: r.BytesBefore + r.Bytes}
	if to.Packets <= told.Packets {
		return fresh, told
	}
	from := bpf.Count{Packets: max(told.Packets, r.PacketsBefore), Bytes: max(told.Bytes, r.BytesBefore)}
	return bpf.Count{Packets: to.Packets - from.Packets, Bytes: to.Bytes - from.Bytes}, to
}

func (p *pair) pinned(t testing.TB) Config {
	t.Helper()
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	cfg.Pin = pinFolder(t)
	return cfg
}

// TestKillAndAdopt kills agents while two CPUs send, and lets the last one end in order: every
// packet that the interface has received is in the flow file.
func TestKillAndAdopt(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.pinned(t)
		cfg.Interfaces[0].Hook = mode
		agent := startProcess(t, cfg)
		before := p.received(t)
		f := p.flood(t, 64)
		for range 3 {
			agent.kill(t)
			require.Len(t, p.attached(t), 2, "attachments outlive the agent")
			agent = startProcess(t, cfg)
			require.Len(t, p.attached(t), 2, "they are adopted and not doubled")
		}
		f.end(t)
		want := p.receivedSince(t, before)
		agent.accounts(t, want)
		agent.end(t)
		require.Equal(t, want, delivered(t, cfg.Output))
		require.Empty(t, p.attached(t))
		require.NoDirExists(t, cfg.Pin)
	})
}

// TestAdoptAnotherInterface kills an agent and puts a new interface with the same number in the
// place of the old one: what was pinned is attached to nothing.
func TestAdoptAnotherInterface(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.pinned(t)
		cfg.Interfaces[0].Hook = mode
		agent := startProcess(t, cfg)
		p.send(t, p.udp(t, 1, 2, 0))
		agent.kill(t)
		p.rebuild(t)
		agent = startProcess(t, cfg)
		p.send(t, p.udp(t, 1, 2, 0))
		eventually(t, "the new interface's packet to be seen", func() bool {
			c, err := agent.client.Counters(t.Context())
			require.NoError(t, err)
			return c.Hooks[0].Seen.Packets == 2
		})
		agent.end(t)
		require.Equal(t, uint64(2), delivered(t, cfg.Output).Packets)
	})
}

// rebuild puts a new pair in the place of the old one.
func (p *pair) rebuild(t testing.TB) {
	t.Helper()
	inside(t, p.far, func() error {
		l, err := netlink.LinkByName(farName)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	p.build(t)
}

// TestFailedStartKeepsWhatWasPinned kills an agent and starts one with a mistake in its
// configuration: the flows of the first are there for the third.
func TestFailedStartKeepsWhatWasPinned(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	agent := startProcess(t, cfg)
	p.send(t, p.udp(t, 1, 2, 0))
	agent.kill(t)
	bad := cfg
	bad.Interfaces = append([]Interface{{Name: "typo", Namespace: p.far}}, cfg.Interfaces...)
	_, err := New(bad, Options{})
	require.ErrorContains(t, err, "typo")
	require.Equal(t, ours(bpf.TCX), p.attached(t))
	p.send(t, p.udp(t, 1, 2, 0))
	startProcess(t, cfg).end(t)
	require.Equal(t, uint64(2), delivered(t, cfg.Output).Packets)
	require.Empty(t, p.attached(t))
}

// TestStopUnderLoad stops an agent while packets come in: what was accounted until the hook was
// off is in the records.
func TestStopUnderLoad(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		opts, err := cfg.DatapathOptions()
		require.NoError(t, err)
		opts.Table = 1024
		dp, err := bpf.Load(opts)
		require.NoError(t, err)
		defer func() { require.NoError(t, dp.Close()) }()
		f := p.flood(t, 256)
		defer f.end(t)
		for range 20 {
			require.NoError(t, dp.Reset())
			l := newLedger()
			a, err := New(cfg, Options{Datapath: dp, Sink: l})
			require.NoError(t, err)
			number := a.placed[0].at.Number
			sent := f.sent[0].Load()
			eventually(t, "packets to be sent", func() bool { return f.sent[0].Load() > sent+100 })
			require.NoError(t, a.stop())
			c, err := dp.Counters(number)
			require.NoError(t, err)
			require.Equal(t, c.Accounted, l.sum)
			require.Empty(t, l.wrong)
		}
	})
}

// TestAdoptTakesOffWhatIsNotWatched lets an agent watch one of two interfaces that the one before it
// has watched.
func TestAdoptTakesOffWhatIsNotWatched(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.pinned(t)
		near := Interface{Name: nearName, Namespace: p.near, Hook: mode}
		cfg.Interfaces[0].Hook = mode
		cfg.Interfaces = append(cfg.Interfaces, near)
		agent := startProcess(t, cfg)
		require.Equal(t, ours(mode), attachedTo(t, p.near, nearName))
		p.send(t, p.udp(t, 1000, 53, 0))
		agent.kill(t)

		cfg.Interfaces = cfg.Interfaces[:1]
		agent = startProcess(t, cfg)
		require.Empty(t, attachedTo(t, p.near, nearName))
		require.Equal(t, ours(mode), p.attached(t))
		c, err := control.Dial(cfg.Control).Counters(t.Context())
		require.NoError(t, err)
		require.Len(t, c.Hooks, 4, "what was taken off stays in the books")
		var accounted bpf.Count
		for _, h := range c.Hooks {
			accounted.Add(h.Accounted)
		}
		agent.end(t)
		require.Equal(t, accounted, delivered(t, cfg.Output))
	})
}
