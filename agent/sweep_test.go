package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// stage is an agent on the far end of a pair, with a virtual clock.
type stage struct {
	*pair
	agent  *Agent
	ledger *ledger
}

const startTime = int64(time.Second)

func newStage(t testing.TB, change func(*Config)) *stage {
	t.Helper()
	s := &stage{pair: newPair(t), ledger: newLedger()}
	cfg := DefaultConfig()
	cfg.Interfaces = []Interface{{Name: farName, Namespace: s.far, As: "far"}}
	cfg.Table.Size = 64
	cfg.Clock = Clock{Virtual: true, Start: startTime}
	if change != nil {
		change(&cfg)
	}
	var err error
	s.agent, err = New(cfg, Options{Sink: s.ledger})
	require.NoError(t, err)
	t.Cleanup(func() {
		if !s.agent.stopped {
			s.ledger.fail = nil
			require.NoError(t, s.agent.stop())
		}
	})
	return s
}

// at moves the clock to a time after the start, and sweeps.
func (s *stage) at(t testing.TB, after time.Duration) {
	t.Helper()
	require.NoError(t, s.agent.SetClock(startTime+int64(after)))
}

// news lists the records since the last call: "source port > destination port: packets + those
// before, state, reason".
func (s *stage) news() []string {
	var all []string
	for _, r := range s.ledger.records {
		all = append(all, fmt.Sprintf("%d>%d: %d+%d %s %s", r.SrcPort, r.DstPort, r.Packets,
			r.PacketsBefore, r.State, r.Reason))
	}
	s.ledger.records = nil
	slices.Sort(all)
	return all
}

// balanced checks the first law at the end of a test, when the agent has stopped.
func (s *stage) balanced(t testing.TB) {
	t.Helper()
	c := s.counters(t)
	require.NoError(t, s.agent.stop())
	require.Equal(t, c.Accounted, s.ledger.sum, "accounted, and the sum of all records")
}

func (s *stage) counters(t testing.TB) bpf.Counters {
	t.Helper()
	c, err := s.agent.Counters()
	require.NoError(t, err)
	return c.Hooks[0].Counters
}

func TestDeltas(t *testing.T) {
	s := newStage(t, func(c *Config) {
		c.Lifetimes = map[string]time.Duration{"unreplied": 10 * time.Minute}
	})
	frame := s.udp(t, 1000, 53, 0)
	s.send(t, frame, frame, frame)
	s.at(t, 59*time.Second)
	require.Empty(t, s.news(), "before the active reporting interval has passed")
	s.at(t, time.Minute)
	require.Equal(t, []string{"1000>53: 3+0 unreplied active"}, s.news())

	s.send(t, frame, frame)
	s.at(t, 119*time.Second)
	require.Empty(t, s.news())
	s.at(t, 120*time.Second)
	require.Equal(t, []string{"1000>53: 2+3 unreplied active"}, s.news())

	s.at(t, 10*time.Minute)
	require.Empty(t, s.news(), "nothing new, nothing ended")
	s.at(t, 12*time.Minute)
	require.Equal(t, []string{"1000>53: 0+5 unreplied idle"}, s.news(), "the end is told")
	require.Empty(t, s.ledger.wrong)
	s.balanced(t)
	require.Empty(t, s.news())
}

// TestReplacedWhileReported lets a packet replace a connection in the instants in which user space
// has written a record and the datapath does not know it yet.
func TestReplacedWhileReported(t *testing.T) {
	tests := []struct {
		name   string
		flush  int // which Flush of the sweep the packet comes before
		after  time.Duration
		expect []string
	}{
		{"before it is acknowledged", 1, time.Minute, []string{
			"1000>80: 0+2 syn-sent end-detected",
			"1000>80: 1+0 syn-sent forced",
			"1000>80: 2+0 syn-sent active",
		}},
		{"before it is deleted", 2, 10 * time.Minute, []string{
			"1000>80: 1+0 syn-sent forced",
			"1000>80: 2+0 syn-sent idle",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t, nil)
			syn := s.tcp(t, 1000, 80, "S", 1, 0)
			s.send(t, syn, syn)
			flushed := 0
			s.ledger.fail = func() error {
				if flushed++; flushed == test.flush {
					s.send(t, s.tcp(t, 1000, 80, "S", 2, 0))
				}
				return nil
			}
			s.at(t, test.after)
			s.ledger.fail = nil
			s.balanced(t)
			require.Equal(t, test.expect, s.news())
			require.Empty(t, s.ledger.wrong)
		})
	}
}

// TestRetiredIsRevived sends a packet to a connection that is retired and not read yet.
func TestRetiredIsRevived(t *testing.T) {
	s := newStage(t, nil)
	frame := s.udp(t, 1000, 53, 0)
	s.send(t, frame, frame)
	flushed := 0
	s.ledger.fail = func() error {
		if flushed++; flushed == 1 { // walk has found it expired; a packet finds it so too
			s.send(t, frame)
		}
		return nil
	}
	s.at(t, time.Hour)
	s.ledger.fail = nil
	require.Equal(t, []string{"1000>53: 2+0 unreplied idle"}, s.news())
	s.balanced(t)
	require.Equal(t, []string{"1000>53: 1+0 unreplied forced"}, s.news())
}

func TestOverflowIsAddedUp(t *testing.T) {
	s := newStage(t, func(c *Config) { c.Table.Size = 1 })
	s.send(t, s.udp(t, 1, 53, 0)) // takes the only place
	back := *s.pair
	back.nearIP, back.farIP = s.farIP, s.nearIP
	s.send(t, s.udp(t, 2, 53, 0), s.tcp(t, 3, 80, "S", 1, 0), s.udp(t, 2, 53, 100),
		back.udp(t, 53, 2, 0), s.tcp(t, 3, 80, "A", 2, 1))
	s.at(t, time.Second)
	var bytes uint64
	for _, r := range s.ledger.records {
		if r.SrcPort == 2 {
			bytes = r.Bytes
		}
		if r.SrcPort == 3 {
			require.Equal(t, flow.SYN|flow.ACK, r.Flags)
		}
		require.Equal(t, flow.RoleUnknown, r.Role)
	}
	require.Equal(t, uint64(2*42+100), bytes)
	require.Equal(t, []string{
		"2>53: 2+0 none lack-of-resources",
		"3>80: 2+0 none lack-of-resources",
		"53>2: 1+0 none lack-of-resources",
	}, s.news())
	s.at(t, 2*time.Second)
	require.Empty(t, s.news(), "each sweep starts a new sum")
	s.balanced(t)
}

func TestRejectIsCountedAsLost(t *testing.T) {
	s := newStage(t, func(c *Config) { c.Table = Table{Size: 1, Full: "reject"} })
	s.send(t, s.udp(t, 1, 53, 0), s.udp(t, 2, 53, 0), s.udp(t, 2, 53, 0))
	c := s.counters(t)
	require.Equal(t, bpf.Count{Packets: 2, Bytes: 84}, c.Lost["table-full"])
	require.Equal(t, bpf.Count{Packets: 3, Bytes: 126}, c.Seen)
	s.balanced(t)
}

// TestStop has one connection that lives, one that has expired and one that was reset and has
// expired, none of them swept.
func TestStop(t *testing.T) {
	s := newStage(t, nil)
	s.send(t, s.tcp(t, 1, 80, "S", 1, 0), s.udp(t, 2, 53, 0),
		s.tcp(t, 3, 80, "S", 1, 0), s.tcp(t, 3, 80, "R", 2, 0))
	s.tick(t, 31*time.Second)
	s.balanced(t)
	require.Equal(t, []string{
		"1>80: 1+0 syn-sent forced",
		"2>53: 1+0 unreplied idle",
		"3>80: 2+0 reset end-detected",
	}, s.news())
	require.EqualError(t, s.agent.Sweep(), "the agent has stopped")
	require.ErrorContains(t, s.agent.SetClock(time.Hour.Nanoseconds()), "the agent has stopped")
}

// tick moves the clock without a sweep.
func (s *stage) tick(t testing.TB, after time.Duration) {
	t.Helper()
	s.agent.now = startTime + int64(after)
	require.NoError(t, s.agent.dp.SetNow(s.agent.now))
}

// TestStopBeforeTheTick stops when a connection has expired by the agent's clock and not by the
// datapath's, which is coarse and may be a tick behind.
func TestStopBeforeTheTick(t *testing.T) {
	s := newStage(t, nil)
	s.send(t, s.udp(t, 2, 53, 0))
	s.tick(t, 30*time.Second)
	s.agent.now++
	s.balanced(t)
	require.Equal(t, []string{"2>53: 1+0 unreplied idle"}, s.news())
}

// TestFailingSink lets each Flush of a sweep fail once, and with it all that was written since the
// one before: the next sweep reports it again, with the same packets_before.
func TestFailingSink(t *testing.T) {
	for fails := 1; fails <= 2; fails++ {
		t.Run(fmt.Sprintf("flush %d", fails), func(t *testing.T) {
			s := newStage(t, nil)
			s.send(t, s.tcp(t, 1, 80, "S", 1, 0), s.udp(t, 2, 53, 0))
			broken := errors.New("no space left")
			flushed, safe := 0, 0
			s.ledger.fail = func() error {
				if flushed++; flushed == fails {
					s.ledger.records = s.ledger.records[:safe]
					return broken
				}
				safe = len(s.ledger.records)
				return nil
			}
			require.ErrorIs(t, s.agent.SetClock(startTime+int64(time.Minute)), broken)
			require.NoError(t, s.agent.Sweep())
			require.NoError(t, s.agent.stop())
			require.Equal(t, []string{
				"1>80: 0+1 syn-sent forced",
				"1>80: 1+0 syn-sent active",
				"2>53: 1+0 unreplied idle",
			}, s.news())
		})
	}
}

func TestClock(t *testing.T) {
	s := newStage(t, nil)
	s.at(t, time.Second)
	require.ErrorContains(t, s.agent.SetClock(startTime), "lies before")
	s.agent.cfg.Clock.Virtual = false
	require.ErrorContains(t, s.agent.SetClock(startTime), "no virtual clock")
	s.agent.cfg.Clock.Virtual = true
}

func TestConnections(t *testing.T) {
	s := newStage(t, nil)
	s.send(t, s.udp(t, 2000, 53, 8))
	s.tick(t, 31*time.Second)
	all, err := s.agent.Connections()
	require.NoError(t, err)
	require.Len(t, all, 1)
	e := all[0]
	require.True(t, e.Expired)
	require.Equal(t, 31*time.Second, e.Idle)
	require.Equal(t, 30*time.Second, e.Lifetime)
	require.Equal(t, "10.0.0.1:2000", endpoint(e.Src, e.SrcPort))
	require.Equal(t, []flow.Hook{{Namespace: "far", Interface: farName, Direction: flow.Ingress}},
		e.Forward.Seen)
	require.Equal(t, uint64(50), e.Forward.Bytes)
	require.Zero(t, e.Reverse)
}
