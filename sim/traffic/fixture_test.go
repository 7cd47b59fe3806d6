package traffic

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// framesOf builds a step on a topology.
func framesOf(t *testing.T, topology *spec.Topology, step spec.Step) []Frame {
	t.Helper()
	frames, err := collect(NewBuilder(topology), step)
	require.NoError(t, err)
	return frames
}

func collect(b *Builder, step spec.Step) (frames []Frame, err error) {
	for f, err := range b.Frames(&step) {
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// packetStep sends the layers from client to server.
func packetStep(addresses [2]string, list ...spec.Layer) spec.Step {
	return spec.Step{Line: 3, Packet: &spec.Packet{Layers: list, Count: 1,
		From: testnet.Endpoint("client", addresses[0], 1111),
		To:   testnet.Endpoint("server", addresses[1], 2222)}}
}

func layer(kind string, fields ...any) spec.Layer {
	l := spec.Layer{Kind: kind, Fields: map[string]any{}, Line: 4}
	for i := 0; i+1 < len(fields); i += 2 {
		l.Fields[fields[i].(string)] = fields[i+1]
	}
	return l
}

var (
	over4 = [2]string{"10.0.0.1", "10.0.0.2"}
	over6 = [2]string{"fd00::1", "fd00::2"}
)

func decode(t *testing.T, frame []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if p.TransportLayer() == nil { // what stands behind the ports is pattern, whatever they say
		require.Nil(t, p.ErrorLayer(), "%x", frame)
	}
	return p
}

// requireSound requires that all lengths and checksums are what gopacket computes for the same
// packet: an implementation that is not ours.
func requireSound(t *testing.T, frame []byte) {
	t.Helper()
	p := decode(t, frame)
	var list []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			require.NoError(t, l.SetNetworkLayerForChecksum(p.NetworkLayer()))
		case *layers.UDP:
			require.NoError(t, l.SetNetworkLayerForChecksum(p.NetworkLayer()))
		case *layers.ICMPv6:
			require.NoError(t, l.SetNetworkLayerForChecksum(p.NetworkLayer()))
		}
		s, ok := l.(gopacket.SerializableLayer)
		require.True(t, ok, "%s cannot be serialized", l.LayerType())
		list = append(list, s)
		if l == p.TransportLayer() {
			list = append(list, gopacket.Payload(l.LayerPayload()))
			break
		}
		if _, ok := l.(*layers.ICMPv6Echo); ok { // gopacket stops there
			data := p.Layer(layers.LayerTypeICMPv6).LayerPayload()[4:]
			list = append(list, gopacket.Payload(data))
		}
	}
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(b, options, list...))
	want := b.Bytes() // gopacket pads to 60 bytes
	if u, ok := p.TransportLayer().(*layers.UDP); ok && u.Checksum == 0 {
		at := len(frame) - len(u.Payload) - 2
		want[at], want[at+1] = 0xff, 0xff // RFC 768; gopacket makes it 0
	}
	require.Equal(t, want[:min(len(want), len(frame))], frame)
}
