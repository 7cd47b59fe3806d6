package agent

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// TestCollectShowsSurvivors: each entry is either removed or shown.
func TestCollectShowsSurvivors(t *testing.T) {
	s := newStage(t, nil)
	(&served{stage: s}).few(t)
	s.tick(t, 11*time.Second)
	var live []uint16
	done, err := s.agent.Collect(conntrack.Collection{Expired: true, Survivor: func(e *conntrack.Entry) {
		live = append(live, e.SrcPort)
	}})
	require.NoError(t, err)
	slices.Sort(live)
	require.Equal(t, []uint16{1000, 2000, 3000}, live)
	require.Equal(t, 3, done.Alive)
	s.balanced(t)
}

// TestCollectMeetsPacket lets a packet replace a connection while it is removed: it is left alone.
func TestCollectMeetsPacket(t *testing.T) {
	s := newStage(t, nil)
	s.send(t, s.tcp(t, 1, 80, "S", 1, 0), s.tcp(t, 2, 80, "S", 1, 0))
	flushed := 0
	s.ledger.fail = func() error {
		if flushed++; flushed == 1 { // after the last records of both, before they are deleted
			s.send(t, s.tcp(t, 2, 80, "S", 9, 0))
		}
		return nil
	}
	done, err := s.agent.Collect(conntrack.Collection{Filter: &conntrack.Filter{}})
	require.NoError(t, err)
	s.ledger.fail = nil
	require.EqualValues(t, 2, done.Removed())
	require.Equal(t, []string{"1>80: 1+0 syn-sent forced", "2>80: 1+0 syn-sent forced"}, s.news())
	all, err := s.agent.Connections()
	require.NoError(t, err)
	require.Len(t, all, 1, "the one that the packet has opened")
	s.balanced(t)
	require.Equal(t, []string{"2>80: 1+0 syn-sent forced"}, s.news())
}

// TestCollectWithFailingSink: what could not be reported stays, and is reported later.
func TestCollectWithFailingSink(t *testing.T) {
	s := newStage(t, nil)
	s.send(t, s.tcp(t, 1, 80, "S", 1, 0))
	s.ledger.fail = func() error { s.ledger.records = nil; return errBroken }
	_, err := s.agent.Collect(conntrack.Collection{Filter: &conntrack.Filter{}})
	require.ErrorIs(t, err, errBroken)
	s.ledger.fail = nil
	stats, err := s.agent.TableStats(false)
	require.NoError(t, err)
	require.Empty(t, stats.Ended)
	require.NoError(t, s.agent.stop())
	require.Equal(t, []string{"1>80: 1+0 syn-sent forced"}, s.news())
}

// TestRemoveFoldsSlots: what CPUs have counted beside the table is shown and reported in full.
func TestRemoveFoldsSlots(t *testing.T) {
	s := newServed(t, func(c *Config) { c.FastPath.After = 2 })
	frames := make([][]byte, 100)
	for i := range frames {
		frames[i] = s.udp(t, 1000, 53, 40) // shorter ones do not take the short way
	}
	s.send(t, frames...)
	v4, _ := s.agent.dp.Tables()
	key, raw := make([]byte, v4.KeySize()), make([]byte, v4.ValueSize())
	it := v4.Iterate()
	require.True(t, it.Next(&key, &raw))
	const legPackets = 16 + 16 // behind the key, flow id, lock and state: leg 0
	require.Less(t, binary.LittleEndian.Uint64(raw[legPackets:])+binary.LittleEndian.Uint64(raw[legPackets+48:]), uint64(100))

	require.Contains(t, s.ct(t, "get", "udp", "10.0.0.1:1000", "10.0.0.2:53"), "  100 ")
	s.send(t, frames...)
	require.Contains(t, s.ct(t, "delete", "udp", "10.0.0.1:1000", "10.0.0.2:53"), "1 forced")
	require.Equal(t, []string{"1000>53: 200+0 unreplied forced"}, s.news())
	s.send(t, frames...)
	require.Contains(t, s.ct(t, "flush", "--all"), "1 forced")
	require.Equal(t, []string{"1000>53: 100+0 unreplied forced"}, s.news())
	s.balanced(t)
	require.Empty(t, s.ledger.wrong)
}

// TestRemoveUnderLoad removes connections while two CPUs send on them: every packet is in one record.
func TestRemoveUnderLoad(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.FastPath.After = 2
	sink := newLedger()
	a, err := New(cfg, Options{Sink: sink})
	require.NoError(t, err)
	load := p.flood(t, 50)
	removed, met, rounds := uint64(0), 0, 0
	eventually(t, "packets to come for what is being removed", func() bool {
		for _, c := range []conntrack.Collection{
			{Filter: &conntrack.Filter{Ports: []uint16{1024, 1030, 1050}}},
			{Filter: &conntrack.Filter{}},
			{Expired: true, Ahead: time.Hour},
		} {
			done, err := a.Collect(c)
			require.NoError(t, err)
			removed += done.Removed()
			met += done.Skipped
		}
		require.NoError(t, a.Sweep())
		rounds++
		return rounds >= 30 && met > 0
	})
	load.end(t)
	require.NoError(t, transmit(p.socket(t), p.udp(t, 1024, 53, 0)))
	eventually(t, "a connection to be removed for which no packet comes any more", func() bool {
		done, err := a.Collect(conntrack.Collection{Filter: &conntrack.Filter{}})
		require.NoError(t, err)
		removed += done.Removed()
		return done.Removed() > 0
	})
	counters, err := a.Counters()
	require.NoError(t, err)
	stats, err := a.TableStats(false)
	require.NoError(t, err)
	require.GreaterOrEqual(t, stats.Ended[flow.EndForced], removed)
	require.NoError(t, a.stop())
	require.Empty(t, sink.wrong)
	var accounted, seen bpf.Count
	for i := range counters.Hooks {
		accounted.Add(counters.Hooks[i].Accounted)
		seen.Add(counters.Hooks[i].Seen)
	}
	require.Equal(t, seen, accounted)
	require.Equal(t, accounted, sink.sum, "accounted, and the sum of all records")
}
