package model

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// pcapsEnv names a folder of captures that are used as further input.
const pcapsEnv = "WEIR_PCAPS"

// random draws a frame from few endpoints, so that connections meet; one in eight is damaged.
func random(r *rand.Rand) []byte {
	b := []between{v4, v6}[r.IntN(2)]
	b.src = netip.AddrPortFrom(b.src.Addr(), uint16(1+r.IntN(4)))
	b.dst = netip.AddrPortFrom(b.dst.Addr(), uint16(1+r.IntN(2)))
	b.tags = [][]uint16{nil, nil, {7}, {7, 8}}[r.IntN(4)]
	if r.IntN(2) == 0 {
		b = b.back()
	}
	if r.IntN(16) == 0 {
		b.dst = b.src
	}
	frame := plainFrame(r, b)
	if r.IntN(6) == 0 {
		b.tags = nil
		inner := ip(plainFrame(r, b))
		frame = cited(b.back(), inner, r.IntN(len(inner)+1))
	}
	switch b.tags = nil; r.IntN(12) {
	case 0:
		frame = tunnelled(r, b)
	case 1:
		frame = ext(b, 17, ip(frame), header6(r.Uint32N(2), uint16(r.IntN(32))))
	}
	switch r.IntN(16) {
	case 0:
		frame = frame[:r.IntN(len(frame)+1)]
	case 1:
		frame = patch(frame, r.IntN(len(frame)), byte(r.Uint32()))
	}
	return frame
}

// tunnelled is a packet in a tunnel.
func tunnelled(r *rand.Rand, b between) []byte {
	inner := plainFrame(r, b)
	switch r.IntN(4) {
	case 0:
		return vxlan(v4, inner)
	case 1:
		return geneve(v6, uint8(r.IntN(65)), typeBridged, inner)
	case 2:
		return gre(v4, uint16(r.IntN(16))<<12, typeBridged, 4*r.IntN(4), inner)
	}
	return ipip(v4, []layers.IPProtocol{protoIPv4, protoIPv6}[r.IntN(2)], ip(inner))
}

// plainFrame is a frame of TCP, UDP, SCTP or echo; some of IPv4 are fragments.
func plainFrame(r *rand.Rand, b between) []byte {
	frame := message(r, b)
	if b.src.Addr().Is4() && len(b.tags) == 0 && r.IntN(4) == 0 {
		return fragmented(frame, uint16(r.IntN(2)), uint16(r.IntN(3)<<13|r.IntN(2)))
	}
	return frame
}

func message(r *rand.Rand, b between) []byte {
	switch r.IntN(5) {
	case 0:
		return b.udp(r.IntN(100))
	case 1:
		return b.echo(uint16(r.IntN(2)), r.IntN(2) == 0)
	case 2:
		return b.sctp(uint8(r.IntN(16)), r.Uint32N(3), 4+r.IntN(30))
	}
	flags := []flow.TCPFlags{syn, syn | ack, ack, ack, ack | fin, rst, flow.TCPFlags(r.Uint32())}
	return b.tcp(flags[r.IntN(len(flags))], uint32(r.IntN(3)), uint32(r.IntN(3)), r.IntN(100))
}

// randomFilter is no filter in half of all cases, else a few rules.
func randomFilter(r *rand.Rand) (f bpf.Filter) {
	if r.IntN(2) == 0 {
		return f
	}
	f.Reject = r.IntN(4) == 0
	for range r.IntN(4) {
		rule := bpf.Rule{Reject: r.IntN(2) == 0, Either: r.IntN(2) == 0}
		switch r.IntN(4) {
		case 0:
			rule.Protocol = number([]uint16{1, 6, 17, 58, 132}[r.IntN(5)])
		case 1:
			rule.SrcPort = ports(1, uint16(1+r.IntN(4)))
		case 2:
			rule.FlagsMask, rule.FlagsMatch = uint8(syn|ack), uint8(ack)
		default:
			rule.Dst = []netip.Prefix{low4, high4, low6, any6}[r.IntN(4)]
		}
		f.Rules = append(f.Rules, rule)
	}
	return f
}

// randomRun plays n random packets and returns the model after them.
func randomRun(seed uint64, n int, check func(*Model, int64)) *Model {
	r := rand.New(rand.NewPCG(seed, 1))
	m := New(Config{Table: 1 + r.IntN(20), TableFull: []string{Reject, Overflow}[r.IntN(2)],
		RingFull: r.IntN(4) == 0, Takeover: time.Duration(r.IntN(3)) * time.Second,
		MidStream: r.IntN(4) > 0, Tunnels: all[r.IntN(5):], Sample: r.Uint32N(4),
		Filter: randomFilter(r)})
	hooks := []flow.Hook{in, out, router, uplink, fifth}
	now := int64(0)
	for range n {
		now += r.Int64N([]int64{1, second, 20 * second, 200 * second}[r.IntN(4)])
		a := Arrival{Hook: hooks[r.IntN(len(hooks))], Now: now, Frame: random(r),
			Segments: max(0, r.IntN(12)-8), Tag: r.IntN(8) == 0}
		m.Receive(a)
		if r.IntN(20) == 0 {
			m.Sweep(now)
		}
		check(m, now)
	}
	return m
}

func TestConservation(t *testing.T) {
	for seed := range uint64(300) {
		check := func(m *Model, now int64) {
			require.LessOrEqual(t, m.used[0], m.cfg.Table)
			require.LessOrEqual(t, m.used[1], m.cfg.Table)
			require.Len(t, m.table, m.used[0]+m.used[1])
		}
		m := randomRun(seed, 200, check)
		books(t, m)
		m.Stop(1 << 60)
		require.Empty(t, m.table)
		require.Equal(t, [2]int{}, m.used)
		books(t, m)
	}
}

// Every seed gives the same results each time: nothing depends on the order of maps.
func TestDeterminism(t *testing.T) {
	nothing := func(*Model, int64) {}
	for seed := range uint64(20) {
		a, b := randomRun(seed, 300, nothing), randomRun(seed, 300, nothing)
		require.Equal(t, a.Flows(), b.Flows())
		require.Equal(t, a.Connections(1<<50), b.Connections(1<<50))
		a.Stop(1 << 40)
		b.Stop(1 << 40)
		require.Equal(t, a.Flows(), b.Flows())
		require.Equal(t, a.Counters(), b.Counters())
	}
}

// mirror swaps the two hosts of the tests, whose addresses differ in the last bit but one.
func mirror(frame []byte) []byte {
	frame = slices.Clone(frame)
	a, b := v4.src.Addr().As4(), v4.dst.Addr().As4()
	if frame[12] == 0x08 {
		for _, at := range []int{26, 30} {
			frame[at+3] ^= a[3] ^ b[3]
		}
		return frame
	}
	frame[22+15] ^= 3
	frame[38+15] ^= 3
	return frame
}

// Which endpoint is the lower one shows nowhere: the same packets between hosts whose addresses
// are swapped give the same flows with addresses swapped.
func TestMirror(t *testing.T) {
	swap := map[netip.Addr]netip.Addr{
		v4.src.Addr(): v4.dst.Addr(), v4.dst.Addr(): v4.src.Addr(),
		v6.src.Addr(): v6.dst.Addr(), v6.dst.Addr(): v6.src.Addr()}
	order := func(a, b Flow) int {
		return slices.Compare([]string{fmt.Sprint(a)}, []string{fmt.Sprint(b)})
	}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		cfg := Config{Table: 4, TableFull: Overflow}
		a, b := fresh(cfg), fresh(cfg)
		for i := range int64(200) {
			x := []between{v4, v6}[r.IntN(2)]
			if r.IntN(2) == 0 {
				x = x.back()
			}
			frame := plainFrame(r, x)
			hook := []flow.Hook{in, out}[r.IntN(2)]
			require.Equal(t, a.Packet(hook, i*second, frame),
				b.Packet(hook, i*second, mirror(frame)))
		}
		want, got := a.Flows(), b.Flows()
		for i := range got {
			got[i].Src, got[i].Dst = swap[got[i].Src], swap[got[i].Dst]
		}
		slices.SortFunc(want, order)
		slices.SortFunc(got, order)
		require.Equal(t, want, got)
	}
}

// captures reads the frames of all captures in a folder; those it cannot read are skipped.
func captures(t testing.TB) [][]byte {
	dir := os.Getenv(pcapsEnv)
	if dir == "" {
		t.Logf("%s is not set: no captures", pcapsEnv)
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no captures in %s", dir)
	var frames [][]byte
	for _, name := range files {
		frames = append(frames, capture(t, name)...)
	}
	return frames
}

// capture reads a pcap file of Ethernet frames, as far as it is whole.
func capture(t testing.TB, name string) [][]byte {
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	order := binary.ByteOrder(binary.LittleEndian)
	if len(data) >= 4 && data[0] == 0xa1 {
		order = binary.BigEndian
	}
	if len(data) < 24 || order.Uint32(data[20:])&0xffff != 1 {
		t.Logf("%s: no pcap file of Ethernet frames", name)
		return nil
	}
	var frames [][]byte
	for data = data[24:]; len(data) >= 16; {
		size := int(order.Uint32(data[8:]))
		data = data[16:]
		if size > len(data) {
			break
		}
		frames = append(frames, data[:size])
		data = data[size:]
	}
	return frames
}

func TestCaptures(t *testing.T) {
	frames := captures(t)
	if frames == nil {
		t.Skipf("set %s to a folder of captures", pcapsEnv)
	}
	m := fresh(Config{})
	for i, frame := range frames {
		m.Packet(in, int64(i), frame)
	}
	books(t, m)
	t.Logf("%d frames: %+v", len(frames), m.Counters()[in])
}

func FuzzPacket(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 200 {
		f.Add(random(r), uint8(r.Uint32()), int64(1))
	}
	for _, frame := range captures(f) {
		f.Add(frame, uint8(0), second)
	}
	f.Fuzz(func(t *testing.T, frame []byte, segments uint8, step int64) {
		m := fresh(Config{Table: 2, Tunnels: all})
		for i, hook := range []flow.Hook{in, router, in} {
			m.Receive(Arrival{Hook: hook, Now: int64(i) * step, Frame: frame,
				Segments: int(segments)})
		}
		books(t, m)
		m.Stop(0)
		books(t, m)
	})
}

func BenchmarkPacket(b *testing.B) {
	m := fresh(Config{})
	frame := v4.tcp(ack, 1, 1, 100)
	b.ReportAllocs()
	for b.Loop() {
		m.Packet(in, 0, frame)
	}
}
