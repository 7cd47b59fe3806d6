package bpf

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// on runs fn on a CPU.
func on(t *testing.T, cpu int, fn func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	defer func() { require.NoError(t, unix.SchedSetaffinity(0, &all)) }()
	one.Set(cpu)
	if !all.IsSet(cpu) {
		t.Skipf("skipped: needs CPU %d", cpu)
	}
	require.NoError(t, unix.SchedSetaffinity(0, &one))
	fn()
}

func loadCached(t *testing.T) *Datapath {
	t.Helper()
	return load(t, Options{Table: 64, Slots: 64, SlotAfter: 2})
}

// slotsInUse counts slots by their life.
func slotsInUse(t *testing.T, d *Datapath) (open, closed int) {
	t.Helper()
	require.NoError(t, d.eachSlot(func(s slot) {
		if s.life == slotOpen {
			open++
		} else {
			closed++
		}
	}))
	return open, closed
}

// talk lets the client send n segments of 10 bytes from a sequence number on, each acknowledging
// 5000, on a CPU.
func talk(t *testing.T, d *Datapath, cpu int, seq uint32, n int) {
	t.Helper()
	on(t, cpu, func() {
		for i := range n {
			send(t, d, 1, tcp(t, client, server, "A", seq+uint32(10*i), 5000, 10))
		}
	})
}

func TestSlotsCountAndAreFolded(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 5)
	talk(t, d, 1, 1050, 4)
	for range 6 {
		padded := append(udp6(t, "fd00::1", "fd00::2", 53, 54), make([]byte, 20)...)
		send(t, d, 1, padded)
	}
	open, closed := slotsInUse(t, d)
	require.Equal(t, []int{3, 0}, []int{open, closed})
	raw := map[uint8]uint64{}
	for _, c := range readRaw(t, d) {
		raw[c.Leg[0].Seen&0x80] += c.Leg[0].Packets + c.Leg[1].Packets
	}
	require.Less(t, raw[0x80], uint64(15), "all legs have slots, which have counted")

	var packets, bytes uint64
	for _, e := range entries(t, d) {
		for _, l := range e.Legs {
			packets += l.Packets
			bytes += l.Bytes
		}
	}
	require.Equal(t, uint64(15), packets)
	require.Equal(t, uint64(9*64+6*82), bytes)
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Equal(t, c.Seen, c.Accounted)
	require.Equal(t, packets, c.Seen.Packets)
}

// readRaw reads the entries without what slots hold.
func readRaw(t *testing.T, d *Datapath) (all []weirConn4) {
	t.Helper()
	var k4 weirKey4
	var c4 weirConn4
	it := d.objs.Conns4.Iterate()
	for it.Next(&k4, &c4) {
		all = append(all, c4)
	}
	require.NoError(t, it.Err())
	var k6 weirKey6
	var c6 weirConn6
	it = d.objs.Conns6.Iterate()
	for it.Next(&k6, &c6) {
		c := weirConn4{Leg: c6.Leg}
		all = append(all, c)
	}
	require.NoError(t, it.Err())
	return all
}

// A reset is judged by the numbers that another CPU has seen, and closes its slots.
func TestResetOnAnotherCPU(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 10) // next is 1100
	open, _ := slotsInUse(t, d)
	require.Equal(t, 1, open)
	on(t, 1, func() { send(t, d, 1, tcp(t, client, server, "R", 1100, 0, 0)) })
	require.Equal(t, uint8(7), only(t, d).State, "reset: the number is where CPU 0 has got to")
	open, closed := slotsInUse(t, d)
	require.Equal(t, []int{0, 1}, []int{open, closed})
	talk(t, d, 0, 1100, 3)
	require.NoError(t, d.Settle())
	open, closed = slotsInUse(t, d)
	require.Equal(t, []int{0, 0}, []int{open, closed})
	require.Equal(t, uint64(14), only(t, d).Legs[0].Packets)
}

// The last record of a connection that is replaced has what another CPU has counted.
func TestReplacedOnAnotherCPU(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 10)
	on(t, 1, func() { send(t, d, 1, tcp(t, client, server, "S", 90000, 0, 0)) })
	var ended []Entry
	require.NoError(t, d.Events(func(e *Event) error {
		ended = append(ended, e.Entry)
		return nil
	}))
	d.ReleaseEvents()
	require.Len(t, ended, 1)
	require.Equal(t, uint64(10), ended[0].Legs[0].Packets)
	require.Equal(t, uint64(640), ended[0].Legs[0].Bytes)
	talk(t, d, 0, 90001, 3)
	require.Equal(t, uint64(4), only(t, d).Legs[0].Packets)
}

// A connection that another CPU keeps busy does not expire; one that is idle is read with all that
// CPUs have counted.
func TestRetiredWithSlots(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 10)
	talk(t, d, 1, 1100, 10)
	cs := []Candidate{{Key: keys(t, d)[0]}}
	require.NoError(t, d.Retire(cs))
	require.False(t, cs[0].Done, "it has not expired")
	require.NoError(t, d.SetNow(second+int64(lifetime)+1))
	require.NoError(t, d.Retire(cs))
	require.True(t, cs[0].Done)
	require.NoError(t, d.Settle())
	require.NoError(t, d.Read(cs, func(_ *Candidate, e *Entry) error {
		require.Equal(t, uint64(20), e.Legs[0].Packets)
		return nil
	}))
	require.NoError(t, d.Delete(cs))
	require.True(t, cs[0].Done)
	require.Empty(t, entries(t, d))
	open, closed := slotsInUse(t, d)
	require.Equal(t, []int{0, 0}, []int{open, closed})
}

func keys(t *testing.T, d *Datapath) (all []Key) {
	t.Helper()
	require.NoError(t, d.Walk(func(e *Entry) error {
		all = append(all, e.Key())
		return nil
	}))
	return all
}

// A pass closes slots that are not used; Settle frees them for others.
func TestColdSlots(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 5)
	now := second + 2*second
	require.NoError(t, d.SetNow(now))
	_, err := d.Pass(Wanted{Now: now}).Next(Show{Entry: func(e *Entry) error {
		require.Equal(t, uint64(5), e.Legs[0].Packets)
		return nil
	}})
	require.NoError(t, err)
	open, closed := slotsInUse(t, d)
	require.Equal(t, []int{0, 1}, []int{open, closed})
	talk(t, d, 0, 1050, 2)
	require.NoError(t, d.Settle())
	talk(t, d, 0, 1070, 2)
	open, closed = slotsInUse(t, d)
	require.Equal(t, []int{1, 0}, []int{open, closed})
	require.Equal(t, uint64(9), only(t, d).Legs[0].Packets)
}

// New settings hold for flows that slots count, too.
func TestConfigureWithSlots(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 5)
	s := d.Options().Settings
	s.Sample = 1 << 31
	require.NoError(t, d.Configure(s))
	talk(t, d, 0, 1050, 5)
	require.Equal(t, uint64(5), only(t, d).Legs[0].Packets)
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Equal(t, uint64(5), c.LeftOut["sampling"].Packets)
}

func TestSlotsAreChecked(t *testing.T) {
	kerneltest.NeedRoot(t)
	for _, n := range []int{1, 3, 100, 2 * MaxSlots} {
		_, err := Load(Options{Table: 16, Slots: n})
		require.ErrorContains(t, err, "want a power of two from 2 to")
	}
	d := load(t, Options{Table: 64, Slots: -1, SlotAfter: 1})
	talk(t, d, 0, 1000, 5)
	require.Equal(t, uint64(5), readRaw(t, d)[0].Leg[0].Packets)
}

func TestSlotsFor(t *testing.T) {
	for _, c := range []struct {
		table, cpus int
		want        uint32
	}{
		{65536, 2, 131072}, {131072, 2, 131072}, {1 << 20, 3, 65536}, {64, 2, 128}, {65536, 64, 4096},
		{65536, 1024, minSlots},
	} {
		n, err := slotsFor(&Options{Table: c.table}, c.cpus)
		require.NoError(t, err)
		require.Equal(t, c.want, n, "%+v", c)
	}
}

// TestGetWithSlots: what is counted in slots is shown, wherever the tuple begins.
func TestGetWithSlots(t *testing.T) {
	d := loadCached(t)
	talk(t, d, 0, 1000, 5)
	talk(t, d, 1, 1050, 4)
	raw := readRaw(t, d)
	require.Len(t, raw, 1)
	require.Less(t, raw[0].Leg[0].Packets+raw[0].Leg[1].Packets, uint64(9))
	tuple := Tuple{Addr: [2]netip.Addr{netip.MustParseAddr(client.ip), netip.MustParseAddr(server.ip)}, Port: [2]uint16{client.port, server.port}, Protocol: 6}
	e, found, err := d.Get(&tuple)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, uint64(9), e.Legs[0].Packets+e.Legs[1].Packets)
	require.Equal(t, raw[0].Id, e.Flow)
	tuple.Port[0]++
	_, found, err = d.Get(&tuple)
	require.NoError(t, err)
	require.False(t, found)
}

// More slots than are mapped at a time are all seen, under the numbers that the packet path knows.
func TestSlotsInWindows(t *testing.T) {
	d := load(t, Options{Table: 4096, Slots: 1 << 16, SlotAfter: 1})
	require.Nil(t, d.cache4.kept.items)
	on(t, 1, func() { // whose slots are behind those of CPU 0
		for port := range uint16(500) {
			for range 4 {
				send(t, d, 1, append(udp6(t, "fd00::1", "fd00::2", 1000+port, 80), make([]byte, 20)...))
			}
		}
	})
	open, _ := slotsInUse(t, d)
	require.Greater(t, open, 400) // some flows share a place

	seen := 0
	require.NoError(t, d.Walk(func(e *Entry) error {
		seen++
		require.EqualValues(t, 4, e.Legs[0].Packets+e.Legs[1].Packets)
		return nil
	}))
	require.Equal(t, 500, seen)

	require.NoError(t, d.ClearSlots())
	open, closed := slotsInUse(t, d)
	require.Zero(t, open+closed)
}
