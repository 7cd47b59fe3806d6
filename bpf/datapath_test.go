package bpf

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// These tests send packets through the real programs with BPF_PROG_TEST_RUN.

const (
	second   = int64(time.Second)
	lifetime = 10 * time.Second
)

func load(t testing.TB, opts Options) *Datapath {
	t.Helper()
	kerneltest.NeedRoot(t)
	opts.Virtual = true
	opts.Takeover, opts.MidStream = time.Second, true
	for i := range opts.Lifetimes {
		opts.Lifetimes[i] = lifetime
	}
	d, err := Load(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.SetNow(second))
	for n := range 2 {
		_, _, err := d.assign(Hook{Interface: 10 + n})
		require.NoError(t, err)
	}
	return d
}

// skb is struct __sk_buff as far as a test run may set it.
type skb struct {
	_    [48]byte
	CB   [5]uint32
	Rest [124]byte
}

func send(t testing.TB, d *Datapath, hook uint32, frame []byte) {
	t.Helper()
	ctx := skb{CB: [5]uint32{4: hook}}
	ret, err := d.objs.WeirPacket.Run(&ebpf.RunOptions{Data: frame, Context: ctx})
	require.NoError(t, err)
	require.Equal(t, ^uint32(0), ret, "the packet path must let the next program decide")
}

type endpoint struct {
	ip   string
	port uint16
}

var (
	client = endpoint{"10.0.0.1", 40000}
	server = endpoint{"10.0.0.2", 80}
)

// ethernet puts a link header before the layers. gopacket's own would pad to 60 bytes.
func ethernet(t testing.TB, kind uint16, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(buf, opts, l...))
	header := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, byte(kind >> 8), byte(kind)}
	return append(header, buf.Bytes()...)
}

func tcp(t testing.TB, from, to endpoint, flags string, seq, ack uint32, payload int) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP,
		SrcIP: net.ParseIP(from.ip), DstIP: net.ParseIP(to.ip)}
	h := &layers.TCP{SrcPort: layers.TCPPort(from.port), DstPort: layers.TCPPort(to.port),
		Seq: seq, Ack: ack}
	kerneltest.SetFlags(h, flags)
	require.NoError(t, h.SetNetworkLayerForChecksum(ip))
	return ethernet(t, 0x0800, ip, h, gopacket.Payload(make([]byte, payload)))
}

func udp6(t testing.TB, src, dst string, sport, dport uint16) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP,
		SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	h := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	require.NoError(t, h.SetNetworkLayerForChecksum(ip))
	return ethernet(t, 0x86dd, ip, h)
}

func entries(t testing.TB, d *Datapath) []Entry {
	t.Helper()
	var all []Entry
	require.NoError(t, d.Walk(func(e *Entry) error {
		all = append(all, *e)
		return nil
	}))
	return all
}

func only(t testing.TB, d *Datapath) Entry {
	t.Helper()
	all := entries(t, d)
	require.Len(t, all, 1)
	return all[0]
}

const established, closed = 3, 6 // enum conn_state

func TestHandshakeAndClose(t *testing.T) {
	d := load(t, Options{})
	steps := []struct {
		up       bool
		flags    string
		seq, ack uint32
		payload  int
		state    uint8
	}{
		{true, "S", 100, 0, 0, 1},
		{false, "SA", 500, 101, 0, 2},
		{true, "A", 101, 501, 0, established},
		{true, "A", 101, 501, 120, established},
		{true, "FA", 221, 501, 0, 4},
		{false, "FA", 501, 222, 0, 5},
		{true, "A", 222, 502, 0, closed},
	}
	for i, s := range steps {
		from, to := client, server
		if !s.up {
			from, to = server, client
		}
		send(t, d, 1, tcp(t, from, to, s.flags, s.seq, s.ack, s.payload))
		require.Equal(t, s.state, only(t, d).State, "after packet %d", i+1)
	}
	e := only(t, d)
	up := e.Initiator
	require.Equal(t, "10.0.0.1", e.Addr[up].String())
	require.Equal(t, uint16(40000), e.Port[up])
	require.Equal(t, Count{5, 5*54 + 120}, e.Legs[up].Count)
	require.Equal(t, Count{2, 2 * 54}, e.Legs[1-up].Count)
	require.Equal(t, uint8(0x13), e.Legs[up].Flags) // FIN SYN ACK
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Equal(t, Count{7, 7*54 + 120}, c.Seen)
	require.Equal(t, c.Seen, c.Accounted)
}

func TestSecondHookObserves(t *testing.T) {
	d := load(t, Options{})
	frame := tcp(t, client, server, "S", 1, 0, 0)
	send(t, d, 1, frame)
	send(t, d, 2, frame)
	e := only(t, d)
	leg := e.Legs[e.Initiator]
	require.Equal(t, uint64(1), leg.Packets)
	require.Equal(t, uint16(1), leg.Owner)
	require.Equal(t, [3]uint16{2, 0, 0}, leg.Hooks)
	c, err := d.Counters(2)
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Observed.Packets)

	// The owner is silent for longer than the takeover time: the path has changed.
	require.NoError(t, d.SetNow(2*second+2))
	send(t, d, 2, frame)
	leg = only(t, d).Legs[e.Initiator]
	require.Equal(t, uint64(2), leg.Packets)
	require.Equal(t, uint16(2), leg.Owner)
	require.Equal(t, [3]uint16{1, 0, 0}, leg.Hooks)
}

func TestReplacedInPlace(t *testing.T) {
	d := load(t, Options{})
	send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0))
	old := only(t, d)
	send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0)) // a retransmission
	require.Equal(t, old.Flow, only(t, d).Flow)
	send(t, d, 1, tcp(t, client, server, "S", 2, 0, 7)) // another connection
	next := only(t, d)
	require.NotEqual(t, old.Flow, next.Flow)
	require.Equal(t, Count{1, 61}, next.Legs[next.Initiator].Count)

	require.NoError(t, d.SetNow(second+int64(lifetime)+1))
	send(t, d, 1, tcp(t, client, server, "A", 3, 0, 0)) // finds it expired
	var ends []Event
	require.NoError(t, d.Events(func(e *Event) error {
		ends = append(ends, *e)
		return nil
	}))
	require.Len(t, ends, 2)
	require.Equal(t, old.Flow, ends[0].Entry.Flow)
	require.Equal(t, Count{2, 108}, ends[0].Entry.Legs[old.Initiator].Count)
	require.Equal(t, uint8(3), ends[0].End) // end detected
	require.Equal(t, next.Flow, ends[1].Entry.Flow)
	require.Equal(t, uint8(1), ends[1].End) // idle
}

// TestEvents reads events again until they are released, and none that come while it reads.
// TestEventDecode reads an event byte by byte as the packet path writes it, and refuses what is cut short.
func TestEventDecode(t *testing.T) {
	w := weirEvent{Kind: uint8(EventPacket), Family: 4, End: 3}
	w.Conn.Leg[0].Packets, w.Conn.Leg[0].Bytes, w.Conn.Leg[0].Flags = 7, 0x1122334455, 0x12
	copy(bytesOf(&w.Key), []byte{10, 0, 0, 1, 10, 0, 0, 2, 0x34, 0x12, 80, 0})
	raw := bytesOf(&w)
	var e Event
	require.NoError(t, e.decode(raw))
	require.Equal(t, EventPacket, e.Kind)
	require.Equal(t, uint8(3), e.End)
	require.Equal(t, Count{Packets: 7, Bytes: 0x1122334455}, e.Entry.Legs[0].Count)
	require.Equal(t, uint8(0x12), e.Entry.Legs[0].Flags)
	require.Equal(t, "10.0.0.1", e.Entry.Addr[0].String())
	require.Equal(t, "10.0.0.2", e.Entry.Addr[1].String())
	for n := range raw {
		require.ErrorContains(t, e.decode(raw[:n]), fmt.Sprintf("event of %d bytes", n))
	}
}

func TestEvents(t *testing.T) {
	const size = 4096
	room := size / (int(unsafe.Sizeof(weirEvent{})) + ringHeader)
	d := load(t, Options{Ring: size})
	replace := func(isn uint32) { send(t, d, 1, tcp(t, client, server, "S", isn, 0, 0)) }
	flows := func(also func()) (all []uint64) {
		require.NoError(t, d.Events(func(e *Event) error {
			all = append(all, e.Entry.Flow)
			also()
			return nil
		}))
		return all
	}
	nothing := func() {}
	isn := uint32(0)
	another := func() { isn++; replace(isn) }
	for range 4 {
		another()
	}
	first := flows(another)
	require.Len(t, first, 3)
	require.Len(t, flows(nothing), 6)
	d.ReleaseEvents()
	require.Empty(t, flows(nothing))
	for range 100 { // far around the buffer
		another()
		require.Len(t, flows(nothing), 1)
		d.ReleaseEvents()
	}
	for range room + 3 {
		another()
	}
	require.Len(t, flows(nothing), room, "what did not fit is counted as lost")
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Equal(t, uint64(3), c.Lost["ring-full"].Packets)
}

func TestGarbageCollection(t *testing.T) {
	d := load(t, Options{})
	for _, port := range []uint16{1, 2, 3} {
		send(t, d, 1, udp6(t, "2001:db8::1", "2001:db8::2", port, 53))
	}
	require.NoError(t, d.SetNow(second+int64(lifetime)+1))
	send(t, d, 1, udp6(t, "2001:db8::2", "2001:db8::1", 53, 3)) // expired: starts anew
	var cs []Candidate
	for _, e := range entries(t, d) {
		cs = append(cs, Candidate{Key: e.Key()})
	}
	require.Len(t, cs, 3)
	require.NoError(t, d.Retire(cs))
	// A packet revives one of the two retired entries.
	send(t, d, 1, udp6(t, "2001:db8::1", "2001:db8::2", 2, 53))
	require.NoError(t, d.Grace())
	read := 0
	require.NoError(t, d.Read(cs, func(_ *Candidate, e *Entry) error {
		read++
		require.Equal(t, uint64(1), e.Legs[e.Initiator].Packets)
		return nil
	}))
	final := slices.DeleteFunc(cs, func(c Candidate) bool { return !c.Done })
	require.Equal(t, 1, read)
	require.Len(t, final, 1)
	require.NoError(t, d.Delete(final))
	require.True(t, final[0].Done)
	require.Len(t, entries(t, d), 2)
}

func TestAcknowledge(t *testing.T) {
	d := load(t, Options{})
	frame := tcp(t, client, server, "A", 1, 0, 0)
	send(t, d, 1, frame)
	e := only(t, d)
	marks := []Mark{{Key: e.Key(), At: 3 * second}}
	for leg := range 2 {
		marks[0].Reported[leg] = e.Legs[leg].Count
	}
	require.NoError(t, d.Acknowledge(marks))
	require.True(t, marks[0].Done)
	send(t, d, 1, frame)
	e = only(t, d)
	require.Equal(t, Count{1, 54}, Count{
		e.Unreported(0).Packets + e.Unreported(1).Packets,
		e.Unreported(0).Bytes + e.Unreported(1).Bytes})
	require.True(t, e.Due(4*second, second))
	require.False(t, e.Due(4*second-2<<tickShift, second))
	marks[0].Key.Flow++
	require.NoError(t, d.Acknowledge(marks))
	require.False(t, marks[0].Done, "another connection's mark must be refused")
}

func TestTableFull(t *testing.T) {
	const size = 8
	for _, overflow := range []bool{false, true} {
		d := load(t, Options{Table: size, Settings: Settings{Overflow: overflow}})
		for port := range uint16(size + 3) {
			send(t, d, 1, tcp(t, endpoint{client.ip, 1000 + port}, server, "S", 1, 0, 0))
		}
		require.Len(t, entries(t, d), size)
		events := 0
		require.NoError(t, d.Events(func(e *Event) error {
			require.Equal(t, EventPacket, e.Kind)
			events++
			return nil
		}))
		c, err := d.Counters(1)
		require.NoError(t, err)
		if overflow {
			require.Equal(t, 3, events)
			require.Equal(t, uint64(size+3), c.Accounted.Packets)
		} else {
			require.Zero(t, events)
			require.Equal(t, Count{3, 3 * 54}, c.Lost["table-full"])
		}
	}
}

func TestUnknownHookIsCounted(t *testing.T) {
	d := load(t, Options{})
	send(t, d, 9, tcp(t, client, server, "S", 1, 0, 0))
	c, err := d.Counters(0)
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Lost["no-hook"].Packets)
}

func TestReset(t *testing.T) {
	d := load(t, Options{})
	send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0))
	require.NoError(t, d.Reset())
	require.Empty(t, entries(t, d))
	require.Empty(t, d.hooks)
	c, err := d.Counters(1)
	require.NoError(t, err)
	require.Zero(t, c.Seen)
}
