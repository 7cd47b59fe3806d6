package flow

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// seenOnce is a record of one direction of a connection, by its source port.
func seenOnce(port uint16, start, end int64, packets, bytes uint64, flags TCPFlags) *Record {
	return &Record{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: port, DstPort: 80,
		Protocol: 6, Start: start, End: end, Packets: packets, Bytes: bytes, Flags: flags}
}

func TestAccumulate(t *testing.T) {
	for _, test := range []struct {
		name         string
		r, src, want *Record
	}{
		{"sums", seenOnce(1, 100, 200, 3, 44, SYN), seenOnce(1, 50, 300, 1, 22, ACK), seenOnce(1, 50, 300, 4, 66, SYN|ACK)},
		{"inside", seenOnce(1, 100, 300, 1, 1, 0), seenOnce(1, 150, 200, 1, 1, 0), seenOnce(1, 100, 300, 2, 2, 0)},
		{"into nothing", seenOnce(1, 0, 0, 0, 0, 0), seenOnce(1, 150, 200, 1, 1, FIN), seenOnce(1, 150, 200, 1, 1, FIN)},
		{"nothing", seenOnce(1, 150, 200, 1, 1, FIN), seenOnce(1, 0, 0, 0, 0, 0), seenOnce(1, 150, 200, 1, 1, FIN)},
		{"no start", seenOnce(1, 150, 200, 1, 1, 0), seenOnce(1, 0, 300, 1, 1, 0), seenOnce(1, 150, 300, 2, 2, 0)},
		{"nothing at all", seenOnce(1, 0, 0, 0, 0, 0), seenOnce(1, 0, 0, 0, 0, 0), seenOnce(1, 0, 0, 0, 0, 0)},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := *test.src
			got := *test.r
			Accumulate(&got, &src)
			require.Equal(t, *test.want, got)
			require.Equal(t, *test.src, src, "what is added stays as it is")
			Accumulate(&src, test.r)
			require.Equal(t, *test.want, src, "either way round")
		})
	}
}

func TestAccounter(t *testing.T) {
	var got []Record
	a := NewAccounter(2, func(r *Record) error { got = append(got, *r); return nil })
	account := func(r *Record) { require.NoError(t, a.Account(r)) }
	require.NoError(t, a.Evict())
	require.Empty(t, got, "there is nothing before the first record")

	first := seenOnce(1, 123, 123, 1, 123, SYN)
	account(first)
	account(seenOnce(2, 456, 456, 1, 456, 0))
	account(seenOnce(1, 789, 789, 1, 321, 0))
	require.Empty(t, got, "one that is known needs no room")
	require.Equal(t, uint64(1), first.Packets, "the caller's record stays as it is")

	account(seenOnce(3, 999, 999, 1, 1, 0))
	want := []Record{*seenOnce(1, 123, 789, 2, 444, SYN), *seenOnce(2, 456, 456, 1, 456, 0)}
	require.Equal(t, want, got, "one too many: the others go, in order, and it stays")
	got = nil
	require.NoError(t, a.Evict())
	require.Equal(t, []Record{*seenOnce(3, 999, 999, 1, 1, 0)}, got)
	got = nil
	require.NoError(t, a.Evict())
	require.Empty(t, got, "nothing comes twice")

	for range 3 {
		account(seenOnce(1, 123, 123, 1, 10, 0))
	}
	account(seenOnce(1, 789, 789, 1, 10, 0))
	a.Reset()
	require.NoError(t, a.Evict())
	require.Empty(t, got)
}

// TestAccounterOfNone has no room at all, and takes one: a record is never lost.
func TestAccounterOfNone(t *testing.T) {
	var got []uint16
	a := NewAccounter(0, func(r *Record) error { got = append(got, r.SrcPort); return nil })
	for port := range uint16(3) {
		require.NoError(t, a.Account(seenOnce(port, 1, 1, 1, 1, 0)))
	}
	require.Equal(t, []uint16{0, 1}, got)
}

func TestAccounterFails(t *testing.T) {
	full := errors.New("full")
	a := NewAccounter(1, func(*Record) error { return full })
	require.NoError(t, a.Account(seenOnce(1, 1, 1, 1, 1, 0)))
	require.ErrorIs(t, a.Account(seenOnce(2, 1, 1, 1, 1, 0)), full)
	require.NoError(t, a.Evict(), "nothing is left")
}

func TestTuplesDiffer(t *testing.T) {
	base := *seenOnce(1, 1, 1, 1, 1, 0)
	different := []func(*Record){
		func(r *Record) { r.Src = netip.MustParseAddr("::ffff:10.0.0.1") }, func(r *Record) { r.Dst = r.Src },
		func(r *Record) { r.SrcPort++ }, func(r *Record) { r.DstPort++ }, func(r *Record) { r.Zone++ },
		func(r *Record) { r.Protocol++ }, func(r *Record) { r.Cites++ }, func(r *Record) { r.ICMPType++ },
		func(r *Record) { r.ICMPCode++ }, func(r *Record) { r.ICMPID++ },
	}
	for i, change := range different {
		r := base
		change(&r)
		require.NotEqual(t, tupleOf(&base), tupleOf(&r), i)
	}
	same := base
	same.Boot, same.Flow, same.Seen, same.AgentIP = "b", 7, []Hook{{Interface: "eth1"}}, base.Src
	require.Equal(t, tupleOf(&base), tupleOf(&same))
}

func TestDecorate(t *testing.T) {
	asked := map[uint16]int{}
	ip := netip.MustParseAddr("192.0.2.1")
	decorate := Decorate(ip, func(hook uint16) Hook {
		asked[hook]++
		if hook > 4 {
			return Hook{Interface: "unknown"}
		}
		return Hook{Interface: []string{"", "lo", "eth0", "foo", "bar"}[hook]}
	})
	for range 2 {
		for hooks, want := range map[[4]uint16][]Hook{
			{3}:       {{Interface: "foo"}},
			{4, 3}:    {{Interface: "bar"}, {Interface: "foo"}},
			{9}:       {{Interface: "unknown"}},
			{2, 0, 1}: {{Interface: "eth0"}, {Interface: "lo"}},
			{}:        nil,
		} {
			r := *seenOnce(1, 1, 2, 3, 4, 5)
			decorate(&r, hooks)
			plain := *seenOnce(1, 1, 2, 3, 4, 5)
			plain.AgentIP, plain.Seen = ip, want
			require.Equal(t, plain, r)
		}
	}
	require.Equal(t, map[uint16]int{1: 1, 2: 1, 3: 2, 4: 1, 9: 1}, asked, "of each list once")
	var r Record
	require.Zero(t, testing.AllocsPerRun(100, func() { decorate(&r, [4]uint16{4, 3}) }))
}
