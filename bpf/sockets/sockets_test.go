package sockets

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// The whole way, from sockets in control groups to labels, is tried by the agent's tests and the scenarios: what a test
// run of a program is given has no socket.

func open(t *testing.T) *Sockets {
	t.Helper()
	kerneltest.NeedRoot(t)
	s, err := Open(Options{Max: 4, Virtual: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestVerifierEffort keeps the program from becoming one that another kernel's verifier gives up on.
func TestVerifierEffort(t *testing.T) {
	kerneltest.NeedRoot(t)
	require.NoError(t, Probe())
	n, err := VerifierEffort()
	require.NoError(t, err)
	t.Logf("%d instructions walked", n)
	require.Positive(t, n)
	require.Less(t, n, 10000)
}

// TestGroup: the two ways of a connection are two tuples, of which each has its own sender, and a sender its time.
func TestGroup(t *testing.T) {
	s := open(t)
	for _, tuple := range []Tuple{
		{Zone: 7, Protocol: 6, Src: netip.MustParseAddrPort("10.0.0.1:40000"), Dst: netip.MustParseAddrPort("10.0.0.2:80")},
		{Protocol: 17, Src: netip.MustParseAddrPort("[fd00::1]:53"), Dst: netip.MustParseAddrPort("[fd00::2]:40000")},
	} {
		k := keyOf(tuple)
		require.NoError(t, s.objs.Senders.Put(&k, &socketsSender{Group: 9, Before: 8, Since: 100}))
		for at, want := range map[int64]uint64{99: 8, 100: 9, 1000: 9} {
			id, ok, err := s.Group(tuple, at)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, want, id, "at %d", at)
		}
		for _, other := range []Tuple{
			{tuple.Zone, tuple.Protocol, tuple.Dst, tuple.Src}, {tuple.Zone + 1, tuple.Protocol, tuple.Src, tuple.Dst},
			{tuple.Zone, 6 + 17 - tuple.Protocol, tuple.Src, tuple.Dst},
		} {
			_, ok, err := s.Group(other, 1000)
			require.NoError(t, err)
			require.False(t, ok, "%v", other)
		}
	}
	first := socketsSender{Group: 9, Since: 100}
	require.EqualValues(t, 9, first.at(50), "nobody had it before")
}

func TestGroups(t *testing.T) {
	s := open(t)
	for id := range uint64(3) {
		require.NoError(t, s.objs.Groups.Put(id+10, uint8(1)))
	}
	for _, want := range [][]uint64{{10, 11, 12}, nil} { // each is told once
		var got []uint64
		require.NoError(t, s.Groups(func(id uint64) { got = append(got, id) }))
		require.ElementsMatch(t, want, got)
	}
	lost, err := s.Lost()
	require.NoError(t, err)
	require.Zero(t, lost)
}

// TestWithoutSocket: a packet that comes from no socket of this machine goes its way and teaches nothing.
func TestWithoutSocket(t *testing.T) {
	s := open(t)
	stub, err := s.Stub(bpf.Hook{Zone: 7}, 1)
	require.NoError(t, err)
	defer stub.Close()
	frame := append(append(make([]byte, 12), 0x08, 0), // Ethernet, then IPv4 and UDP
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 53, 0, 8, 0, 0)
	out := make([]byte, len(frame)+256)
	result, err := stub.Run(&ebpf.RunOptions{Data: frame, DataOut: out})
	require.NoError(t, err)
	require.EqualValues(t, 0xffffffff, result)
	require.Equal(t, frame, out[:len(frame)])
	var k socketsTuple
	require.ErrorIs(t, s.objs.Senders.NextKey(nil, &k), ebpf.ErrKeyNotExist)
}
