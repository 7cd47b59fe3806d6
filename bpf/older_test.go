package bpf

import (
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/bpf/relic"
)

// leave leaves a datapath of layout 2 behind, with one hook, and returns the stub that is attached there.
func leave(t testing.TB, pin string) (*relic.Datapath, *ebpf.Program) {
	t.Helper()
	kerneltest.NeedRoot(t)
	opts := relic.Options{Pin: pin, Table: 64, Lifetimes: make([]time.Duration, States), Now: second}
	for i := range opts.Lifetimes {
		opts.Lifetimes[i] = lifetime
	}
	d, err := relic.Leave(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	stub, err := d.Hook(relic.Hook{Number: 1, Interface: 10})
	require.NoError(t, err)
	return d, stub
}

func through(t testing.TB, stub *ebpf.Program, frame []byte) {
	t.Helper()
	ret, err := stub.Run(&ebpf.RunOptions{Data: frame})
	require.NoError(t, err)
	require.Equal(t, ^uint32(0), ret)
}

func TestUpgrade(t *testing.T) {
	pin := pinFolder(t)
	old, stub := leave(t, pin)
	through(t, stub, tcp(t, client, server, "S", 100, 0, 0))
	through(t, stub, tcp(t, server, client, "SA", 500, 101, 0))
	through(t, stub, udp6(t, "fd00::1", "fd00::2", 1, 2))
	through(t, stub, tcp(t, endpoint{"10.0.0.1", 7}, server, "S", 1, 0, 0))
	through(t, stub, tcp(t, endpoint{"10.0.0.1", 7}, server, "S", 9, 0, 0)) // its event is in the old ring
	through(t, stub, make([]byte, 20))                                      // lost

	d := load(t, Options{Table: 128, Pin: pin})
	require.True(t, d.Adopted)
	require.Len(t, d.hooks, 2, "one of the older layout, one that load has made")
	through(t, stub, tcp(t, client, server, "A", 101, 501, 0)) // leads to the new packet path
	through(t, stub, udp6(t, "fd00::3", "fd00::2", 1, 2))      // a new connection
	l := &leftover{}
	require.NoError(t, d.Migrate(l.migration(d)))
	require.NoDirExists(t, old.Folder)
	require.Len(t, l.entries, 1)
	require.Equal(t, []uint8{3}, l.why, "the connection that another one replaced")
	after := entries(t, d)
	require.Len(t, after, 4)
	require.Len(t, unique(flows(append(after, l.entries...))), 5, "no flow id is drawn twice")
	for _, e := range after {
		if e.Port == [2]uint16{client.port, server.port} {
			require.EqualValues(t, established, e.State)
			require.Equal(t, uint64(3), e.Legs[0].Packets+e.Legs[1].Packets)
		}
	}
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Equal(t, uint64(8), c.Seen.Packets)
	require.Equal(t, l.total(t, d), c.Accounted)
	require.Equal(t, map[string]Count{"not-ip": {1, 20}}, c.Lost)

	send(t, d, 1, tcp(t, client, server, "A", 101, 501, 0))
	again := load(t, Options{Table: 128, Pin: pin})
	c, err = again.Counters(1)
	require.NoError(t, err)
	require.Equal(t, uint64(9), c.Seen.Packets, "the next agent knows them as well")
	require.NoError(t, again.Unpin())
}

func unique(ids []uint64) map[uint64]bool {
	all := map[uint64]bool{}
	for _, id := range ids {
		all[id] = true
	}
	return all
}

// TestUpgradeIsKilled takes the older layout over in pieces, each by an agent that is killed then.
func TestUpgradeIsKilled(t *testing.T) {
	pin := pinFolder(t)
	old, stub := leave(t, pin)
	send := func(n uint16) {
		through(t, stub, tcp(t, endpoint{"10.0.0.1", n}, server, "S", uint32(n), 0, 0))
	}
	for n := range uint16(10) {
		send(n + 1)
	}
	opts := Options{Table: 64, Pin: pin}
	kill := []func(d *Datapath, to Migration){
		func(*Datapath, Migration) {},
		func(d *Datapath, to Migration) { require.NoError(t, d.exhaust(d.sources[0], to)) },
		func(d *Datapath, to Migration) {
			for _, s := range d.sources {
				require.NoError(t, d.exhaust(s, to))
			}
			require.NoError(t, d.inheritCounters())
		},
		func(d *Datapath, to Migration) {
			require.NoError(t, d.succeed(to))
		},
	}
	for i, step := range kill {
		d := load(t, opts)
		send(uint16(i + 1)) // the repeated SYN of one that may be in either table
		require.NoError(t, d.Grace())
		step(d, (&leftover{}).migration(d))
	}
	d := load(t, opts)
	l := &leftover{}
	require.NoError(t, d.Migrate(l.migration(d)))
	require.Empty(t, l.entries)
	require.Len(t, entries(t, d), 10)
	require.Equal(t, uint64(14), l.total(t, d).Packets)
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Equal(t, uint64(14), c.Seen.Packets)
	require.Equal(t, l.total(t, d), c.Accounted)
	require.NoDirExists(t, old.Folder)
}

func TestUpgradeRefuses(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, pin string)
		want    string
	}{
		{"newer", func(t *testing.T, pin string) {
			require.NoError(t, os.MkdirAll(filepath.Join(pin, "v99"), 0o700))
		}, "is of layout 99, this agent's is 3: start the newer agent"},
		{"unknown", func(t *testing.T, pin string) {
			require.NoError(t, os.MkdirAll(filepath.Join(pin, "v1"), 0o700))
		}, "is of layout 1, this agent takes over one folder of layout 2"},
		{"two", func(t *testing.T, pin string) {
			require.NoError(t, os.MkdirAll(filepath.Join(pin, "v1"), 0o700))
			require.NoError(t, os.MkdirAll(filepath.Join(pin, "v2"), 0o700))
		}, "is of layout 1, this agent takes over one folder of layout 2"},
		{"another map", func(t *testing.T, pin string) {
			pinTable(t, pin, &btf.Struct{Name: "conn4", Size: 8, Members: []btf.Member{
				{Name: "x", Type: &btf.Int{Name: "u64", Size: 8}}}})
		}, "map conns4: type conn4 has no key"},
		{"another kind", func(t *testing.T, pin string) {
			pinTable(t, pin, older4(t, func(m *btf.Member) {
				if m.Name == "state" {
					m.Type = &btf.Int{Name: "s8", Size: 1, Encoding: btf.Signed}
				}
				if m.Name == "reported_at" {
					m.Type = &btf.Array{Index: u32, Type: u8, Nelems: 4}
				}
			}))
		}, "map conns4: .reported_at: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pin := pinFolder(t)
			test.prepare(t, pin)
			_, err := Load(Options{Pin: pin})
			require.ErrorIs(t, err, ErrLayout)
			require.ErrorContains(t, err, test.want)
			require.NoDirExists(t, filepath.Join(pin, folderOf(layout)))
		})
	}
}

var (
	u8  = &btf.Int{Name: "u8", Size: 1}
	u16 = &btf.Int{Name: "u16", Size: 2}
	u32 = &btf.Int{Name: "u32", Size: 4}
	u64 = &btf.Int{Name: "u64", Size: 8}
)

// older4 is our conn4 with some members changed; none may get larger.
func older4(t testing.TB, change func(*btf.Member)) *btf.Struct {
	t.Helper()
	spec, err := loadWeir()
	require.NoError(t, err)
	c := btf.Copy(spec.Maps["conns4"].Value).(*btf.Struct)
	for i := range c.Members {
		change(&c.Members[i])
	}
	return c
}

// pinTable pins an IPv4 table of layout 2 whose entries are of that type.
func pinTable(t testing.TB, pin string, value *btf.Struct) *ebpf.Map {
	t.Helper()
	kerneltest.NeedRoot(t)
	spec, err := loadWeir()
	require.NoError(t, err)
	s := spec.Maps["conns4"]
	s.Value, s.ValueSize, s.MaxEntries = value, value.Size, 64
	m, err := ebpf.NewMap(s)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	folder := filepath.Join(pin, "v2")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	require.NoError(t, m.Pin(filepath.Join(folder, "conns4")))
	return m
}

// strange is a connection of a layout that there never was: fields stand elsewhere, one is narrower, one
// is unknown to us, and some are missing.
type strange struct {
	Key   weirKey4
	Leg   [2]strangeLeg
	Lock  uint32
	Mark  uint32
	State uint8
	Life  uint8
	Hooks [2][2]uint16
	_     [6]byte
	Count [2]weirCount
	ID    uint32
	_     [4]byte
}

type strangeLeg struct {
	Bytes, Packets uint64
	Owner          uint16
	Flags, Seen    uint8
	Isn            uint32
	Last, First    uint64
}

// strangeType describes it as its compiler would have done.
func strangeType(t testing.TB) *btf.Struct {
	t.Helper()
	var legs, reported btf.Type
	var members []btf.Member
	at := func(name string, offset uintptr, of btf.Type) {
		members = append(members, btf.Member{Name: name, Type: of, Offset: btf.Bits(8 * offset)})
	}
	spec, err := loadWeir()
	require.NoError(t, err)
	ours := spec.Maps["conns4"].Value.(*btf.Struct)
	reported = member(ours, "reported").Type
	var l strangeLeg
	at("bytes", unsafe.Offsetof(l.Bytes), u64)
	at("packets", unsafe.Offsetof(l.Packets), u64)
	at("owner", unsafe.Offsetof(l.Owner), u16)
	at("flags", unsafe.Offsetof(l.Flags), u8)
	at("seen", unsafe.Offsetof(l.Seen), u8)
	at("isn", unsafe.Offsetof(l.Isn), u32)
	at("last", unsafe.Offsetof(l.Last), u64)
	at("first", unsafe.Offsetof(l.First), u64)
	legs = &btf.Array{Index: u32, Nelems: 2, Type: &btf.Struct{Name: "leg", Size: uint32(unsafe.Sizeof(l)), Members: members}}
	members = nil
	var c strange
	at("key", unsafe.Offsetof(c.Key), spec.Maps["conns4"].Key)
	at("leg", unsafe.Offsetof(c.Leg), legs)
	at("lock", unsafe.Offsetof(c.Lock), member(ours, "lock").Type)
	at("mark", unsafe.Offsetof(c.Mark), u32)
	at("state", unsafe.Offsetof(c.State), u8)
	at("life", unsafe.Offsetof(c.Life), u8)
	at("hooks", unsafe.Offsetof(c.Hooks), &btf.Array{Index: u32, Nelems: 2,
		Type: &btf.Array{Index: u32, Nelems: 2, Type: u16}})
	at("reported", unsafe.Offsetof(c.Count), reported)
	at("id", unsafe.Offsetof(c.ID), u32)
	return &btf.Struct{Name: "conn4", Size: uint32(unsafe.Sizeof(c)), Members: members}
}

func TestUpgradeReadsWhatTheMapSays(t *testing.T) {
	pin := pinFolder(t)
	table := pinTable(t, pin, strangeType(t))
	c := strange{
		Key:  weirKey4{Addr: [2]uint32{0x0100000a, 0x0200000a}, Port: [2]uint16{0x0100, 0x5000}, Proto: 6, Zone: 3},
		Leg:  [2]strangeLeg{{10, 1, 2, 0x12, seenInitiator | 1, 77, 40, 30}, {200, 5, 3, 0x10, 0, 0, 60, 50}},
		Mark: 0xffffffff, State: established, Hooks: [2][2]uint16{{7, 8}, {9, 0}},
		Count: [2]weirCount{{Packets: 1, Bytes: 10}, {Packets: 4, Bytes: 150}}, ID: 4711,
	}
	require.NoError(t, table.Put(c.Key, c))
	d := load(t, Options{Table: 16, Pin: pin})
	l := &leftover{}
	require.NoError(t, d.Migrate(l.migration(d)))
	require.Empty(t, l.entries)
	e := only(t, d)
	require.Equal(t, "10.0.0.1", e.Addr[0].String())
	require.Equal(t, [2]uint16{1, 80}, e.Port)
	require.EqualValues(t, 3, e.Zone)
	require.EqualValues(t, 4711, e.Flow)
	require.EqualValues(t, established, e.State)
	require.EqualValues(t, 0, e.Initiator)
	require.Equal(t, [2]Leg{
		{Count: Count{1, 10}, First: 30, Last: 40, Flags: 0x12, Owner: 2, Hooks: [3]uint16{7, 8}},
		{Count: Count{5, 200}, First: 50, Last: 60, Flags: 0x10, Owner: 3, Hooks: [3]uint16{9}},
	}, e.Legs)
	require.Equal(t, [2]Count{{1, 10}, {4, 150}}, e.Reported)
	require.Zero(t, e.reportedAt)
}
