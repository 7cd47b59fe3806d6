package grpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/certs/certstest"
	"github.com/weirnet/weir/agent/export/collect"
	"github.com/weirnet/weir/agent/export/file"
	"github.com/weirnet/weir/agent/export/sinktest"
	"github.com/weirnet/weir/agent/flow"
)

// collector is `weir collect` at work.
type collector struct {
	address string
	file    string
	conns   atomic.Int32 // accepted so far
	stop    func() collect.Stats
}

type counting struct {
	net.Listener
	conns *atomic.Int32
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.conns.Add(1)
	}
	return conn, err
}

// startCollector starts one on an address; port 0 chooses a free one.
func startCollector(t testing.TB, address, path string, secure *certs.Options) *collector {
	t.Helper()
	sink, err := file.Open(file.Options{Path: path})
	require.NoError(t, err)
	server, err := collect.New(collect.Options{TLS: secure, Sink: sink, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	c := &collector{address: l.Addr().String(), file: path}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, counting{l, &c.conns}) }()
	stopped := false
	c.stop = func() collect.Stats {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
			require.NoError(t, sink.Close())
		}
		return server.Stats()
	}
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *collector) records(t testing.TB) (all []flow.Record) {
	t.Helper()
	data, err := os.ReadFile(c.file)
	require.NoError(t, err)
	for line := range bytes.Lines(data) {
		var r flow.Record
		require.NoError(t, json.Unmarshal(line, &r))
		all = append(all, r)
	}
	return all
}

func record(n uint64) flow.Record {
	return flow.Record{
		Boot: "b", Sequence: n, Flow: n, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		SrcPort: 1, DstPort: 2, Protocol: 6, Packets: 3, Bytes: 4, Start: 5, End: 6, Flags: flow.SYN,
		Role: flow.RoleInitiator, State: "established", Reason: flow.EndActive,
		Seen: []flow.Hook{{Interface: "eth0", Direction: flow.Egress}},
	}
}

func (s *Sink) send(from, to uint64) error { return s.sendWithin(10*time.Second, from, to) }

func (s *Sink) sendWithin(limit time.Duration, from, to uint64) error {
	var b []byte
	for n := from; n < to; n++ {
		r := record(n)
		b = s.Append(b, flow.Report{Record: &r}, 1e18)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return s.Send(ctx, b, int(to-from))
}

func flows(t testing.TB) string { return filepath.Join(t.TempDir(), "flows.jsonl") }

func TestRoundTrip(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		c := startCollector(t, address, flows(t), nil)
		s := sinktest.Open(t, Open, Options{Address: c.address})
		require.NoError(t, s.send(1, 1001))
		drop := s.Append(nil, flow.Report{Drop: &flow.Drop{Boot: "b", Sequence: 1, Reason: "no-socket", Packets: 7}}, 0)
		require.NoError(t, s.Send(context.Background(), drop, 1))
		require.Equal(t, collect.Stats{Records: 1001}, c.stop())
		got := c.records(t)
		require.Len(t, got, 1001)
		for i, r := range got[:1000] {
			require.Equal(t, record(uint64(i+1)), r)
		}
		data, err := os.ReadFile(c.file)
		require.NoError(t, err)
		require.Contains(t, string(data), `{"drop":{"boot":"b","sequence":1,"reason":"no-socket","packets":7}}`)
	}
}

// TestRepeats sends again what was sent, in part and in whole: each record is written once.
func TestRepeats(t *testing.T) {
	c := startCollector(t, "localhost:0", flows(t), nil)
	s := sinktest.Open(t, Open, Options{Address: c.address})
	require.NoError(t, s.send(1, 11))
	require.NoError(t, s.send(1, 11))
	require.NoError(t, s.send(6, 16))
	require.Equal(t, collect.Stats{Records: 15, Repeats: 15}, c.stop())
	require.Len(t, c.records(t), 15)
}

// TestCollectorIsDown ends the collector and starts another one in its place.
func TestCollectorIsDown(t *testing.T) {
	path := flows(t)
	c := startCollector(t, "localhost:0", path, nil)
	s := sinktest.Open(t, Open, Options{Address: c.address})
	require.NoError(t, s.send(1, 2))
	c.stop()
	for range 3 {
		err := s.send(2, 3)
		require.ErrorContains(t, err, "send to "+c.address)
		require.NotErrorIs(t, err, export.ErrRejected)
	}
	startCollector(t, c.address, path, nil)
	require.NoError(t, s.send(2, 3), "the first attempt reaches it")
	require.Len(t, c.records(t), 2)
}

// TestDeadline sends to somebody who does not answer.
func TestDeadline(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer l.Close()
	s := sinktest.Open(t, Open, Options{Address: l.Addr().String()})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, s.Send(ctx, nil, 0), "DeadlineExceeded")
}

// TestRejected sends what the collector cannot read.
func TestRejected(t *testing.T) {
	c := startCollector(t, "localhost:0", flows(t), nil)
	s := sinktest.Open(t, Open, Options{Address: c.address})
	bad := []byte{0x0a, 0x04, 0x3a, 0x02, 0x18, 0x80} // not whole
	err := s.Send(context.Background(), bad, 1)
	require.Error(t, err)
	bad = []byte{0x0a, 0x05, 0x3a, 0x03, 0x18, 0x80, 0x02} // protocol 256
	err = s.Send(context.Background(), bad, 1)
	require.ErrorIs(t, err, export.ErrRejected)
	require.ErrorContains(t, err, "entries[0].transport.protocol: 256; want at most 255")
	require.Equal(t, uint64(1), c.stop().Refused)
}

// TestReconnect replaces connections that are old.
func TestReconnect(t *testing.T) {
	c := startCollector(t, "localhost:0", flows(t), nil)
	s := sinktest.Open(t, Open, Options{Address: c.address, Reconnect: time.Minute})
	require.NoError(t, s.send(1, 2))
	require.NoError(t, s.send(2, 3))
	require.Equal(t, int32(1), c.conns.Load())
	left := time.Until(s.until)
	require.Greater(t, left, 50*time.Second)
	require.Less(t, left, 67*time.Second)
	s.until = time.Now().Add(-time.Second)
	require.NoError(t, s.send(3, 4))
	require.Equal(t, int32(2), c.conns.Load())
	require.Len(t, c.records(t), 3)
}

// TestTLS renews all certificates between two connections, with and without certificates of clients.
func TestTLS(t *testing.T) {
	for _, mutual := range []bool{false, true} {
		t.Run(fmt.Sprint("mutual ", mutual), func(t *testing.T) {
			dir := t.TempDir()
			name := func(n string) string { return filepath.Join(dir, n) }
			issue := func() {
				a := certstest.New(t)
				a.Write(t, name("ca"))
				a.Issue(t, name("server"), name("server-key"))
				a.Issue(t, name("client"), name("client-key"))
			}
			issue()
			server := certs.Options{Cert: name("server"), Key: name("server-key")}
			client := certs.Options{CA: name("ca"), ServerName: "localhost"}
			if mutual {
				server.CA = name("ca")
				client.Cert, client.Key = name("client"), name("client-key")
			}
			c := startCollector(t, "127.0.0.1:0", flows(t), &server)
			s := sinktest.Open(t, Open, Options{Address: c.address, TLS: &client, Reconnect: time.Hour})
			for n := range uint64(3) {
				require.NoError(t, s.send(n+1, n+2))
				issue()
				s.until = time.Now()
			}
			plain := sinktest.Open(t, Open, Options{Address: c.address})
			require.Error(t, plain.sendWithin(200*time.Millisecond, 9, 10))
			if mutual {
				stranger := sinktest.Open(t, Open, Options{Address: c.address, TLS: &certs.Options{CA: name("ca")}})
				require.Error(t, stranger.sendWithin(200*time.Millisecond, 9, 10))
			}
			require.Len(t, c.records(t), 3)
		})
	}
}

func TestCheck(t *testing.T) {
	for want, o := range map[string]Options{
		`address: ""; want host:port`:    {},
		`address: "host"; want`:          {Address: "host"},
		`address: "host:"; want`:         {Address: "host:"},
		"reconnect: -1s; want 0 or more": {Address: "a:1", Reconnect: -time.Second},
		"tls: cert and key":              {Address: "a:1", TLS: &certs.Options{Cert: "x"}},
	} {
		require.ErrorContains(t, o.Check(), want)
	}
	_, err := Open(Options{Address: "a:1", TLS: &certs.Options{CA: "/nowhere"}})
	require.ErrorContains(t, err, "tls: ca: open /nowhere")
}

func TestNoAllocation(t *testing.T) {
	s := sinktest.Open(t, Open, Options{Address: "localhost:1"})
	r, b := record(1), make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Append(b, flow.Report{Record: &r}, 1) }))
}
