package agent

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf"
)

// TestTwoAgents has two agents, with nothing in common, on one interface. With links both see everything,
// whoever comes and goes; a tc filter is one agent's alone.
func TestTwoAgents(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		start := func() (*Agent, *ledger, error) {
			l := newLedger()
			a, err := New(cfg, Options{Sink: l})
			return a, l, err
		}
		first, had, err := start()
		require.NoError(t, err)
		second, has, err := start()
		if mode == bpf.TC {
			require.ErrorIs(t, err, bpf.ErrGuarded)
			require.Equal(t, ours(mode), p.attached(t))
		} else {
			require.NoError(t, err)
		}
		p.send(t, p.udp(t, 1, 2, 0))
		settled(t, p, first, 1)
		require.NoError(t, first.stop())
		require.Equal(t, uint64(1), had.sum.Packets)
		want := uint64(2)
		if mode == bpf.TC {
			want--
			second, has, err = start()
			require.NoError(t, err, "the first one has let go of it")
		}
		p.send(t, p.udp(t, 1, 2, 0))
		eventually(t, "the packets to pass the hook", func() bool { return sumOf(t, second).Seen.Packets == want })
		require.NoError(t, second.stop())
		require.Equal(t, want, has.sum.Packets)
		require.Empty(t, p.attached(t))
	})
}

// TestDedupeOfTwoAgents has agents at both ends of a link tell one collector of the same packets.
func TestDedupeOfTwoAgents(t *testing.T) {
	p := newPair(t)
	r := newReceiver(t)
	r.dedupe = time.Minute
	stop := r.start(t)
	before := p.received(t)
	var agents []*process
	for address, at := range map[string]Interface{
		"192.0.2.1": {Name: nearName, Namespace: p.near}, "192.0.2.2": {Name: farName, Namespace: p.far}} {
		cfg := p.watching(t)
		cfg.Interfaces = []Interface{at}
		cfg.Control = filepath.Join(t.TempDir(), "control.sock")
		cfg.Identity.Address = address
		cfg.Output = ""
		cfg.Sinks = []SinkConfig{r.config(t)}
		agents = append(agents, startProcess(t, cfg))
	}
	p.trickle(t)()
	for _, a := range agents {
		a.end(t)
	}
	stop()
	require.Equal(t, p.receivedSince(t, before), delivered(t, r.file))
}
