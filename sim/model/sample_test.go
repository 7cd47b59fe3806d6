package model

import (
	"math/big"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// bigMix is mix of the text in whole numbers of any size.
func bigMix(h, w *big.Int) *big.Int {
	word := new(big.Int).Lsh(big.NewInt(1), 64)
	k, _ := new(big.Int).SetString("9e3779b97f4a7c15", 16)
	x := new(big.Int).Mod(new(big.Int).Mul(new(big.Int).Xor(h, w), k), word)
	return x.Xor(x, new(big.Int).Rsh(x, 32))
}

// bigHash is the hash of a connection; last is the protocol and what ICMP adds to it.
func bigHash(b between, ports bool, last *big.Int) uint64 {
	sum := new(big.Int)
	for _, e := range []netip.AddrPort{b.src, b.dst} {
		port := new(big.Int)
		if ports {
			port.SetUint64(uint64(e.Port()))
		}
		address := e.Addr().AsSlice()
		if len(address) == 4 {
			both := new(big.Int).Add(new(big.Int).Lsh(port, 32), new(big.Int).SetBytes(address))
			sum.Add(sum, bigMix(both, new(big.Int)))
			continue
		}
		upper, lower := new(big.Int).SetBytes(address[:8]), new(big.Int).SetBytes(address[8:])
		sum.Add(sum, bigMix(bigMix(port, upper), lower))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 64))
	return bigMix(sum, last).Uint64()
}

// hashTests have numbers that a few lines of another language have computed from the text.
var hashTests = []struct {
	name  string
	frame []byte
	of    between
	ports bool
	last  int64 // protocol + 2^16 * identifier + 2^32 * type + 2^40 * code
	want  uint64
}{
	{"tcp", v4.tcp(syn, 1, 0, 0), v4, true, 6, 0x782c5914a3a25082},
	{"udp6", v6.udp(1), v6, true, 17, 0x1b593838fbf91a3e},
	{"request", v4.echo(7, false), v4, false, 1 + 7<<16 + 8<<32, 0x9f4f6c309835352d},
	{"reply", v4.back().echo(7, true), v4, false, 1 + 7<<16 + 8<<32, 0x9f4f6c309835352d},
	{"request 6", v6.echo(0x1234, false), v6, false, 58 + 0x1234<<16 + 128<<32, 0x40f8e82142366702},
	{"other ICMP", v4.icmp(9, 16, [4]byte{5, 5, 5, 5}, nil), v4, false, 1 + 9<<32 + 16<<40,
		0xe40516249fbc4f39},
	{"no ports", v4.frame(47), v4, false, 47, 0x371a01490a57e47},
	{"error", cited(v4.back(), ip(v4.tcp(syn, 1, 0, 0)), 28), v4, true, 6, 0x782c5914a3a25082},
	{"error about the other direction", cited(v4, ip(v4.back().tcp(syn, 1, 0, 0)), 28), v4, true, 6,
		0x782c5914a3a25082},
	{"error about a reply", cited(v4, ip(v4.back().echo(7, true)), 28), v4, false,
		1 + 7<<16 + 8<<32, 0x9f4f6c309835352d},
	{"tunnel", vxlan(v6, v4.tcp(ack, 1, 1, 9)), v4, true, 6, 0x782c5914a3a25082},
}

func TestHash(t *testing.T) {
	for _, tt := range hashTests {
		t.Run(tt.name, func(t *testing.T) {
			p, reason := parse(Arrival{Frame: tt.frame}, kindsOf(all))
			require.Empty(t, reason)
			require.Equal(t, tt.want, bigHash(tt.of, tt.ports, big.NewInt(tt.last)))
			require.Equal(t, tt.want, p.hash())
		})
	}
}

// The TCP connection of the tests has 0x782c5914 in its upper half: it is in 1 of 2, since that
// is at most 0x7fffffff, and not in 1 of 3, at most 0x55555555.
func TestSample(t *testing.T) {
	for n, want := range map[uint32]Outcome{0: {Fate: Accounted}, 1: {Fate: Accounted},
		2: {Fate: Accounted}, 3: {LeftOut, ReasonSampling}, 1<<32 - 1: {LeftOut, ReasonSampling}} {
		m := fresh(Config{Sample: n, Zones: map[flow.Hook]uint16{router: 7}})
		require.Equal(t, want, m.Packet(in, 0, v4.tcp(syn, 1, 0, 0)), "1 in %d", n)
		require.Equal(t, want, m.Packet(out, 0, v4.back().tcp(syn|ack, 1, 2, 0)))
		require.Equal(t, want, m.Packet(router, 0, v4.tcp(ack, 2, 2, 0)), "another zone")
		require.Equal(t, want, m.Packet(in, 0, cited(v4, ip(v4.back().tcp(ack, 1, 2, 0)), 40)))
		books(t, m)
	}
}

// The bound is part of the sample. Few hashes lie on one, so that it takes a search.
func TestSampleBound(t *testing.T) {
	found := 0
	for i := range uint32(1 << 18) {
		p := packet{src: endpoint{v4.src.Addr(), uint16(i)}, dst: endpoint{v4.dst.Addr(), uint16(i >> 16)},
			protocol: protoUDP}
		upper := uint32(p.hash() >> 32)
		if upper == 0 || upper >= 1<<15 {
			continue
		}
		n := (1<<32 - 1) / upper // the largest N with a bound that is not below
		require.True(t, p.sampled(n))
		require.False(t, p.sampled(n+1))
		if (1<<32-1)/n == upper {
			found++
		}
	}
	require.Positive(t, found)
}

// About as many as there should be are in the sample.
func TestSampleShare(t *testing.T) {
	m := fresh(Config{Sample: 4})
	for port := range uint16(4000) {
		m.Packet(in, 0, from(1+port).udp(1))
	}
	c := m.Counters()[in]
	require.InDelta(t, 1000, c.Accounted.Packets, 100)
	require.Equal(t, 4000-c.Accounted.Packets, c.LeftOut[ReasonSampling].Packets)
	books(t, m)
}

// Filters come first. A later fragment is in the sample where its first one is.
func TestSampleAfterFilter(t *testing.T) {
	m := fresh(Config{Sample: 3, Filter: bpf.Filter{Reject: true}})
	require.Equal(t, Outcome{LeftOut, ReasonFilter}, m.Packet(in, 0, v4.tcp(syn, 1, 0, 0)))

	for port := range uint16(50) {
		m = fresh(Config{Sample: 3})
		first := m.Packet(in, 0, fragmented(from(port).udp(24), 7, more4))
		require.Equal(t, first, m.Packet(in, 0, rest(from(port), 17, 7)))
		books(t, m)
	}
}
