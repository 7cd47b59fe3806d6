package agent

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

func TestAgeClass(t *testing.T) {
	require.Zero(t, ageClass(-1))
	last := 0
	for idle := int64(0); idle > 0 || last == 0; idle += 1<<(ageTick-1) + idle/200 {
		class := ageClass(idle)
		require.GreaterOrEqual(t, class, last)
		require.LessOrEqual(t, class-last, 1, "a class in between is never used: %d", idle)
		last = class
		longer := idle + idle/16 + 1<<ageTick
		require.True(t, longer < 0 || ageClass(longer) > class, "%d and %d are alike", idle, longer)
	}
	require.Equal(t, ageClasses-1, ageClass(math.MaxInt64))
}

// TestQuota takes as many as are asked for, and the oldest.
func TestQuota(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var a ages
		idle := make([]int64, r.IntN(50))
		for i := range idle {
			idle[i] = r.Int64N(20) << ageTick
			a.count[ageClass(idle[i])]++
		}
		n := r.IntN(60) - 5
		q := a.oldest(n)
		require.Equal(t, n > len(idle), q == everyone)
		youngest, kept, taken := int64(1<<62), int64(0), 0
		for _, d := range idle {
			if q.take(d) {
				taken++
				youngest = min(youngest, d)
			} else {
				kept = max(kept, d)
			}
		}
		require.Equal(t, max(0, min(n, len(idle))), taken)
		require.GreaterOrEqual(t, youngest, kept)
	}
}

// evicting is a stage whose table of ten is full of datagrams nobody has answered, each a second
// younger than the one before: 1 to 10. Two more, 11 and 12, found no room.
func evicting(t *testing.T, sweep string) *stage {
	t.Helper()
	s := newStage(t, func(c *Config) {
		c.Table, c.Sweep = Table{Size: 10, Full: fullEvict}, sweep
		c.Lifetimes = map[string]time.Duration{"unreplied": time.Hour}
	})
	for port := range uint16(12) {
		s.send(t, s.udp(t, 1+port, 53, 0))
		s.tick(t, time.Duration(port+1)*time.Second)
	}
	return s
}

func TestEvict(t *testing.T) {
	for _, sweep := range []string{"", bpf.SweepBatch} {
		t.Run(sweep, func(t *testing.T) {
			s := evicting(t, sweep)
			s.at(t, 20*time.Second)
			require.Equal(t, []string{"11>53: 1+0 none lack-of-resources", "12>53: 1+0 none lack-of-resources",
				"1>53: 1+0 unreplied lack-of-resources"}, s.news())
			s.at(t, 21*time.Second)
			require.Empty(t, s.news(), "nine of ten are few enough")
			// 2 is answered, 3 is renewed, 13 takes the place.
			back := *s.pair
			back.nearIP, back.farIP = s.farIP, s.nearIP
			s.send(t, back.udp(t, 53, 2, 0), s.udp(t, 3, 53, 0), s.udp(t, 13, 53, 0))
			s.at(t, 22*time.Second)
			require.Equal(t, []string{"4>53: 1+0 unreplied lack-of-resources"}, s.news())
			s.at(t, 2*time.Minute)
			require.Len(t, s.news(), 10, "the others live")
			require.Empty(t, s.ledger.wrong)
			s.balanced(t)
		})
	}
}

// TestEvictSparesTheAnswered has nobody to evict, and does not ask to be woken for it.
func TestEvictSparesTheAnswered(t *testing.T) {
	s := newStage(t, func(c *Config) { c.Table = Table{Size: 2, Full: fullEvict} })
	require.True(t, s.agent.sweeper.armed)
	back := *s.pair
	back.nearIP, back.farIP = s.farIP, s.nearIP
	for port := range uint16(3) {
		s.send(t, s.udp(t, 1+port, 53, 0), back.udp(t, 53, 1+port, 0))
	}
	s.at(t, time.Second)
	require.Equal(t, []string{"3>53: 1+0 none lack-of-resources", "53>3: 1+0 none lack-of-resources"}, s.news())
	require.False(t, s.agent.sweeper.armed)
	s.at(t, time.Hour)
	require.True(t, s.agent.sweeper.armed)
	s.balanced(t)
}

// TestEvictedIsRevived sends a packet to a connection whose last record is written and that is not
// deleted yet: it opens another one in its place.
func TestEvictedIsRevived(t *testing.T) {
	s := evicting(t, "")
	flushed := 0
	s.ledger.fail = func() error {
		if flushed++; flushed == 2 { // 1: what goes on, 2: what is evicted
			s.send(t, s.udp(t, 1, 53, 0))
		}
		return nil
	}
	s.at(t, 20*time.Second)
	s.ledger.fail = nil
	require.Contains(t, s.news(), "1>53: 1+0 unreplied lack-of-resources")
	s.balanced(t)
	require.Contains(t, s.news(), "1>53: 1+0 unreplied forced")
	require.Empty(t, s.ledger.wrong)
}

// floodable is an agent that runs on a datapath with a small ring buffer, and never comes to a
// regular sweep.
type floodable struct {
	*pair
	*ledger
	agent   *Agent
	sent    uint64
	evicted atomic.Int64
	stop    func() // in order
}

// Write counts records of connections that were evicted.
func (r *floodable) Write(f *flow.Record) error {
	if f.Reason == flow.EndResource && f.State == conntrack.StateUnreplied.String() {
		r.evicted.Add(1)
	}
	return r.ledger.Write(f)
}

const (
	smallRing = 64 << 10
	fewPlaces = 64 // of each table
)

func flooded(t *testing.T, full string, listens bool) *floodable {
	t.Helper()
	r := &floodable{pair: newPair(t), ledger: newLedger()}
	cfg := r.watching(t)
	cfg.Table = Table{Size: fewPlaces, Full: full}
	cfg.Interval, cfg.Active = time.Hour, time.Hour
	opts, err := cfg.DatapathOptions()
	require.NoError(t, err)
	opts.Ring = smallRing
	dp, err := bpf.Load(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dp.Close()) })
	r.agent, err = New(cfg, Options{Datapath: dp, Sink: r})
	require.NoError(t, err)
	r.stop = sync.OnceFunc(func() { require.NoError(t, r.agent.stop()) })
	if listens {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.agent.Run(ctx) }()
		r.stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-ended) })
	}
	t.Cleanup(r.stop) // before the datapath closes, also when the test has failed
	return r
}

// flood sends n datagrams as fast as it can, of 1024 tuples in turn.
func (r *floodable) flood(t *testing.T, fd, n int) {
	t.Helper()
	const sport = 14 + 20 // offset of the UDP header; its checksum is not looked at
	frame := r.udp(t, 0, 53, 0)
	for range n {
		binary.BigEndian.PutUint16(frame[sport:], uint16(1024+r.sent%1024))
		require.NoError(t, transmit(fd, frame))
		r.sent++
	}
}

func (r *floodable) counters(t *testing.T) (at bpf.Counters, reported bpf.Count) {
	t.Helper()
	c, err := r.agent.Counters()
	require.NoError(t, err)
	return c.Hooks[0].Counters, c.Reported
}

// balance stops the agent and checks the first law. It returns how many packets were lost.
func (r *floodable) balance(t *testing.T) uint64 {
	t.Helper()
	c := settled(t, r.pair, r.agent, r.sent)
	r.stop()
	require.Equal(t, r.sent, c.Seen.Packets)
	require.Equal(t, c.Seen.Packets, c.Accounted.Packets+c.Lost["table-full"].Packets+c.Lost["ring-full"].Packets)
	require.Equal(t, c.Accounted, r.ledger.sum, "accounted, and the sum of all records")
	require.Empty(t, r.ledger.wrong)
	return c.Lost["table-full"].Packets
}

// TestEventsAreReadBetweenSweeps floods a full table and a small ring buffer. An agent that listens
// reads events although no sweep is due, and loses less for it.
func TestEventsAreReadBetweenSweeps(t *testing.T) {
	const least, part = 50000, 1000
	r := flooded(t, fullOverflow, true)
	fd := r.socket(t)
	eventually(t, "events to be read many times while packets come", func() bool {
		r.flood(t, fd, part)
		_, reported := r.counters(t)
		return r.sent >= least && reported.Packets > smallRing/100
	})
	lost := r.balance(t)

	deaf := flooded(t, fullOverflow, false)
	deaf.flood(t, deaf.socket(t), int(r.sent))
	settled(t, deaf.pair, deaf.agent, deaf.sent)
	_, reported := deaf.counters(t)
	require.Zero(t, reported)
	lostByDeaf := deaf.balance(t)
	t.Logf("%d packets: lost %d, without listening %d", r.sent, lost, lostByDeaf)
	require.Less(t, lost, lostByDeaf)
}

// TestEvictionIsWoken fills the table again and again, while no sweep is due.
func TestEvictionIsWoken(t *testing.T) {
	r := flooded(t, fullEvict, true)
	fd := r.socket(t)
	for round := range int64(3) {
		eventually(t, "sweeps to make room", func() bool {
			r.flood(t, fd, 10)
			return r.evicted.Load() > round*int64(fewPlaces-roomy(fewPlaces))
		})
	}
	r.balance(t)
}
