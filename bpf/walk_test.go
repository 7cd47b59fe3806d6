package bpf

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

// sweeps runs a test with each way to go through the tables.
func sweeps(t *testing.T, test func(t *testing.T, d *Datapath)) {
	t.Helper()
	for _, sweep := range []string{SweepIter, SweepBatch} {
		t.Run(sweep, func(t *testing.T) {
			test(t, load(t, Options{Sweep: sweep, Table: 16 * WorkItems}))
		})
	}
}

// TestSweepIsWhatWasAsked checks that the two ways are two: each loads what it needs alone.
func TestSweepIsWhatWasAsked(t *testing.T) {
	require.Nil(t, load(t, Options{Sweep: SweepBatch}).iter)
	d := load(t, Options{Sweep: SweepIter})
	require.Equal(t, d.Probes.NoIterator == nil, d.iter != nil, "there is one, or a reason why not")
}

// shown lists source ports: what a pass shows, and what it says has expired.
func shown(t *testing.T, d *Datapath, want Wanted) (live []uint16, ended []uint64) {
	t.Helper()
	p := d.Pass(want)
	for more := true; more; {
		var err error
		more, err = p.Next(Show{
			Entry:   func(e *Entry) error { live = append(live, e.Port[e.Initiator]); return nil },
			Expired: func(k Key) { ended = append(ended, k.Flow) },
		})
		require.NoError(t, err)
	}
	slices.Sort(live)
	return live, ended
}

func TestPass(t *testing.T) {
	sweeps(t, func(t *testing.T, d *Datapath) {
		for port := range uint16(3) {
			send(t, d, 1, udp6(t, "2001:db8::1", "2001:db8::2", 100+port, 53))
		}
		now := 2 * second
		require.NoError(t, d.SetNow(now))
		send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0))
		all := entries(t, d)
		require.Len(t, all, 4)
		tcpPort := all[slices.IndexFunc(all, func(e Entry) bool { return e.Family == 4 })].Port
		live, ended := shown(t, d, Wanted{Now: now})
		require.Len(t, live, 4, "all have counted")
		require.Empty(t, ended)

		live, _ = shown(t, d, Wanted{Now: now, Active: second / 2})
		require.Equal(t, []uint16{100, 101, 102}, live, "began long enough ago")

		var marks []Mark
		for _, e := range all {
			if e.Family == 6 {
				marks = append(marks, Mark{Key: e.Key(), At: now,
					Reported: [2]Count{e.Legs[0].Count, e.Legs[1].Count}})
			}
		}
		require.NoError(t, d.Acknowledge(marks))
		live, _ = shown(t, d, Wanted{Now: now})
		require.Len(t, live, 1)
		require.Contains(t, tcpPort, live[0], "the others have nothing new")

		live, ended = shown(t, d, Wanted{Now: second + int64(lifetime) + 1})
		require.Len(t, live, 1)
		require.Len(t, ended, 3)
		live, ended = shown(t, d, Wanted{Now: second + int64(lifetime) + 1, All: true})
		require.Len(t, live, 1)
		require.Len(t, ended, 3)
	})
}

// fill puts connections into the table without packets, from the first-th on.
func fill(t testing.TB, d *Datapath, first, n int) {
	t.Helper()
	keys, values := make([]weirKey4, n), make([]weirConn4, n)
	for i := range keys {
		keys[i] = weirKey4{Addr: [2]uint32{uint32(first + i), 1}, Proto: 17}
		values[i].Key, values[i].Id = keys[i], uint64(first+i)
		values[i].Leg[0].Packets = 1
	}
	_, err := d.objs.Conns4.BatchUpdate(keys, values, nil)
	require.NoError(t, err)
}

// TestPassInSlices has more connections than one slice shows. Between two slices those that were
// shown go, and others come.
func TestPassInSlices(t *testing.T) {
	sweeps(t, func(t *testing.T, d *Datapath) {
		const n = 12*WorkItems + 1
		fill(t, d, 1, n)
		flows := map[uint64]bool{}
		slices := 0
		p := d.Pass(Wanted{All: true})
		for more := true; more; slices++ {
			var in []weirKey4
			var err error
			more, err = p.Next(Show{Entry: func(e *Entry) error {
				require.False(t, flows[e.Flow], "shown twice")
				flows[e.Flow] = true
				in = append(in, *(*weirKey4)(unsafe.Pointer(&e.key)))
				return nil
			}})
			require.NoError(t, err)
			require.LessOrEqual(t, len(in), WorkItems)
			_, err = d.objs.Conns4.BatchDelete(in, nil)
			require.NoError(t, err)
			fill(t, d, n+1+slices*WorkItems, len(in))
		}
		for flow := range uint64(n) {
			require.True(t, flows[flow+1], "flow %d was not shown", flow+1)
		}
		require.Greater(t, slices, 12)
	})
}

// TestHeld counts what is in the tables, also what is not wanted. Milestones are nobody's.
func TestHeld(t *testing.T) {
	const size = 2 * manyBuckets
	require.Positive(t, milestones(size))
	for _, sweep := range []string{SweepIter, SweepBatch} {
		t.Run(sweep, func(t *testing.T) {
			d := load(t, Options{Sweep: sweep, Table: size})
			const n = 3 * chunk
			fill(t, d, 1, n)
			for _, all := range []bool{true, false} {
				shown := 0
				p := d.Pass(Wanted{All: all, Active: 1 << 40})
				for more := true; more; {
					var err error
					more, err = p.Next(Show{Entry: func(*Entry) error { shown++; return nil }})
					require.NoError(t, err)
				}
				require.Equal(t, n*int(bit(all)), shown)
				require.Equal(t, n, p.Held(4))
				require.Zero(t, p.Held(6))
			}
		})
	}
}

// TestEmptyKeepsMilestones empties a table that needs them.
func TestEmptyKeepsMilestones(t *testing.T) {
	const size = 2 * manyBuckets
	d := load(t, Options{Table: size})
	fill(t, d, 1, 10)
	require.NoError(t, d.Empty())
	for _, table := range []*ebpf.Map{d.objs.Conns4, d.objs.Conns6} {
		all := table.Iterate()
		key, value, n := make([]byte, table.KeySize()), make([]byte, table.ValueSize()), 0
		for all.Next(&key, &value) {
			n++
		}
		require.NoError(t, all.Err())
		require.Equal(t, milestones(size), n)
	}
}

func TestSweepIsChecked(t *testing.T) {
	_, err := Load(Options{Sweep: "slowly"})
	require.ErrorContains(t, err, `sweep: "slowly"`)
}
