package bpf

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sweeps runs a test with each way to go through the tables.
func sweeps(t *testing.T, test func(t *testing.T, d *Datapath)) {
	t.Helper()
	for _, sweep := range []string{SweepScan, SweepBatch} {
		t.Run(sweep, func(t *testing.T) {
			if sweep == SweepScan && !probe().ForEach {
				t.Skip("bpf_for_each_map_elem needs 5.13")
			}
			test(t, load(t, Options{Sweep: sweep, Table: 4 * WorkItems}))
		})
	}
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

// fill puts connections into the table without packets.
func fill(t testing.TB, d *Datapath, n int) {
	t.Helper()
	keys, values := make([]weirKey4, n), make([]weirConn4, n)
	for i := range keys {
		keys[i] = weirKey4{Addr: [2]uint32{uint32(i), 1}, Proto: 17}
		values[i].Key, values[i].Id = keys[i], uint64(i+1)
		values[i].Leg[0].Packets = 1
	}
	_, err := d.objs.Conns4.BatchUpdate(keys, values, nil)
	require.NoError(t, err)
}

// TestPassInSlices has more connections than one slice shows.
func TestPassInSlices(t *testing.T) {
	sweeps(t, func(t *testing.T, d *Datapath) {
		const n = 3*WorkItems + 1
		fill(t, d, n)
		flows := map[uint64]bool{}
		slices := 0
		p := d.Pass(Wanted{All: true})
		for more := true; more; slices++ {
			in := 0
			var err error
			more, err = p.Next(Show{Entry: func(e *Entry) error {
				in++
				flows[e.Flow] = true
				return nil
			}})
			require.NoError(t, err)
			require.LessOrEqual(t, in, WorkItems)
		}
		require.Len(t, flows, n, "each once")
		require.GreaterOrEqual(t, slices, 4)
	})
}

func TestSweepIsChecked(t *testing.T) {
	_, err := Load(Options{Sweep: "slowly"})
	require.ErrorContains(t, err, `sweep: "slowly"`)
	_, err = scansTables(&Options{Sweep: SweepScan}, Probes{})
	require.ErrorContains(t, err, "5.13")
	scans, err := scansTables(&Options{Table: maxScanned + 1}, Probes{ForEach: true})
	require.NoError(t, err)
	require.False(t, scans, "a scan of a large table would take too long")
}

// BenchmarkScan measures the longest time for which a sweep stays in the kernel: a full table of the
// largest size that is scanned, all of it wanted.
func BenchmarkScan(b *testing.B) {
	for _, n := range []int{maxScanned, 2 * maxScanned, 4 * maxScanned} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, err := Load(Options{Sweep: SweepScan, Table: n, Virtual: true})
			require.NoError(b, err)
			defer d.Close()
			fill(b, d, n)
			var longest time.Duration
			for b.Loop() {
				begin := time.Now()
				found, held, err := d.scan(4, Wanted{All: true})
				longest = max(longest, time.Since(begin))
				require.NoError(b, err)
				require.Len(b, found, n)
				require.Equal(b, n, held)
			}
			b.ReportMetric(float64(longest.Microseconds()), "us-longest")
		})
	}
}
