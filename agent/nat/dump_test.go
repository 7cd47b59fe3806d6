package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDump(t *testing.T) {
	enterNamespace(t)
	k := newTracker(t)
	want := map[[2]Tuple]bool{}
	for _, s := range samples {
		k.create(s)
		want[s] = true
	}
	all, err := Dump()
	require.NoError(t, err)
	require.Len(t, all, len(samples))
	for _, c := range all {
		require.True(t, want[c.Tuple], "%+v", c.Tuple)
		require.False(t, c.Replied)
		require.Equal(t, c.Tuple[Before].Protocol == unix.IPPROTO_TCP, c.TCP == TCPEstablished)
		require.Zero(t, c.Original, "nobody counts")
	}
}

func TestDecodeCounts(t *testing.T) {
	base := recorded(t, "testdata/tcp-snat.dump.hex")
	number := func(v byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 1, v} }
	counters := func(kind uint16, packets, bytes byte) []byte {
		return attribute(kind|nested, attribute(ctaCountersPackets, number(packets)),
			attribute(ctaCountersBytes, number(bytes)))
	}
	got, err := decode(append(append(base[:len(base):len(base)], counters(ctaCountersOrig, 2, 3)...),
		counters(ctaCountersReply, 4, 5)...))
	require.NoError(t, err)
	require.Equal(t, [2]Count{{258, 259}, {260, 261}}, got.counts)

	short := attribute(ctaCountersOrig|nested, attribute(ctaCountersBytes, []byte{1}))
	_, err = decode(append(base[:len(base):len(base)], short...))
	require.ErrorContains(t, err, "a number of 8 bytes has 1")
}

func TestTCPState(t *testing.T) {
	require.Equal(t, "SYN_SENT2", TCPSynSent2.String())
	require.Equal(t, "state 200", TCPState(200).String())
}
