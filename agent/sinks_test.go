package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/collect"
	"github.com/weirnet/weir/agent/export/file"
	"github.com/weirnet/weir/agent/export/grpc"
	"github.com/weirnet/weir/agent/export/ipfix"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/collector"
)

// receiver is `weir collect`, which can be away for a while.
type receiver struct {
	address string
	file    string
	dedupe  time.Duration
}

// newReceiver reserves an address, on which nobody answers yet.
func newReceiver(t testing.TB) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return &receiver{address: l.Addr().String(), file: filepath.Join(t.TempDir(), "collected.jsonl")}
}

// start begins to receive into its file, until stop.
func (r *receiver) start(t testing.TB) (stop func()) {
	t.Helper()
	sink, err := file.Open(file.Options{Path: r.file})
	require.NoError(t, err)
	end := r.serve(t, sink)
	return func() {
		end()
		require.NoError(t, sink.Close())
	}
}

// serve begins to receive into a sink, until stop.
func (r *receiver) serve(t testing.TB, sink export.Sink) (stop func()) {
	t.Helper()
	c, err := collect.New(collect.Options{Sink: sink, Dedupe: r.dedupe, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	l, err := net.Listen("tcp", r.address)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, l) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// config is a sink for it, with a spool.
func (r *receiver) config(t testing.TB) SinkConfig {
	t.Helper()
	return SinkConfig{GRPC: &grpc.Options{Address: r.address},
		Spool: SpoolConfig{Path: filepath.Join(t.TempDir(), "spool")},
		Retry: RetryConfig{Min: 5 * time.Millisecond, Max: 50 * time.Millisecond}}
}

// sinkStats asks an agent, and checks the law of every sink.
func sinkStats(t testing.TB, cfg Config) map[string]export.Stats {
	t.Helper()
	c, err := control.Dial(cfg.Control).Counters(t.Context())
	require.NoError(t, err)
	all := map[string]export.Stats{}
	for _, s := range c.Sinks {
		sum := s.Sent
		sum.Add(s.Held)
		for _, n := range s.Dropped {
			sum.Add(n)
		}
		require.Equal(t, s.Taken, sum, "%+v", s)
		all[s.Name] = s
	}
	return all
}

func readRecords(t testing.TB, path string) (all []flow.Record) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r flow.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r), lines.Text())
		all = append(all, r)
	}
	return all
}

// inOrder checks that no record comes twice, and that each flow's come in order.
func inOrder(t testing.TB, records []flow.Record) {
	t.Helper()
	last := map[string]uint64{}
	for _, r := range records {
		require.Greater(t, r.Sequence, last[r.Boot])
		last[r.Boot] = r.Sequence
	}
}

// TestSinkDownThenBack keeps the collector away for an agent's whole life; the next agent delivers
// everything, in order, once. The file beside it notices nothing.
func TestSinkDownThenBack(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	r := newReceiver(t)
	cfg.Sinks = []SinkConfig{r.config(t)}
	agent := startProcess(t, cfg)
	before := p.received(t)
	f := p.flood(t, 64)
	eventually(t, "records to wait", func() bool { return sinkStats(t, cfg)["grpc"].Held.Records > 300 })
	f.end(t)
	stats := sinkStats(t, cfg)
	require.True(t, stats["grpc"].Failing)
	require.Zero(t, stats["grpc"].Sent)
	require.Zero(t, stats["output"].Held)
	agent.end(t)
	want := p.receivedSince(t, before)
	require.Equal(t, want, delivered(t, cfg.Output))

	stop := r.start(t)
	agent = startProcess(t, cfg)
	eventually(t, "the spool to be empty", func() bool { return sinkStats(t, cfg)["grpc"].Held.Records == 0 })
	agent.end(t)
	stop()
	require.Equal(t, want, delivered(t, r.file))
	records := readRecords(t, r.file)
	inOrder(t, records)
	require.Equal(t, readRecords(t, cfg.Output), records)
}

// slow takes its time for each batch, in ns.
type slow struct {
	export.Sink
	each atomic.Int64
}

func (s *slow) Send(ctx context.Context, payload []byte, records int) error {
	select {
	case <-time.After(time.Duration(s.each.Load())):
		return s.Sink.Send(ctx, payload, records)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestStopWithSlowSink ends agents under load while the collector is slower than they are: what it has not
// got when an agent ends stays in the spool, the next agent sends it first, and everything arrives in order, once.
func TestStopWithSlowSink(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	cfg.StopTimeout = minEvery
	r := newReceiver(t)
	sink := r.config(t)
	sink.Batch = 20
	cfg.Sinks = []SinkConfig{sink}
	lines, err := file.Open(file.Options{Path: r.file})
	require.NoError(t, err)
	sluggish := &slow{Sink: lines}
	sluggish.each.Store(int64(100 * time.Millisecond))
	stop := r.serve(t, sluggish)
	var want bpf.Count
	var left uint64
	for range 3 {
		agent := startProcess(t, cfg)
		require.GreaterOrEqual(t, sinkStats(t, cfg)["grpc"].Taken.Records, left)
		f := p.flood(t, 64)
		eventually(t, "the sink to be behind", func() bool {
			s := sinkStats(t, cfg)["grpc"]
			return s.Sent.Records > 0 && s.Held.Records > 200
		})
		agent.end(t) // while packets come in
		f.end(t)
		require.Contains(t, agent.log.String(), "records stay in the spool")
		left = uint64(len(readRecords(t, cfg.Output)))
		want = delivered(t, cfg.Output)
	}
	// It goes on as the same one: a batch whose answer the last agent did not wait for is sent again, and only who
	// has written it knows that.
	sluggish.each.Store(0)
	agent := startProcess(t, cfg)
	eventually(t, "the spool to be empty", func() bool { return sinkStats(t, cfg)["grpc"].Held.Records == 0 })
	require.Empty(t, sinkStats(t, cfg)["grpc"].Dropped)
	agent.end(t)
	stop()
	require.NoError(t, lines.Close())
	require.Equal(t, readRecords(t, cfg.Output), readRecords(t, r.file))
	inOrder(t, readRecords(t, r.file))
	require.Equal(t, want, delivered(t, r.file))
}

// TestSinkHangs has a collector that takes connections and never answers: the file beside it has
// each record as soon as without.
func TestSinkHangs(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r := &receiver{address: l.Addr().String()}
	hangs := r.config(t)
	hangs.Spool = SpoolConfig{}
	cfg.Sinks = []SinkConfig{hangs}
	cfg.StopTimeout = minEvery
	agent := startProcess(t, cfg)
	for n := range uint64(5) {
		p.send(t, p.udp(t, uint16(1000+n), 53, 0))
		eventually(t, "the packet to be in the file", func() bool {
			return delivered(t, cfg.Output).Packets == n+1
		})
	}
	require.NotZero(t, sinkStats(t, cfg)["grpc"].Held)
	agent.end(t)
	require.Contains(t, agent.log.String(), "reason=stopped", "what was not sent is told")
}

// TestKillWithSpool kills agents while packets come in and the collector comes and goes: every packet
// arrives there.
func TestKillWithSpool(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	r := newReceiver(t)
	cfg.Output = ""
	cfg.Sinks = []SinkConfig{r.config(t)}
	agent := startProcess(t, cfg)
	before := p.received(t)
	f := p.flood(t, 64)
	for range 3 {
		held := sinkStats(t, cfg)["grpc"].Held.Records
		eventually(t, "records to wait", func() bool {
			return sinkStats(t, cfg)["grpc"].Held.Records > held+100
		})
		agent.kill(t)
		stop := r.start(t)
		agent = startProcess(t, cfg)
		sent := sinkStats(t, cfg)["grpc"].Sent.Records
		eventually(t, "records to be sent", func() bool {
			return sinkStats(t, cfg)["grpc"].Sent.Records > sent+100
		})
		agent.kill(t)
		stop()
		agent = startProcess(t, cfg)
	}
	f.end(t)
	stop := r.start(t)
	agent.end(t)
	startProcess(t, cfg).end(t) // sends what the last one may have left
	stop()
	want := p.receivedSince(t, before)
	require.Equal(t, want, delivered(t, r.file))
}

// TestSpoolDiskFull gives the spool a file system that is too small. What found no room is counted; what
// did arrives.
func TestSpoolDiskFull(t *testing.T) {
	p := newPair(t)
	mount := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
	cfg := p.pinned(t)
	r := newReceiver(t)
	sink := r.config(t)
	sink.Spool.Path = filepath.Join(mount, "spool")
	cfg.Sinks = []SinkConfig{sink}
	agent := startProcess(t, cfg)
	f := p.flood(t, 64)
	eventually(t, "the disk to be full", func() bool {
		return sinkStats(t, cfg)["grpc"].Dropped[export.DroppedDiskFull].Records > 0
	})
	f.end(t)
	agent.end(t)
	stop := r.start(t)
	agent = startProcess(t, cfg)
	eventually(t, "the spool to be empty", func() bool { return sinkStats(t, cfg)["grpc"].Held.Records == 0 })
	stats := sinkStats(t, cfg)
	agent.end(t)
	stop()
	records := readRecords(t, r.file)
	inOrder(t, records)
	require.Len(t, records, int(stats["grpc"].Sent.Records))
	everything := readRecords(t, cfg.Output)
	require.Len(t, everything, int(stats["grpc"].Taken.Records))
	require.Equal(t, len(everything)-len(records), int(stats["grpc"].Dropped[export.DroppedDiskFull].Records))
}

// TestSinkIPFIX has a collector of IPFIX count the same as the file.
func TestSinkIPFIX(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	var heard bytes.Buffer
	c, err := collector.Listen("127.0.0.1:0", &heard)
	require.NoError(t, err)
	cfg.Sinks = []SinkConfig{{IPFIX: &ipfix.Options{Address: c.Addr(), Biflow: true}}}
	agent := startProcess(t, cfg)
	for n := range uint16(20) {
		p.send(t, p.udp(t, 1000+n, 53, int(n)))
	}
	agent.end(t)
	stats, err := c.Close()
	require.NoError(t, err)
	require.Zero(t, stats.Malformed)
	var got bpf.Count
	for line := range bytes.Lines(heard.Bytes()) {
		var r struct{ PacketDeltaCount, OctetDeltaCount, ReversePacketDeltaCount, ReverseOctetDeltaCount uint64 }
		require.NoError(t, json.Unmarshal(line, &r))
		got.Add(bpf.Count{Packets: r.PacketDeltaCount + r.ReversePacketDeltaCount,
			Bytes: r.OctetDeltaCount + r.ReverseOctetDeltaCount})
	}
	require.GreaterOrEqual(t, got.Packets, uint64(20))
	require.Equal(t, delivered(t, cfg.Output), got)
}
