package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// places is a ledger that knows which legs have had a place in the table.
type places struct {
	*ledger
	legs map[legKey]bool
}

func newPlaces() *places { return &places{newLedger(), map[legKey]bool{}} }

func (p *places) Write(r *flow.Record) error {
	if r.Reason != flow.EndResource {
		p.legs[legOf(r)] = true
	}
	return p.ledger.Write(r)
}

// TestResizeUnderLoad changes the tables' size again and again while two CPUs send as fast as they can:
// every packet that the interface has received is in exactly one record or lost by reason, and where
// there is room the connections keep their flow ids.
func TestResizeUnderLoad(t *testing.T) {
	tests := []struct {
		name   string
		tuples int
		sizes  []int
		full   string
		hook   string
	}{
		{"enough room", 512, []int{2048, 1024, 8192, 4096, 600}, "overflow", ""},
		{"too little room, overflow", 512, []int{64, 1024, 100, 2048, 300}, "overflow", ""},
		{"too little room, reject", 512, []int{64, 1024, 100, 2048, 300}, "reject", ""},
		{"by tc", 512, []int{2048, 1024, 8192, 4096, 600}, "overflow", bpf.TC},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			cfg := DefaultConfig()
			cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far, Hook: test.hook}}
			cfg.Table = Table{Size: 1024, Full: test.full}
			cfg.Lifetimes = map[string]time.Duration{"unreplied": time.Hour}
			l := newPlaces()
			a := newEager(t, cfg, l)
			before := p.received(t)
			f := p.flood(t, test.tuples)
			for _, size := range test.sizes {
				before := f.sent[0].Load()
				eventually(t, "packets to be sent", func() bool { return f.sent[0].Load() > before+2000 })
				resizeAnyway(t, a, size)
				require.Equal(t, size, a.dp.Options().Table)
				require.NoError(t, a.Sweep())
			}
			sent := f.end(t)
			counters := settled(t, p, a, before.Packets+sent)
			require.NoError(t, a.stop())

			want := p.receivedSince(t, before)
			t.Logf("%d records, %v sent, counters %+v", l.written, sent, counters)
			require.Equal(t, want, counters.Seen, "seen at the hook and received by the interface")
			require.Empty(t, l.wrong)
			all := counters.Accounted
			for _, lost := range counters.Lost {
				all.Add(lost)
			}
			require.Equal(t, want, all, "accounted and lost")
			require.Equal(t, counters.Accounted, l.sum, "sum of all records")
			if test.sizes[0] > test.tuples {
				// A packet that meets an entry just being opened may be reported by itself.
				require.Len(t, l.legs, test.tuples, "a flow id for each tuple")
			}
		})
	}
}

// resizeAnyway resizes as the start on an earlier agent's tables does: also when there is too little room.
func resizeAnyway(t testing.TB, a *Agent, entries int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NoError(t, a.dp.Resize(entries, a.sweeper.migration()))
}

// TestResizeWithLiveTCP changes the tables' size while the kernel's own TCP talks on several connections:
// each goes on as it was, in one flow.
func TestResizeWithLiveTCP(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		cfg.Table.Size = 64
		l := newPlaces()
		a, err := New(cfg, Options{Sink: l})
		require.NoError(t, err)
		const connections = 8
		talks := make([]*talk, connections)
		for i := range talks {
			talks[i] = p.converse(t)
		}
		for _, size := range []int{4096, connections, 1024, 16} {
			require.NoError(t, a.Resize(size))
			for _, talk := range talks {
				before := talk.echoed.Load()
				eventually(t, "the connection to go on", func() bool { return talk.echoed.Load() > before+100_000 })
			}
		}
		require.ErrorContains(t, a.Resize(connections-1), "8 IPv4 and 0 IPv6 connections are held; want room for 8")
		require.Equal(t, 16, a.dp.Options().Table)
		for _, talk := range talks {
			talk.end(t)
		}
		require.NoError(t, a.stop())
		require.Empty(t, l.wrong)
		require.Len(t, l.legs, 2*connections, "two legs of each connection")
		closed := 0
		for _, r := range l.records {
			if r.Reason == flow.EndActive {
				continue
			}
			require.Equal(t, "closed", r.State)
			require.Equal(t, flow.FIN|flow.SYN|flow.ACK, r.Flags&(flow.FIN|flow.SYN|flow.RST|flow.ACK))
			closed++
		}
		require.Equal(t, 2*connections, closed)
	})
}

// talk is a TCP connection from the near end to the far one, which echoes.
type talk struct {
	client *net.TCPConn
	echoed atomic.Int64
	stop   atomic.Bool
	done   chan error
}

// converse opens a connection and sends until it is ended.
func (p *pair) converse(t testing.TB) *talk {
	t.Helper()
	var server *net.TCPListener
	inside(t, p.far, func() (err error) {
		server, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: p.farIP})
		return err
	})
	defer server.Close()
	k := &talk{done: make(chan error, 2)}
	inside(t, p.near, func() (err error) {
		k.client, err = net.DialTCP("tcp4", nil, server.Addr().(*net.TCPAddr))
		return err
	})
	t.Cleanup(func() { k.client.Close() })
	peer, err := server.AcceptTCP()
	require.NoError(t, err)
	go func() {
		_, err := io.Copy(peer, peer)
		k.done <- errors.Join(err, peer.Close())
	}()
	go func() { k.done <- k.run() }()
	return k
}

// run sends numbers and checks that they come back.
func (k *talk) run() error {
	sent, got := make([]byte, 8000), make([]byte, 8000)
	for n := byte(0); !k.stop.Load(); n++ {
		for i := range sent {
			sent[i] = n + byte(i)
		}
		if _, err := k.client.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(k.client, got); err != nil {
			return err
		}
		if !bytes.Equal(sent, got) {
			return errors.New("what came back is not what was sent")
		}
		k.echoed.Add(int64(len(got)))
	}
	if err := k.client.CloseWrite(); err != nil {
		return err
	}
	_, err := k.client.Read(got) // the other end closes
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("waiting for the end: %w", err)
	}
	return nil
}

// end closes it in order.
func (k *talk) end(t testing.TB) {
	t.Helper()
	k.stop.Store(true)
	require.NoError(t, <-k.done)
	require.NoError(t, <-k.done)
}

// TestAdoptWithAnotherSize kills agents while two CPUs send, and starts each next one with tables of
// another size.
func TestAdoptWithAnotherSize(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.pinned(t)
		cfg.Interfaces[0].Hook = mode
		agent := startProcess(t, cfg)
		before := p.received(t)
		f := p.flood(t, 64)
		for _, size := range []int{1024, 4096, 100} {
			require.NoError(t, agent.client.Resize(t.Context(), 200), "of a running agent")
			agent.kill(t)
			cfg.Table.Size = size
			agent = startProcess(t, cfg)
			require.Len(t, p.attached(t), 2, "attachments are adopted and not doubled")
		}
		f.end(t)
		want := p.receivedSince(t, before)
		agent.accounts(t, want)
		agent.end(t)
		require.Equal(t, want, delivered(t, cfg.Output))
		require.NoDirExists(t, cfg.Pin)
	})
}

func TestResizeRefuses(t *testing.T) {
	p := newPair(t)
	a, err := New(p.watching(t), Options{})
	require.NoError(t, err)
	require.EqualError(t, a.Resize(0), "table.size: 0; want 1 to 16777216")
	p.send(t, p.udp(t, 1, 53, 0), p.udp(t, 2, 53, 0), p.udp(t, 3, 53, 0))
	require.EqualError(t, a.Resize(2), "resize the connection tables: 3 IPv4 and 0 IPv6 connections are held; "+
		"want room for 3 of each, not 2, or ask again when some have ended")
	require.Equal(t, DefaultConfig().Table.Size, a.dp.Options().Table)
	require.NoError(t, a.Resize(3))
	require.NoError(t, a.stop())
	require.EqualError(t, a.Resize(10), "the agent has stopped")
}

// BenchmarkResizeUnderLoad changes the size of tables that hold half a million connections, while two CPUs
// send as fast as they can. No connection ends by it, and no packet is missing.
func BenchmarkResizeUnderLoad(b *testing.B) {
	const held = 500_000
	p := newPair(b)
	cfg := p.watching(b)
	cfg.Table.Size = held + 10_000
	cfg.Lifetimes = map[string]time.Duration{"unreplied": time.Hour}
	l := newPlaces()
	a, err := New(cfg, Options{Sink: l})
	require.NoError(b, err)
	before := p.received(b)
	p.fill(b, held)
	f := p.flood(b, 512)
	sizes, sent, resizes := []int{2 * held, held + 10_000}, uint64(0), 0
	for b.Loop() {
		before := f.sent[0].Load() + f.sent[1].Load()
		require.NoError(b, a.Resize(sizes[resizes%2]))
		sent += f.sent[0].Load() + f.sent[1].Load() - before
		resizes++
	}
	took := b.Elapsed()
	all := f.end(b)
	counters := settled(b, p, a, before.Packets+held+all)
	require.NoError(b, a.stop())
	want := p.receivedSince(b, before)
	require.Equal(b, want, counters.Seen)
	require.Equal(b, want, counters.Accounted, "nothing is lost")
	require.Equal(b, want, l.sum, "sum of all records")
	require.Empty(b, l.wrong)
	require.Len(b, l.legs, held+512, "each connection has gone on in its flow")
	b.ReportMetric(float64(sent)/took.Seconds(), "packets/s")
	b.ReportMetric(took.Seconds()/float64(resizes), "s/resize")
}

// fill opens n connections with one packet each.
func (p *pair) fill(t testing.TB, n int) {
	t.Helper()
	const ports = 14 + 20 // offset of the UDP header; its checksum is not looked at
	fd, frame := p.socket(t), p.udp(t, 0, 0, 30)
	for i := range n {
		binary.BigEndian.PutUint16(frame[ports:], uint16(i%50_000))
		binary.BigEndian.PutUint16(frame[ports+2:], uint16(100+i/50_000))
		require.NoError(t, transmit(fd, frame))
	}
}
