package capture_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/capture"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// handshake is a conversation of ten packets, as in the design's example.
func handshake(client, server spec.Endpoint) spec.Step {
	line := func(server bool, flags flow.TCPFlags, n int) spec.Segment {
		return spec.Segment{FromServer: server, Flags: flags, Payload: n, Repeat: 1}
	}
	return spec.Step{Line: 1, TCP: &spec.TCP{Client: client, Server: server, Script: []spec.Segment{
		line(false, flow.SYN, 0), line(true, flow.SYN|flow.ACK, 0), line(false, flow.ACK, 0),
		line(false, flow.PSH|flow.ACK, 120), line(true, flow.ACK, 0),
		line(true, flow.PSH|flow.ACK, 1400), line(false, flow.ACK, 0),
		line(false, flow.FIN|flow.ACK, 0), line(true, flow.FIN|flow.ACK, 0),
		line(false, flow.ACK, 0)}}}
}

func TestConversationIsSeenInOrder(t *testing.T) {
	b := newBench(t, testnet.Direct(), port("server", "eth0"))
	packets := b.run(handshake(endpoint("client", "10.0.0.1", 40000),
		endpoint("server", "10.0.0.2", 80)))

	in, out := hook("server", "eth0", flow.Ingress), hook("server", "eth0", flow.Egress)
	var hooks []flow.Hook
	for _, p := range packets {
		hooks = append(hooks, p.Hook)
	}
	require.Equal(t, []flow.Hook{in, out, in, in, out, out, in, in, out, in}, hooks)
	require.Equal(t, map[flow.Hook]capture.Total{in: {Packets: 6, Bytes: 444},
		out: {Packets: 4, Bytes: 1616}}, capture.Totals(packets))
}

func TestTagsArePutBack(t *testing.T) {
	b := newBench(t, testnet.Direct(), all(testnet.Direct())...)
	packets := b.run(spec.Step{Line: 1, UDP: &spec.UDP{VLANs: []uint16{100, 7},
		Client: endpoint("client", "10.0.0.1", 1), Server: endpoint("server", "10.0.0.2", 2),
		Script: []spec.Datagram{{Payload: 5}, {FromServer: true, Payload: 6}}}})
	require.Len(t, packets, 4)
	for i := range 2 {
		left, arrived := packets[2*i], packets[2*i+1]
		require.Equal(t, flow.Egress, left.Hook.Direction)
		require.Equal(t, flow.Ingress, arrived.Hook.Direction)
		require.Equal(t, left.Frame, arrived.Frame)
		require.Equal(t, "88a80064810000070800", hexOf(arrived.Frame[12:22]))
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for _, x := range b {
		s = append(s, digits[x>>4], digits[x&15])
	}
	return string(s)
}

// TestOrderOverRouters sends numbered packets both ways over two routers, with all hooks
// watched: every packet passes its six hooks in order before the next one starts.
func TestOrderOverRouters(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b := newBench(t, testnet.Routed(), all(testnet.Routed())...)
		client, server := endpoint("client", "10.0.1.2", 1), endpoint("server", "10.0.2.2", 2)
		size := 14 + 20 + 8
		if v6 {
			client, server = endpoint("client", "fd00:1::2", 1), endpoint("server", "fd00:2::2", 2)
			size += 20
		}
		var script []spec.Datagram
		for i := range 200 {
			script = append(script, spec.Datagram{Payload: i, FromServer: i%3 == 0})
		}
		packets := b.run(spec.Step{Line: 1,
			UDP: &spec.UDP{Client: client, Server: server, Script: script}})
		require.Len(t, packets, 6*len(script))
		path := []flow.Hook{hook("client", "eth0", flow.Egress), hook("r1", "a", flow.Ingress),
			hook("r1", "b", flow.Egress), hook("r2", "a", flow.Ingress),
			hook("r2", "b", flow.Egress), hook("server", "eth0", flow.Ingress)}
		for i, p := range packets {
			n := i / 6
			require.Len(t, p.Frame, size+n, "packet %d", i)
			want := path[i%6]
			if script[n].FromServer {
				want = turned(path[5-i%6])
			}
			require.Equal(t, want, p.Hook, "packet %d", i)
		}
	}
}

func turned(h flow.Hook) flow.Hook {
	if h.Direction == flow.Egress {
		h.Direction = flow.Ingress
	} else {
		h.Direction = flow.Egress
	}
	return h
}

func TestBridgeFloodsAndLearns(t *testing.T) {
	b := newBench(t, testnet.Bridged(), all(testnet.Bridged())...)
	step := spec.Step{Line: 1, UDP: &spec.UDP{Client: endpoint("a", "10.0.0.1", 1),
		Server: endpoint("b", "10.0.0.2", 2),
		Script: []spec.Datagram{{Payload: 1}, {Payload: 2, FromServer: true}, {Payload: 3}}}}
	totals := capture.Totals(b.run(step))
	require.EqualValues(t, 2, totals[hook("b", "eth0", flow.Ingress)].Packets)
	require.EqualValues(t, 1, totals[hook("a", "eth0", flow.Ingress)].Packets)
	// Only the first packet is flooded: b is not known yet.
	require.EqualValues(t, 1, totals[hook("c", "eth0", flow.Ingress)].Packets)
	require.EqualValues(t, 1, totals[hook("sw", "p3", flow.Egress)].Packets)
}

func TestPing(t *testing.T) {
	for _, ends := range [][2]string{{"10.0.1.2", "10.0.2.2"}, {"fd00:1::2", "fd00:2::2"}} {
		b := newBench(t, testnet.Routed(), port("r1", "a"), port("r1", "b"))
		packets := b.run(spec.Step{Line: 1, Ping: &spec.Ping{From: endpoint("client", ends[0], 0),
			To: endpoint("server", ends[1], 0), ID: 7, Count: 3, Payload: 56, Reply: true}})
		require.Len(t, packets, 3*2*2)
	}
}

// TestKernelAnswers has the kernel of a host with a stack answer scripted requests: what it sends
// in softirq is over when Run returns.
func TestKernelAnswers(t *testing.T) {
	topology := testnet.Direct()
	topology.Hosts[1].Stack = true
	b := newBench(t, topology, all(topology)...)
	for range 100 {
		packets := b.run(spec.Step{Line: 1, Ping: &spec.Ping{From: endpoint("client", "10.0.0.1", 0),
			To: endpoint("server", "10.0.0.2", 0), ID: 7, Count: 5, Payload: 56}})
		require.Len(t, packets, 5*4)
	}
}

func TestBurst(t *testing.T) {
	b := newBench(t, testnet.Routed(), all(testnet.Routed())...)
	packets := b.run(spec.Step{Line: 1, Burst: &spec.Burst{From: endpoint("client", "10.0.1.2", 0),
		To: endpoint("server", "10.0.2.2", 0), Flows: 2000, Packets: 10, Seed: 1}})
	totals := capture.Totals(packets)
	sent := totals[hook("client", "eth0", flow.Egress)].Packets
	answered := totals[hook("server", "eth0", flow.Egress)].Packets
	require.Greater(t, sent, uint64(4000))
	require.Greater(t, answered, uint64(2000))
	require.Equal(t, int(sent+answered)*6, len(packets))
	for _, h := range []flow.Hook{hook("r1", "b", flow.Egress), hook("server", "eth0", flow.Ingress)} {
		require.Equal(t, sent, totals[h].Packets, "%s", h)
		require.Equal(t, answered, totals[turned(h)].Packets, "%s", turned(h))
	}
}

func TestRealSockets(t *testing.T) {
	topology := testnet.Routed()
	for i := range topology.Hosts {
		topology.Hosts[i].Stack = true
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, ends := range [][2]string{{"10.0.1.2", "10.0.2.2"}, {"fd00:1::2", "fd00:2::2"}} {
			b := newBench(t, topology, all(topology)...)
			packets := b.run(spec.Step{Line: 1, Socket: &spec.Socket{Network: network,
				From: endpoint("client", ends[0], 40000), To: endpoint("server", ends[1], 80),
				Bytes: 300000, Reply: 5000}})
			totals := capture.Totals(packets)
			left := totals[hook("client", "eth0", flow.Egress)]
			require.Equal(t, left, totals[hook("server", "eth0", flow.Ingress)])
			require.Greater(t, left.Bytes, uint64(300000))
			require.Zero(t, len(packets)%6)
			if network == "tcp" {
				checkClose(t, packets)
			}
		}
	}
}

// checkClose requires that a TCP connection ends with FIN, FIN and the last ACK.
func checkClose(t *testing.T, packets []capture.Packet) {
	var flags []byte
	for _, p := range packets {
		if p.Hook != hook("r1", "a", flow.Ingress) && p.Hook != hook("r1", "a", flow.Egress) {
			continue
		}
		header := 14 + 20
		if binary.BigEndian.Uint16(p.Frame[12:]) == 0x86dd {
			header = 14 + 40
		}
		flags = append(flags, p.Frame[header+13])
	}
	const fin = byte(flow.FIN)
	require.NotZero(t, fin&flags[len(flags)-2])
	require.Equal(t, byte(flow.ACK), flags[len(flags)-1])
}
