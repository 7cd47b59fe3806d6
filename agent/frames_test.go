package agent

import (
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// udp is a frame from the near end to the far end, or back.
func (p *pair) udp(t testing.TB, sport, dport uint16, payload int) []byte {
	h := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	ip := p.ip(layers.IPProtocolUDP)
	require.NoError(t, h.SetNetworkLayerForChecksum(ip))
	return p.frame(t, ip, h, gopacket.Payload(make([]byte, payload)))
}

// tcp is a frame from the near end to the far end with the flags S, A, F, R, P.
func (p *pair) tcp(t testing.TB, sport, dport uint16, flags string, seq, ack uint32) []byte {
	h := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: seq,
		Ack: ack, Window: 1000}
	kerneltest.SetFlags(h, flags)
	ip := p.ip(layers.IPProtocolTCP)
	require.NoError(t, h.SetNetworkLayerForChecksum(ip))
	return p.frame(t, ip, h)
}

func (p *pair) ip(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: p.nearIP, DstIP: p.farIP}
}

// frame puts a link header before the layers. The destination is not the far end's own address:
// its stack drops the frame after the hooks and answers nothing.
func (p *pair) frame(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(buf, opts, l...))
	nobody := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	header := append(append(append([]byte{}, nobody...), p.nearMAC...), 8, 0)
	return append(header, buf.Bytes()...)
}
