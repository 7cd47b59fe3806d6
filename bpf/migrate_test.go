package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// leftover is what a migration has reported.
type leftover struct {
	entries []Entry
	why     []uint8
	fail    error // what Flush answers
}

func (l *leftover) migration(d *Datapath) Migration {
	return Migration{
		Ended: func(e *Entry, why uint8) error {
			l.entries, l.why = append(l.entries, *e), append(l.why, why)
			return nil
		},
		Flush: func() error { return l.fail },
		Drain: func() error {
			err := d.Events(func(e *Event) error {
				l.entries, l.why = append(l.entries, e.Entry), append(l.why, e.End)
				return nil
			})
			if err == nil {
				d.ReleaseEvents()
			}
			return err
		},
	}
}

// total is what all connections in the tables have counted, and those that were reported.
func (l *leftover) total(t testing.TB, d *Datapath) (sum Count) {
	t.Helper()
	for _, all := range [][]Entry{entries(t, d), l.entries} {
		for _, e := range all {
			sum.Add(e.Legs[0].Count)
			sum.Add(e.Legs[1].Count)
		}
	}
	return sum
}

func resize(t testing.TB, d *Datapath, size int) *leftover {
	t.Helper()
	l := &leftover{}
	require.NoError(t, d.Resize(size, l.migration(d)))
	return l
}

// pinFolder is a folder on the BPF file system that goes when the test ends.
func pinFolder(t testing.TB) string {
	t.Helper()
	kerneltest.NeedRoot(t)
	path := filepath.Join("/sys/fs/bpf", "weir-bpf-test-"+strconv.Itoa(os.Getpid()))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(path)) })
	return path
}

func TestResizeKeepsConnections(t *testing.T) {
	for _, pin := range []string{"", pinFolder(t)} {
		d := load(t, Options{Table: 64, Pin: pin})
		send(t, d, 1, tcp(t, client, server, "S", 100, 0, 0))
		send(t, d, 1, tcp(t, server, client, "SA", 500, 101, 0))
		send(t, d, 1, udp6(t, "fd00::1", "fd00::2", 1, 2))
		before := entries(t, d)
		l := resize(t, d, 4096)
		require.Empty(t, l.entries)
		require.ElementsMatch(t, before, entries(t, d))
		require.Equal(t, uint32(4096), d.objs.Conns4.MaxEntries())
		require.Equal(t, 4096, d.Options().Table)
		send(t, d, 1, tcp(t, client, server, "A", 101, 501, 0))
		after := entries(t, d)
		require.Equal(t, established, int(after[0].State))
		require.Equal(t, before[0].Flow, after[0].Flow)
		l = resize(t, d, 64)
		require.Empty(t, l.entries)
		require.ElementsMatch(t, after, entries(t, d))
		require.NoError(t, d.Unpin())
	}
}

func TestShrinkKeepsWhatWasUsedLast(t *testing.T) {
	d := load(t, Options{Table: 256})
	for port := range uint16(200) {
		require.NoError(t, d.SetNow(second+int64(port)))
		send(t, d, 1, tcp(t, endpoint{"10.0.0.1", port + 1}, server, "S", 1, 0, 10))
	}
	want := (&leftover{}).total(t, d)
	l := resize(t, d, 50)
	require.Len(t, l.entries, 150)
	for i := range l.entries {
		require.Equal(t, endNoRoom, l.why[i])
		require.Less(t, l.entries[i].Last(), second+150)
	}
	require.Len(t, entries(t, d), 50)
	require.Equal(t, want, l.total(t, d))
}

func TestMigrationThatFailsGoesOn(t *testing.T) {
	d := load(t, Options{Table: 256, Pin: pinFolder(t)})
	for port := range uint16(200) {
		send(t, d, 1, tcp(t, endpoint{"10.0.0.1", port + 1}, server, "S", 1, 0, 10))
	}
	want := (&leftover{}).total(t, d)
	l := &leftover{fail: errors.New("the disk is full")}
	require.ErrorIs(t, d.Resize(50, l.migration(d)), l.fail)
	l = &leftover{}
	require.NoError(t, d.Migrate(l.migration(d)))
	require.Len(t, entries(t, d), 50)
	require.Len(t, l.entries, 150)
	require.Equal(t, want, l.total(t, d))
}

// TestResizeThatFailsLeavesWhatWasThere cannot put the second table aside.
func TestResizeThatFailsLeavesWhatWasThere(t *testing.T) {
	opts := Options{Table: 64, Slots: 64, SlotAfter: 2, Pin: pinFolder(t)}
	d := load(t, opts)
	count := func(d *Datapath) {
		for range 10 { // as long as the fast path reads
			send(t, d, 1, append(udp6(t, "fd00::1", "fd00::2", 1, 2), make([]byte, 20)...))
		}
	}
	count(d)
	obstacle := d.asidePin(6)
	require.NoError(t, os.Mkdir(obstacle, 0o700))
	require.ErrorContains(t, d.Resize(128, (&leftover{}).migration(d)), "put a table aside: ")
	require.Equal(t, 64, d.Options().Table)
	count(d)
	open, _ := slotsInUse(t, d)
	require.Positive(t, open, "they go on")
	require.NoError(t, os.Remove(obstacle))

	next := load(t, opts) // as after a kill: it finds the tables and the slots
	require.Empty(t, next.sources)
	require.Equal(t, uint64(20), only(t, next).Legs[0].Packets+only(t, next).Legs[1].Packets)
	l := resize(t, next, 128)
	count(next)
	require.Equal(t, uint64(30), l.total(t, next).Packets)
}

type segment struct {
	up       bool
	flags    string
	seq, ack uint32
	payload  int
}

func (s segment) send(t testing.TB, d *Datapath) {
	t.Helper()
	from, to := client, server
	if !s.up {
		from, to = server, client
	}
	send(t, d, 1, tcp(t, from, to, s.flags, s.seq, s.ack, s.payload))
}

// TestMergeIsAsIfNothingHappened lets the tables change between any two packets of a connection, and
// its later packets come in before it is moved: it must become what it becomes without.
func TestMergeIsAsIfNothingHappened(t *testing.T) {
	open := []segment{{true, "S", 100, 0, 0}, {false, "SA", 500, 101, 0}, {true, "A", 101, 501, 0}}
	talks := map[string][]segment{
		"close": append(open[:3:3], segment{true, "A", 101, 501, 120}, segment{true, "FA", 221, 501, 0},
			segment{false, "FA", 501, 222, 0}, segment{true, "A", 222, 502, 0}),
		"half closed": append(open[:3:3], segment{true, "FA", 101, 501, 0}, segment{false, "A", 501, 102, 0},
			segment{false, "A", 501, 102, 700}, segment{true, "A", 102, 1201, 0},
			segment{false, "FA", 1201, 102, 0}, segment{true, "A", 102, 1202, 0}),
		"reset":             append(open[:3:3], segment{true, "A", 101, 501, 10}, segment{false, "R", 501, 0, 0}),
		"simultaneous open": {{true, "S", 100, 0, 0}, {false, "S", 500, 0, 0}, {true, "SA", 100, 501, 0}, {false, "SA", 500, 101, 0}},
		"repeated SYN":      {{true, "S", 100, 0, 0}, {true, "S", 100, 0, 0}, {false, "SA", 500, 101, 0}, {true, "A", 101, 501, 0}},
		"mid-stream":        {{true, "A", 7, 9, 10}, {false, "A", 9, 17, 10}, {false, "FA", 19, 17, 0}, {true, "A", 17, 20, 0}},
		"answer first":      {{false, "SA", 500, 101, 0}, {true, "A", 101, 501, 0}, {true, "A", 101, 501, 10}},
	}
	for name, talk := range talks {
		t.Run(name, func(t *testing.T) {
			plain := load(t, Options{Table: 64})
			for _, s := range talk {
				s.send(t, plain)
			}
			want := only(t, plain)
			for split := range len(talk) {
				d := load(t, Options{Table: 64})
				for _, s := range talk[:split] {
					s.send(t, d)
				}
				r, err := d.renew(128)
				require.NoError(t, err)
				require.NoError(t, r.swap())
				for _, s := range talk[split:] {
					s.send(t, d)
				}
				l := &leftover{}
				require.NoError(t, d.Migrate(l.migration(d)))
				require.Empty(t, l.entries)
				got := only(t, d)
				got.Flow = want.Flow // they are drawn per CPU
				require.Equal(t, want, got, "after %d of %d packets", split, len(talk))
			}
		})
	}
}

// TestResizeRefusesNothingInMidStream lets a connection go on that is not in the new table yet, where
// others are refused in mid-stream.
func TestResizeRefusesNothingInMidStream(t *testing.T) {
	d := load(t, Options{Table: 64})
	settings := d.Options().Settings
	settings.MidStream = false
	require.NoError(t, d.Configure(settings))
	for _, s := range []segment{{true, "S", 100, 0, 0}, {false, "SA", 500, 101, 0}, {true, "A", 101, 501, 0}} {
		s.send(t, d)
	}
	r, err := d.renew(128)
	require.NoError(t, err)
	require.NoError(t, r.swap())
	segment{false, "A", 501, 101, 30}.send(t, d)
	l := &leftover{}
	require.NoError(t, d.Migrate(l.migration(d)))
	send(t, d, 1, tcp(t, endpoint{"10.0.0.1", 7}, server, "A", 1, 1, 0))
	require.Equal(t, uint64(2), only(t, d).Legs[0].Packets)
	require.Equal(t, uint64(2), only(t, d).Legs[1].Packets)
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Len(t, c.Lost, 1)
	require.Equal(t, uint64(1), c.Lost["mid-stream"].Packets, "and are again")
}

// TestMergeTellsConnectionsApart lets another connection begin on a tuple before the old one is moved.
func TestMergeTellsConnectionsApart(t *testing.T) {
	tests := []struct {
		name   string
		before []segment
		idle   int64 // ns between the two
		after  segment
		why    uint8
	}{
		{"expired", []segment{{true, "A", 1, 1, 0}}, int64(lifetime) + 1, segment{true, "A", 1, 1, 0}, 1},
		{"reset and expired", []segment{{true, "R", 1, 0, 0}}, int64(lifetime) + 1, segment{true, "A", 1, 1, 0}, 3},
		{"another SYN", []segment{{true, "S", 1, 0, 0}, {false, "SA", 1, 2, 0}}, 0, segment{true, "S", 9, 0, 0}, 3},
		{"a SYN in mid-stream", []segment{{true, "A", 1, 1, 0}}, 0, segment{true, "S", 9, 0, 0}, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := load(t, Options{Table: 64})
			for _, s := range test.before {
				s.send(t, d)
			}
			old := only(t, d)
			r, err := d.renew(128)
			require.NoError(t, err)
			require.NoError(t, r.swap())
			require.NoError(t, d.SetNow(second+test.idle))
			test.after.send(t, d)
			young := only(t, d)
			l := &leftover{}
			require.NoError(t, d.Migrate(l.migration(d)))
			require.Equal(t, young, only(t, d))
			require.Equal(t, []Entry{old}, l.entries)
			require.Equal(t, []uint8{test.why}, l.why)
		})
	}
}

// TestMergeKeepsHooksAndReports moves a connection of which a record is out, and that other hooks see.
func TestMergeKeepsHooksAndReports(t *testing.T) {
	d := load(t, Options{Table: 64})
	send(t, d, 1, udp6(t, "fd00::1", "fd00::2", 1, 2))
	send(t, d, 2, udp6(t, "fd00::1", "fd00::2", 1, 2))
	old := only(t, d)
	reported := [2]Count{old.Legs[0].Count, old.Legs[1].Count}
	require.NoError(t, d.Acknowledge([]Mark{{Key: old.Key(), Reported: reported, At: second}}))
	r, err := d.renew(128)
	require.NoError(t, err)
	require.NoError(t, r.swap())
	send(t, d, 2, udp6(t, "fd00::1", "fd00::2", 1, 2))
	send(t, d, 1, udp6(t, "fd00::1", "fd00::2", 1, 2))
	send(t, d, 1, udp6(t, "fd00::2", "fd00::1", 2, 1))
	l := &leftover{}
	require.NoError(t, d.Migrate(l.migration(d)))
	require.Empty(t, l.entries)
	got := only(t, d)
	up := 0
	if old.Legs[0].Packets == 0 {
		up = 1
	}
	require.Equal(t, old.Flow, got.Flow)
	require.Equal(t, reported, got.Reported)
	require.Equal(t, uint64(2), got.Legs[up].Packets)
	require.Equal(t, uint16(2), got.Legs[up].Owner, "it counts since the new table")
	require.Equal(t, [3]uint16{1}, got.Legs[up].Hooks)
	require.Equal(t, uint16(1), got.Legs[1-up].Owner)
	require.EqualValues(t, 9, got.State)
}

// TestResizeIsKilled lets an agent be killed after each step of a change of size. The next one goes on:
// nothing is lost, nothing is counted twice, and connections keep their flow ids.
func TestResizeIsKilled(t *testing.T) {
	steps := []struct {
		name string
		do   func(t *testing.T, r *renewal)
	}{
		{"loaded", func(*testing.T, *renewal) {}},
		{"slots drained", func(t *testing.T, r *renewal) { require.NoError(t, r.d.drainSlots()) }},
		{"one table put aside", func(t *testing.T, r *renewal) {
			require.NoError(t, r.d.drainSlots())
			require.NoError(t, os.Rename(filepath.Join(r.d.pinPath(), "conns4"), r.d.asidePin(4)))
		}},
		{"tables put aside", func(t *testing.T, r *renewal) {
			require.NoError(t, r.d.drainSlots())
			require.NoError(t, r.putAside())
		}},
		{"new tables pinned", func(t *testing.T, r *renewal) {
			require.NoError(t, r.d.drainSlots())
			require.NoError(t, r.putAside())
			require.NoError(t, r.pin())
		}},
		{"some programs in place", func(t *testing.T, r *renewal) {
			require.NoError(t, r.d.drainSlots())
			require.NoError(t, r.putAside())
			require.NoError(t, r.pin())
			require.NoError(t, r.d.objs.Jump.Put(uint32(weirProgramPROGRAM_TRACK), r.next.objs.WeirTrack))
			require.NoError(t, r.d.objs.Jump.Put(uint32(weirProgramPROGRAM_FILTER), r.next.objs.WeirFilter))
			require.NoError(t, r.d.objs.Jump.Put(uint32(weirProgramPROGRAM_PARSE), r.next.objs.WeirParse))
		}},
		{"swapped", func(t *testing.T, r *renewal) { require.NoError(t, r.swap()) }},
		{"some moved", func(t *testing.T, r *renewal) {
			require.NoError(t, r.swap())
			m, err := r.d.mover(r.d.sources[0])
			require.NoError(t, err)
			stop := errors.New("killed")
			err = m.rows.each(m.source.table, func(int) error {
				key, value := m.rows.row(0)
				m.items.items[0].set(m.source, key, value)
				require.NoError(t, m.run(1))
				require.Equal(t, moveDone, m.items.items[0].Result)
				return stop
			})
			require.ErrorIs(t, err, stop)
			require.NoError(t, m.close())
		}},
		{"one table moved", func(t *testing.T, r *renewal) {
			require.NoError(t, r.swap())
			require.NoError(t, r.d.Grace())
			require.NoError(t, r.d.exhaust(r.d.sources[0], (&leftover{}).migration(r.d)))
		}},
	}
	// Packets go where the pinned array of programs leads.
	through := func(t *testing.T, d *Datapath, s segment) { s.send(t, d) }
	for _, step := range steps {
		for _, size := range []int{64, 1024} {
			t.Run(step.name+" "+strconv.Itoa(size), func(t *testing.T) {
				pin := pinFolder(t)
				d := load(t, Options{Table: 64, Pin: pin})
				for port := range uint16(20) {
					send(t, d, 1, tcp(t, endpoint{"10.0.0.1", port + 1}, server, "S", 1, 0, 10))
				}
				through(t, d, segment{true, "S", 100, 0, 0})
				send(t, d, 1, udp6(t, "fd00::1", "fd00::2", 1, 2))
				before := entries(t, d)
				r, err := d.renew(512)
				require.NoError(t, err)
				step.do(t, r)
				through(t, d, segment{false, "SA", 500, 101, 0}) // whichever packet path is in use
				next := load(t, Options{Table: size, Pin: pin})
				require.True(t, next.Adopted)
				through(t, next, segment{true, "A", 101, 501, 0})
				l := &leftover{}
				require.NoError(t, next.Migrate(l.migration(next)))
				require.Empty(t, l.entries)
				after := entries(t, next)
				require.Equal(t, flows(before), flows(after))
				require.EqualValues(t, size, next.objs.Conns4.MaxEntries())
				require.EqualValues(t, size, next.objs.Conns6.MaxEntries())
				var packets uint64
				for _, e := range after {
					packets += e.Legs[0].Packets + e.Legs[1].Packets
					if e.Port == [2]uint16{client.port, server.port} {
						require.EqualValues(t, established, e.State)
					}
				}
				require.EqualValues(t, 24, packets)
				_, err = os.Stat(next.asidePin(4))
				require.ErrorIs(t, err, os.ErrNotExist)
			})
		}
	}
}

// flows are the flow ids of entries, in order.
func flows(all []Entry) []uint64 {
	var ids []uint64
	for _, e := range all {
		ids = append(ids, e.Flow)
	}
	slices.Sort(ids)
	return ids
}

func TestMoveVerifierEffort(t *testing.T) {
	d := load(t, Options{Table: 16})
	m, err := d.mover(&source{family: 4, table: d.objs.Conns4, reader: sameLayout(4)})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.close()) }()
	n, err := processed(m.objs.WeirMove.VerifierLog)
	require.NoError(t, err)
	t.Logf("%d instructions", n)
	require.LessOrEqual(t, n, maxVerified)
}

// BenchmarkResize moves a full table into one of twice the size.
func BenchmarkResize(b *testing.B) {
	for _, n := range []int{10_000, 500_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var moved int
			for b.Loop() {
				b.StopTimer()
				d := load(b, Options{Table: n})
				fillTable(b, d, n)
				b.StartTimer()
				resize(b, d, 2*n)
				b.StopTimer()
				got, err := d.Held()
				require.NoError(b, err)
				require.Equal(b, Held{IPv4: n}, got)
				require.NoError(b, d.objs.Close())
				moved += n
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(moved), "ns/entry")
		})
	}
}

// fillTable writes connections to the IPv4 table.
func fillTable(t testing.TB, d *Datapath, n int) {
	t.Helper()
	keys, values := make([]weirKey4, n), make([]weirConn4, n)
	for i := range n {
		keys[i] = weirKey4{Addr: [2]uint32{uint32(i), 1}, Proto: 17}
		values[i] = weirConn4{Key: keys[i], Id: uint64(i + 1), State: 8}
		values[i].Leg[0].Owner, values[i].Leg[0].Packets = 1, 1
	}
	_, err := d.objs.Conns4.BatchUpdate(keys, values, nil)
	require.NoError(t, err)
}

// TestResizeWithSlots changes the size while CPUs' slots hold what the table does not have.
func TestResizeWithSlots(t *testing.T) {
	d := load(t, Options{Table: 64, Slots: 64, SlotAfter: 2, Pin: pinFolder(t)})
	count := func(n int) {
		for range n { // as long as the fast path reads
			send(t, d, 1, append(udp6(t, "fd00::1", "fd00::2", 1, 2), make([]byte, 20)...))
		}
	}
	open := func() (open, dirty int) {
		require.NoError(t, d.eachSlot(func(s slot) {
			open++
			if s.dirty {
				dirty++
			}
		}))
		return open, dirty
	}
	count(10)
	slots, dirty := open()
	require.Positive(t, slots)
	require.Positive(t, dirty)
	l := &leftover{}
	r, err := d.renew(128)
	require.NoError(t, err)
	require.NoError(t, r.swap())
	count(10)
	slots, _ = open()
	require.Zero(t, slots, "they wait for the connection")
	require.NoError(t, d.Migrate(l.migration(d)))
	require.Equal(t, uint64(20), l.total(t, d).Packets)
	count(10)
	slots, _ = open()
	require.Positive(t, slots, "and go on")
	require.Equal(t, uint64(30), l.total(t, d).Packets)

	d.opts.Slots = 256 // as another configuration has it
	require.NoError(t, d.Migrate(l.migration(d)))
	require.EqualValues(t, 256, d.slots)
	require.Equal(t, uint64(30), l.total(t, d).Packets)
	require.Empty(t, l.entries)
}
