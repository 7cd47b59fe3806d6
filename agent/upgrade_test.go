package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/relic"
)

// leaveBehind attaches to the far end what a killed agent of an older layout leaves.
func (p *pair) leaveBehind(t testing.TB, pin string, table int) {
	t.Helper()
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	opts := relic.Options{Pin: pin, Table: table, Now: now.Nano(), Overflow: true,
		Lifetimes: slices.Repeat([]time.Duration{time.Hour}, bpf.States)}
	left, err := relic.Leave(opts)
	require.NoError(t, err)
	inside(t, p.far, func() error {
		found, err := ifaces.Find(p.far, farName)
		if err != nil {
			return err
		}
		h := relic.Hook{Number: 1, Interface: found.Index, Namespace: found.Inode}
		if err := left.Attach(h); err != nil {
			return err
		}
		h.Number, h.Egress = 2, true
		return left.Attach(h)
	})
	require.NoError(t, left.Close())
}

// TestUpgradeUnderLoad starts agents on what one of an older layout has left, while two CPUs send: every
// packet that the interface has received, before and after, is in the flow file.
func TestUpgradeUnderLoad(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after int // sizes of the tables
	}{{"same size", 256, 256}, {"smaller", 256, 100}, {"larger, from a full one", 50, 4096}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			cfg := p.pinned(t)
			cfg.Table.Size = test.after
			cfg.Lifetimes = map[string]time.Duration{"unreplied": time.Hour}
			before := p.received(t)
			p.leaveBehind(t, cfg.Pin, test.before)
			f := p.flood(t, 200)
			eventually(t, "packets to be sent", func() bool { return f.sent[0].Load() > 1000 })
			agent := startProcess(t, cfg)
			mode := bpf.TC
			if haveTCX(t) {
				mode = bpf.TCX
			}
			require.Equal(t, ours(mode), p.attached(t), "attachments are taken over and not doubled")
			agent.kill(t)
			agent = startProcess(t, cfg)
			f.end(t)
			want := p.receivedSince(t, before)
			var accounted bpf.Count
			eventually(t, "the last packets to pass the hook", func() bool {
				c, err := agent.client.Counters(t.Context())
				require.NoError(t, err)
				accounted = c.Hooks[0].Accounted
				sum := accounted
				for _, lost := range c.Hooks[0].Lost {
					sum.Add(lost)
				}
				return c.Hooks[0].Seen == want && sum == want
			})
			agent.end(t)
			t.Logf("%d packets, %d accounted", want.Packets, accounted.Packets)
			require.Equal(t, accounted, delivered(t, cfg.Output))
			require.NoDirExists(t, cfg.Pin)
		})
	}
}

// TestUpgradeWithLiveTCP starts an agent on what one of an older layout has left while the kernel's own TCP talks
// on several connections: each goes on as it was, in one flow from its beginning to its end.
func TestUpgradeWithLiveTCP(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	cfg.Table.Size = 1024
	p.leaveBehind(t, cfg.Pin, 64)
	const connections = 8
	talks := make([]*talk, connections)
	for i := range talks {
		talks[i] = p.converse(t)
	}
	l := newPlaces()
	a, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	for _, talk := range talks {
		before := talk.echoed.Load()
		eventually(t, "the connection to go on", func() bool { return talk.echoed.Load() > before+100_000 })
	}
	for _, talk := range talks {
		talk.end(t)
	}
	require.NoError(t, a.stop())
	require.Empty(t, l.wrong)
	require.Len(t, l.legs, 2*connections, "two legs of each connection")
	for _, r := range l.records {
		require.Equal(t, "closed", r.State)
		require.Equal(t, flow.FIN|flow.SYN|flow.ACK, r.Flags&(flow.FIN|flow.SYN|flow.RST|flow.ACK))
	}
	require.NoDirExists(t, cfg.Pin)
}

// TestNewerLayoutIsRefused finds what a newer agent has left, and does not touch it: connections go on as if it had
// not been started.
func TestNewerLayoutIsRefused(t *testing.T) {
	p := newPair(t)
	talk := p.converse(t)
	cfg := p.pinned(t)
	newer := cfg.Pin + "/v99"
	require.NoError(t, unix.Mkdir(cfg.Pin, 0o700))
	require.NoError(t, unix.Mkdir(newer, 0o700))
	_, err := New(cfg, Options{})
	require.ErrorIs(t, err, bpf.ErrLayout)
	require.ErrorContains(t, err, "start the newer agent")
	require.DirExists(t, newer)
	require.Empty(t, p.attached(t))
	before := talk.echoed.Load()
	eventually(t, "the connection to go on", func() bool { return talk.echoed.Load() > before })
	talk.end(t)
}
