package traffic

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// inPieces is the step with its packets in fragments.
func inPieces(step spec.Step, size int, order ...int) spec.Step {
	step.Packet.Fragments = &spec.Fragments{Size: size, Order: order}
	return step
}

// offsets returns the offset of each fragment in bytes and whether more follow, and the datagram
// that they make up; all lengths and checksums must be right.
func offsets(t *testing.T, frames []Frame) (at []int, more []bool, datagram []byte) {
	t.Helper()
	datagram = make([]byte, 65535)
	size := 0
	put := func(offset int, m bool, data []byte) {
		at, more = append(at, offset), append(more, m)
		size = max(size, offset+copy(datagram[offset:], data))
	}
	for _, f := range frames {
		require.True(t, f.Wait)
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
		if ip, ok := p.NetworkLayer().(*layers.IPv4); ok {
			require.Equal(t, len(ip.Contents)+len(ip.Payload), int(ip.Length))
			require.Zero(t, checksum(0, ip.Contents))
			put(int(ip.FragOffset)*8, ip.Flags&layers.IPv4MoreFragments != 0, ip.Payload)
			continue
		}
		ip := p.NetworkLayer().(*layers.IPv6)
		require.Equal(t, len(f.Data)-14-40, int(ip.Length))
		h := p.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
		require.EqualValues(t, 1, h.Identification)
		put(int(h.FragmentOffset)*8, h.MoreFragments, h.Payload)
	}
	return at, more, datagram[:size]
}

func TestFragments(t *testing.T) {
	udp := []spec.Layer{layer("udp"), bytesOf(100)} // 108 bytes
	last := []bool{true, true, false}
	cases := map[string]struct {
		step   spec.Step
		behind int // bytes of the whole frame before what is cut
		at     []int
		more   []bool
	}{
		"IPv4": {inPieces(packetStep(over4, udp...), 48), 34, []int{0, 48, 96}, last},
		"IPv6": {inPieces(packetStep(over6, udp...), 48), 54, []int{0, 48, 96}, last},
		"no rest": {inPieces(packetStep(over4, layer("udp"), bytesOf(88)), 48), 34,
			[]int{0, 48}, last[1:]},
		"one alone":    {inPieces(packetStep(over6, udp...), 800), 54, []int{0}, last[2:]},
		"just as long": {inPieces(packetStep(over4, layer("udp")), 8), 34, []int{0}, last[2:]},
		"tagged, with options": {inPieces(packetStep(over4, layer("vlan"), layer("vlan"),
			layer("ipv4", "options", "01010101", "flags", "DF"), layer("udp"), bytesOf(100)), 48),
			14 + 8 + 24, []int{0, 48, 96}, last},
		"behind what routers read": {inPieces(packetStep(over6, layer("ipv6ext", "type", "hop-by-hop"),
			layer("ipv6ext", "type", "routing"), layer("ipv6ext", "type", "destination"), layer("udp"),
			bytesOf(92)), 48), 54 + 16, []int{0, 48, 96}, last},
		"a fragment already": {inPieces(packetStep(over4, layer("ipv4", "fragment_offset", uint64(2),
			"flags", "MF"), bytesOf(16)), 8), 34, []int{16, 24}, last[:2]},
		"order": {inPieces(packetStep(over4, udp...), 48, 3, 1, 1, 2), 34, []int{96, 0, 0, 48},
			[]bool{false, true, true, true}},
		"a part": {inPieces(packetStep(over6, udp...), 48, 2), 54, []int{48}, last[1:2]},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			frames := framesOf(t, testnet.Direct(), c.step)
			at, more, datagram := offsets(t, frames)
			require.Equal(t, c.at, at)
			require.Equal(t, c.more, more)
			c.step.Packet.Fragments = nil
			if name != "a part" && at[0] != 16 {
				require.Equal(t, framesOf(t, testnet.Direct(), c.step)[0].Data[c.behind:], datagram)
			}
		})
	}
}

// TestFragmentsFit: what does not fit through the link whole may do so in pieces.
func TestFragmentsFit(t *testing.T) {
	long := []spec.Layer{layer("udp"), bytesOf(4000)}
	require.Len(t, framesOf(t, testnet.Direct(), inPieces(packetStep(over4, long...), 1480)), 3)
	for want, step := range map[string]spec.Step{
		"line 3: a frame of 1522 bytes does not fit through client/eth0: with its MTU of 1500, " +
			"1514 bytes do": inPieces(packetStep(over4, long...), 1488),
		"line 3: fragments: the packet has 3 of them, and no number 4": inPieces(
			packetStep(over4, long...), 1480, 4),
		"line 3: fragments: the packet has no IP header that can be read": inPieces(
			packetStep(over4, layer("ethernet"), bytesOf(40)), 8),
		"line 3: fragments of 12 bytes: want a multiple of 8": inPieces(
			packetStep(over4, long...), 12),
	} {
		_, err := collect(NewBuilder(testnet.Direct()), step)
		require.EqualError(t, err, want)
	}
}
