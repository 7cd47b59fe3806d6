package latency

import (
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// hooks are programs that stand for hooks: packets at the same one come again, packets at
// another are seen on their way.
type hooks [3]*ebpf.Program

type stubber interface {
	Stub(bpf.Hook, uint16) (*ebpf.Program, error)
}

func newHooks(t testing.TB, s stubber, l3 bool) (all hooks) {
	for i := range all {
		p, err := s.Stub(bpf.Hook{Zone: 7, L3: l3}, uint16(i+1))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		all[i] = p
	}
	return all
}

func (h hooks) send(t testing.TB, hook int, frame []byte) {
	t.Helper()
	out := make([]byte, len(frame)+256)
	// A run's result has no sign: -1 is what lets a packet pass.
	result, err := h[hook].Run(&ebpf.RunOptions{Data: frame, DataOut: out})
	require.NoError(t, err)
	require.EqualValues(t, 0xffffffff, result)
	require.Equal(t, frame, out[:len(frame)], "the packet was changed")
}

var (
	client4 = netip.MustParseAddrPort("10.0.0.1:40000")
	server4 = netip.MustParseAddrPort("10.0.0.2:53")
	client6 = netip.MustParseAddrPort("[2001:db8::1]:40000")
	server6 = netip.MustParseAddrPort("[2001:db8::2]:53")
)

// frame is a packet from a to b. Layers in between stand behind the IP header.
func frame(t testing.TB, a, b netip.AddrPort, transport gopacket.SerializableLayer,
	payload []byte) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6)}
	proto := layers.IPProtocolUDP
	if _, tcp := transport.(*layers.TCP); tcp {
		proto = layers.IPProtocolTCP
	}
	var ip gopacket.SerializableLayer
	if a.Addr().Is4() {
		eth.EthernetType = layers.EthernetTypeIPv4
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: proto,
			SrcIP: a.Addr().AsSlice(), DstIP: b.Addr().AsSlice()}
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto,
			SrcIP: a.Addr().AsSlice(), DstIP: b.Addr().AsSlice()}
	}
	buf := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		eth, ip, transport, gopacket.Payload(payload)))
	return buf.Bytes()
}

func udp(t testing.TB, a, b netip.AddrPort, payload []byte) []byte {
	return frame(t, a, b, &layers.UDP{SrcPort: layers.UDPPort(a.Port()),
		DstPort: layers.UDPPort(b.Port())}, payload)
}

// tcp is a segment; flags are given as in "SA".
func tcp(t testing.TB, a, b netip.AddrPort, flags string, seq, ack uint32, payload []byte) []byte {
	h := &layers.TCP{SrcPort: layers.TCPPort(a.Port()), DstPort: layers.TCPPort(b.Port()),
		Seq: seq, Ack: ack, DataOffset: 5}
	kerneltest.SetFlags(h, flags)
	return frame(t, a, b, h, payload)
}

// tagged puts VLAN tags behind the link addresses.
func tagged(frame []byte, tags int) []byte {
	for range tags {
		frame = append(append(append([]byte{}, frame[:12]...), 0x81, 0, 0, 7), frame[12:]...)
	}
	return frame
}

// TestVerifierEffort keeps the programs from becoming ones that another kernel's verifier gives
// up on.
func TestVerifierEffort(t *testing.T) {
	kerneltest.NeedRoot(t)
	for _, name := range Features() {
		n, err := VerifierEffort(name)
		require.NoError(t, err)
		t.Logf("%s: %d instructions walked", name, n)
		require.Positive(t, n)
		require.Less(t, n, 10000, name)
	}
}

func TestProbe(t *testing.T) {
	kerneltest.NeedRoot(t)
	for _, name := range Features() {
		require.NoError(t, Probe(name))
	}
}
