package bpf

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// collect ends the connections that are chosen.
func collect(t *testing.T, d *Datapath, chosen func(*Entry) bool) {
	t.Helper()
	var cs []Candidate
	for _, e := range entries(t, d) {
		if chosen(&e) {
			cs = append(cs, Candidate{Key: e.Key(), Force: true})
		}
	}
	read := func(*Candidate, *Entry) error { return nil }
	require.NoError(t, d.Retire(cs)) // and no grace: no packet is on its way
	require.NoError(t, d.Read(cs, read))
	require.NoError(t, d.Delete(cs))
}

// refuses tells whether the packet path knows that the table of IPv4 is full.
func refuses(t *testing.T, d *Datapath) bool {
	t.Helper()
	var deleted, full uint64
	require.NoError(t, d.objs.Deletions.Get(&deleted))
	require.NoError(t, d.objs.Full4.Get(&full))
	return deleted == full
}

func lost(t *testing.T, d *Datapath, reason string) uint64 {
	t.Helper()
	c, err := d.Counters(1)
	require.NoError(t, err)
	return c.Lost[reason].Packets
}

// TestRefusal follows what the packet path remembers of a full table.
func TestRefusal(t *testing.T) {
	d := load(t, Options{Table: 4})
	from := func(port uint16, flags string) []byte {
		return tcp(t, endpoint{client.ip, port}, server, flags, 1, 1, 0)
	}
	for port := range uint16(4) {
		send(t, d, 1, from(1+port, "A"))
	}
	require.False(t, refuses(t, d), "full, and nobody has noticed")
	send(t, d, 1, from(5, "A"))
	require.True(t, refuses(t, d))
	send(t, d, 1, from(6, "A")) // by the short way
	send(t, d, 1, from(7, "S")) // by the long way
	send(t, d, 1, from(1, "A")) // has its place
	require.Equal(t, uint64(3), lost(t, d, "table-full"))
	send(t, d, 1, udp6(t, "2001:db8::1", "2001:db8::2", 1, 2))
	require.Len(t, entries(t, d), 5, "the other table has room")

	settings := d.Options().Settings
	settings.MidStream = false
	require.NoError(t, d.Configure(settings))
	send(t, d, 1, from(8, "A"))
	send(t, d, 1, from(9, "F"))
	send(t, d, 1, from(10, "S"))
	require.Equal(t, uint64(2), lost(t, d, "mid-stream"), "this reason comes first")
	require.Equal(t, uint64(4), lost(t, d, "table-full"))

	collect(t, d, func(e *Entry) bool { return e.Port[e.Initiator%2] == 2 || e.Port[1-e.Initiator%2] == 2 })
	require.False(t, refuses(t, d))
	send(t, d, 1, from(11, "S"))
	require.Equal(t, uint64(4), lost(t, d, "table-full"), "there was a place")
	send(t, d, 1, from(12, "S"))
	require.True(t, refuses(t, d))
	require.NoError(t, d.Empty())
	send(t, d, 1, from(13, "S"))
	require.Equal(t, uint64(5), lost(t, d, "table-full"))
}

// TestRefusalChangesNothing plays the same at random with and without the memory of a full table.
func TestRefusalChangesNothing(t *testing.T) {
	for _, overflow := range []bool{false, true} {
		var all [2]*Datapath
		for i := range all {
			all[i] = load(t, Options{Table: 8, Settings: Settings{Overflow: overflow}})
		}
		r := rand.New(rand.NewPCG(1, 2))
		refused := 0
		for range 3000 {
			port, flags := uint16(r.IntN(16)), []string{"S", "A", "FA", "R"}[r.IntN(4)]
			frame := tcp(t, endpoint{client.ip, port}, server, flags, 1, 1, 0)
			if r.IntN(4) == 0 {
				frame = udp6(t, "2001:db8::1", "2001:db8::2", port, 53)
			}
			require.NoError(t, all[1].Recheck())
			for _, d := range all {
				send(t, d, 1, frame)
			}
			if refuses(t, all[0]) {
				refused++
			}
			if r.IntN(20) == 0 {
				victim := uint16(r.IntN(16))
				for _, d := range all {
					collect(t, d, func(e *Entry) bool { return e.Port[0] == victim || e.Port[1] == victim })
				}
			}
		}
		with, err := all[0].Counters(1)
		require.NoError(t, err)
		without, err := all[1].Counters(1)
		require.NoError(t, err)
		require.Equal(t, without, with)
		require.Greater(t, refused, 500)
	}
}

// TestRefusalWhileDeleting deletes while packets find no room: once both have ended, a packet finds
// room exactly if there is some.
func TestRefusalWhileDeleting(t *testing.T) {
	const size, rounds = 8, 2000
	d := load(t, Options{Table: size})
	port := uint16(0)
	next := func() []byte {
		port++
		return tcp(t, endpoint{client.ip, port}, server, "A", 1, 1, 0)
	}
	roomy := 0
	for round := range rounds {
		for range size + 1 {
			send(t, d, 1, next())
		}
		var cs []Candidate
		for _, e := range entries(t, d)[:1] {
			cs = append(cs, Candidate{Key: e.Key(), Force: true})
		}
		require.NoError(t, d.Retire(cs))
		require.NoError(t, d.Recheck()) // so that it tries for a place
		one, spin := next(), round%500
		var begun atomic.Bool
		var sent sync.WaitGroup
		sent.Go(func() {
			begun.Store(true)
			send(t, d, 1, one)
		})
		for !begun.Load() || spin > 0 { // not always at the same moment
			spin--
		}
		require.NoError(t, d.Delete(cs))
		sent.Wait()
		held, before := len(entries(t, d)), lost(t, d, "table-full")
		send(t, d, 1, next())
		if held < size {
			roomy++
			require.Equal(t, before, lost(t, d, "table-full"), "a packet was refused with room")
		}
		require.Len(t, entries(t, d), size)
	}
	t.Logf("room was left in %d of %d rounds", roomy, rounds)
}

// TestBell rings once an eighth of the ring buffer is filled, and not again before it is read.
func TestBell(t *testing.T) {
	const ring = 1 << 16
	d := load(t, Options{Table: 1, Ring: ring, Settings: Settings{Overflow: true}})
	b, err := d.Bell()
	require.NoError(t, err)
	rings := make(chan bool)
	ended := make(chan error)
	go func() {
		for {
			rang, err := b.Wait()
			if !rang {
				ended <- err
				return
			}
			rings <- rang
		}
	}()
	port := uint16(0)
	send1 := func() { // a packet that finds no place
		port++
		send(t, d, 1, tcp(t, endpoint{client.ip, port}, server, "A", 1, 1, 0))
	}
	wait := func() uint8 {
		var woken uint8
		require.NoError(t, d.objs.Woken.Get(&woken))
		return woken
	}
	read := func() (n int) {
		require.NoError(t, d.Events(func(*Event) error { n++; return nil }))
		require.NoError(t, d.ReleaseEvents())
		return n
	}
	send1() // has the place
	for round := range 3 {
		n := 0
		for ; wait() == 0; n++ {
			require.LessOrEqual(t, n, ring/8, "not woken")
			send1()
		}
		require.Greater(t, n, 10)
		require.Less(t, n*ringHeader, ring/8)
		require.True(t, <-rings, round)
		send1()
		require.Equal(t, n+1, read())
		require.Zero(t, wait())
	}
	require.NoError(t, d.SetAlarm(true))
	send1()
	require.True(t, <-rings, "the alarm needs one packet")
	set, err := d.Alarm()
	require.NoError(t, err)
	require.False(t, set)
	send1()
	require.Equal(t, 2, read())
	require.NoError(t, b.Hush())
	require.NoError(t, <-ended)
	require.NoError(t, b.Close())
}

// TestEvictIsForUnanswered evicts by candidates that may have been answered meanwhile.
func TestEvictIsForUnanswered(t *testing.T) {
	d := load(t, Options{})
	send(t, d, 1, tcp(t, endpoint{client.ip, 1}, server, "S", 1, 0, 0))
	send(t, d, 1, tcp(t, endpoint{client.ip, 2}, server, "S", 1, 0, 0))
	send(t, d, 1, tcp(t, server, endpoint{client.ip, 2}, "SA", 1, 2, 0))
	send(t, d, 1, tcp(t, endpoint{client.ip, 3}, server, "A", 1, 1, 0))
	send(t, d, 1, tcp(t, endpoint{client.ip, 4}, server, "A", 1, 1, 0))
	var cs []Candidate
	for _, e := range entries(t, d) {
		require.True(t, e.Unanswered())
		cs = append(cs, Candidate{Key: e.Key(), Evict: true})
	}
	require.Len(t, cs, 4)
	send(t, d, 1, tcp(t, endpoint{client.ip, 2}, server, "A", 2, 2, 0)) // established
	send(t, d, 1, tcp(t, server, endpoint{client.ip, 3}, "A", 1, 1, 0)) // answered
	require.NoError(t, d.Retire(cs))
	left := 0
	for _, e := range entries(t, d) {
		if !e.Unanswered() {
			left++
		}
	}
	require.Equal(t, 2, left)
	done := 0
	for _, c := range cs {
		if c.Done {
			done++
		}
	}
	require.Equal(t, 2, done)
}

// A deletion that the kernel refuses leaves the connection retired: it is counted, its place stays taken,
// and who comes next can read and delete it, while a packet begins another connection in its place.
func TestRefusedDeletion(t *testing.T) {
	d := load(t, Options{Virtual: true, patch: refuseDeletions})
	send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0))
	send(t, d, 1, tcp(t, endpoint{client.ip, 2}, server, "S", 1, 0, 0))
	var cs []Candidate
	for _, e := range entries(t, d) {
		cs = append(cs, Candidate{Key: e.Key(), Force: true})
	}
	require.Len(t, cs, 2)
	for round := uint64(1); round <= 2; round++ {
		require.NoError(t, d.Retire(cs))
		read := 0
		require.NoError(t, d.Read(cs, func(*Candidate, *Entry) error { read++; return nil }))
		require.Equal(t, 2, read, "it can be read as before")
		require.NoError(t, d.Delete(cs))
		for _, c := range cs {
			require.False(t, c.Done)
		}
		n, err := d.Undeleted()
		require.NoError(t, err)
		require.Equal(t, 2*round, n)
	}
	send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0))
	living := 0
	for _, e := range entries(t, d) {
		if e.Flow != cs[0].Key.Flow && e.Flow != cs[1].Key.Flow {
			living++
		}
	}
	require.Equal(t, 1, living, "a packet takes the place over")
}

// refuseDeletions makes every deletion from a connection table end as on a kernel that is interrupted.
func refuseDeletions(spec *ebpf.CollectionSpec) {
	insns := spec.Programs["weir_collect"].Instructions
	for i := range insns {
		if insns[i].IsBuiltinCall() && asm.BuiltinFunc(insns[i].Constant) == asm.FnMapDeleteElem {
			busy := asm.Mov.Imm(asm.R0, -int32(unix.EBUSY))
			insns[i] = busy.WithMetadata(insns[i].Metadata)
		}
	}
}
