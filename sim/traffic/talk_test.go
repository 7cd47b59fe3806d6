package traffic

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// script reads lines like "> PSH|ACK 120 seq=1 ack=1 x2" into segments.
func script(t *testing.T, text string) (list []spec.Segment) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		flags, err := flow.ParseTCPFlags(words[1])
		require.NoError(t, err)
		s := spec.Segment{Line: 10 + i, FromServer: words[0] == "<", Flags: flags, Repeat: 1}
		for _, w := range words[2:] {
			var n uint32
			switch {
			case strings.HasPrefix(w, "seq="):
				fmt.Sscanf(w, "seq=%d", &n)
				s.Seq = &n
			case strings.HasPrefix(w, "ack="):
				fmt.Sscanf(w, "ack=%d", &n)
				s.Ack = &n
			case strings.HasPrefix(w, "x"):
				fmt.Sscanf(w, "x%d", &s.Repeat)
			default:
				fmt.Sscanf(w, "%d", &s.Payload)
			}
		}
		list = append(list, s)
	}
	return list
}

// tcpScripts are conversations, and what they send: flags, and numbers relative to the ISNs.
var tcpScripts = map[string]struct{ script, want string }{
	"request and response": {`
			> SYN
			< SYN,ACK
			> ACK
			> PSH,ACK 120
			< ACK
			< PSH,ACK 1400
			> ACK
			> FIN,ACK
			< FIN,ACK
			> ACK`, `
			> SYN 0 0
			< SYN|ACK 0 1
			> ACK 1 1
			> PSH|ACK 1 1
			< ACK 1 121
			< PSH|ACK 1 121
			> ACK 121 1401
			> FIN|ACK 121 1401
			< FIN|ACK 1401 122
			> ACK 122 1402`},
	"retransmissions": {`
			> SYN x2
			< SYN,ACK x2
			> PSH,ACK 10 x2
			> PSH,ACK 10 seq=11
			> FIN,ACK 5 x2
			> ACK`, `
			> SYN 0 0
			> SYN 0 0
			< SYN|ACK 0 1
			< SYN|ACK 0 1
			> PSH|ACK 1 1
			> PSH|ACK 11 1
			> PSH|ACK 11 1
			> FIN|ACK 21 1
			> FIN|ACK 21 1
			> ACK 27 1`},
	"new connection on the same ports": {`
			> SYN
			< SYN,ACK
			< PSH,ACK 100
			> SYN seq=70000
			< SYN,ACK
			> ACK`, `
			> SYN 0 0
			< SYN|ACK 0 1
			< PSH|ACK 1 1
			> SYN 70000 0
			< SYN|ACK 0 70001
			> ACK 70001 1`},
	"simultaneous open, overridden ack": {`
			> SYN
			< SYN
			> SYN,ACK
			< SYN,ACK ack=7
			> RST`, `
			> SYN 0 0
			< SYN 0 0
			> SYN|ACK 0 1
			< SYN|ACK 0 7
			> RST 1 0`},
}

func TestTCPScripts(t *testing.T) {
	for name, c := range tcpScripts {
		for _, over := range [][2]string{over4, over6} {
			t.Run(name, func(t *testing.T) {
				step := spec.Step{Line: 3, TCP: &spec.TCP{ClientISN: 0xfffffff0, ServerISN: 5000,
					Client: testnet.Endpoint("client", over[0], 40000),
					Server: testnet.Endpoint("server", over[1], 80), Script: script(t, c.script)}}
				var got []string
				for _, f := range framesOf(t, testnet.Direct(), step) {
					requireSound(t, f.Data)
					got = append(got, describe(t, f, 0xfffffff0, 5000))
				}
				require.Equal(t, strings.Fields(c.want), strings.Fields(strings.Join(got, " ")))
			})
		}
	}
}

// describe is "direction flags seq ack", with numbers relative to the ISNs.
func describe(t *testing.T, f Frame, client, server uint32) string {
	h := decode(t, f.Data).Layer(layers.LayerTypeTCP).(*layers.TCP)
	flags, direction := flow.TCPFlags(h.Contents[13]), ">"
	mine, other := client, server
	if f.Host == "server" {
		direction, mine, other = "<", server, client
	}
	ack := h.Ack
	if h.ACK {
		ack -= other
	}
	return fmt.Sprintf("%s %s %d %d", direction, flags, h.Seq-mine, ack)
}

func TestDerivedISNs(t *testing.T) {
	step := spec.Step{Line: 3, TCP: &spec.TCP{Client: testnet.Endpoint("client", "10.0.0.1", 40000),
		Server: testnet.Endpoint("server", "10.0.0.2", 80), Script: script(t, "> SYN\n< SYN,ACK")}}
	first, again := framesOf(t, testnet.Direct(), step), framesOf(t, testnet.Direct(), step)
	require.Equal(t, first, again)
	require.NotEqual(t, first[0].Data[38:42], first[1].Data[38:42])
	step.TCP.Client.Port++
	require.NotEqual(t, first[0].Data[38:42], framesOf(t, testnet.Direct(), step)[0].Data[38:42])
}

func TestUDPErrorsCiteTheDatagram(t *testing.T) {
	for _, over := range [][2]string{over4, over6} {
		for name, e := range icmpErrors {
			step := spec.Step{Line: 3, UDP: &spec.UDP{VLANs: []uint16{5},
				Client: testnet.Endpoint("client", over[0], 1000),
				Server: testnet.Endpoint("server", over[1], 53),
				Script: []spec.Datagram{{Payload: 30}, {FromServer: true, Payload: 40},
					{Payload: 1400}, {FromServer: true, Unreachable: name, Repeat: 2}}}}
			frames := framesOf(t, testnet.Direct(), step)
			require.Len(t, frames, 5)
			require.Equal(t, "server", frames[4].Host)
			require.Equal(t, frames[3].Data[38:], frames[4].Data[38:])
			data, cited := frames[4].Data, frames[2].Data[18:]
			if over == over4 {
				require.Equal(t, hex.EncodeToString(cited[:28]), hex.EncodeToString(data[18+20+8:]))
				require.Equal(t, []byte{e.typ4, e.code4}, data[18+20:18+20+2])
			} else {
				require.Equal(t, hex.EncodeToString(cited[:maxCited6]), hex.EncodeToString(data[18+40+8:]))
				require.Equal(t, []byte{e.typ6, e.code6}, data[18+40:18+40+2])
				require.Len(t, data, 18+1280)
			}
			require.EqualValues(t, 0, checksumOf(t, data))
		}
	}
}

// checksumOf verifies the ICMP checksum of a tagged frame; 0 is right.
func checksumOf(t *testing.T, frame []byte) uint16 {
	p := decode(t, frame)
	if ip := p.Layer(layers.LayerTypeIPv6); ip != nil {
		six := ip.(*layers.IPv6)
		src, _ := netip.AddrFromSlice(six.SrcIP)
		dst, _ := netip.AddrFromSlice(six.DstIP)
		return pseudoChecksum(six.Payload, 58, place{src: src, dst: dst})
	}
	return checksum(0, p.Layer(layers.LayerTypeIPv4).LayerPayload())
}

func TestPings(t *testing.T) {
	for _, over := range [][2]string{over4, over6} {
		frames := framesOf(t, testnet.Direct(), spec.Step{Line: 3, Ping: &spec.Ping{ID: 77, Count: 2,
			From: testnet.Endpoint("client", over[0], 0), To: testnet.Endpoint("server", over[1], 0),
			Payload: 56, Reply: true}})
		require.Len(t, frames, 4)
		for i, f := range frames {
			requireSound(t, f.Data)
			require.Equal(t, []string{"client", "server"}[i%2], f.Host)
			p := decode(t, f.Data)
			if echo, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
				require.EqualValues(t, []uint16{77, uint16(i/2 + 1)}, []uint16{echo.Identifier, echo.SeqNumber})
				continue
			}
			echo := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			require.EqualValues(t, []uint16{77, uint16(i/2 + 1)}, []uint16{echo.Id, echo.Seq})
		}
	}
}

func TestNobodyAnswersForAnAddressWithoutHost(t *testing.T) {
	step := spec.Step{Line: 3, UDP: &spec.UDP{Client: testnet.Endpoint("client", "10.0.0.1", 1),
		Server: testnet.Endpoint("", "10.0.0.77", 2), Script: []spec.Datagram{{Line: 4}}}}
	frames := framesOf(t, testnet.Direct(), step)
	require.Equal(t, "020000000002", hex.EncodeToString(frames[0].Data[:6]), "the only station there")
	step.UDP.Script = append(step.UDP.Script, spec.Datagram{Line: 5, FromServer: true})
	_, err := collect(NewBuilder(testnet.Direct()), step)
	require.EqualError(t, err, "line 5: 10.0.0.77 belongs to no host, so nobody can answer from it")
}

func TestBurstProperties(t *testing.T) {
	step := spec.Step{Line: 3, Burst: &spec.Burst{From: testnet.Endpoint("client", "10.0.0.1", 0),
		To: testnet.Endpoint("server", "10.0.0.2", 0), Flows: 1000, Packets: 12, Seed: 42}}
	frames := framesOf(t, testnet.Direct(), step)
	require.Equal(t, frames, framesOf(t, testnet.Direct(), step))
	require.True(t, frames[len(frames)-1].Wait)

	flows := map[string][]Frame{}
	answered := map[string]bool{} // flows that an answer may wait for
	for i, f := range frames {
		requireSound(t, f.Data)
		p := decode(t, f.Data)
		network, transport := p.NetworkLayer().NetworkFlow(), p.TransportLayer().TransportFlow()
		a := fmt.Sprint(network.Src(), transport.Src())
		z := fmt.Sprint(network.Dst(), transport.Dst())
		key := p.TransportLayer().LayerType().String() + min(a, z) + max(a, z)
		if before := flows[key]; len(before) > 0 && before[len(before)-1].Host != f.Host {
			require.True(t, answered[key], "frame %d answers what is still under way", i)
		}
		flows[key] = append(flows[key], f)
		answered[key] = false
		if f.Wait {
			for k := range flows {
				answered[k] = true
			}
		}
	}
	require.Len(t, flows, 1000)
	kinds := map[string]int{}
	for key, list := range flows {
		require.LessOrEqual(t, len(list), 12)
		kinds[key[:3]+list[0].Host]++
		if key[:3] == "TCP" {
			require.Equal(t, flow.SYN, flow.TCPFlags(list[0].Data[47]))
			require.Equal(t, flow.ACK, flow.TCPFlags(list[len(list)-1].Data[47]))
			require.GreaterOrEqual(t, len(list), wholeTCP)
		}
	}
	require.Len(t, kinds, 4, "both protocols, both directions")
	step.Burst.Seed++
	require.NotEqual(t, frames, framesOf(t, testnet.Direct(), step))
}

func TestBurstOfOneProtocolAndShortFlows(t *testing.T) {
	kinds := map[string]gopacket.LayerType{"tcp": layers.LayerTypeTCP,
		"udp": layers.LayerTypeUDP}
	for protocol, kind := range kinds {
		frames := framesOf(t, testnet.Direct(), spec.Step{Line: 3, Burst: &spec.Burst{
			From: testnet.Endpoint("client", "fd00::1", 0), To: testnet.Endpoint("server", "fd00::2", 0),
			Flows: 300, Packets: 1, Protocol: protocol}})
		require.Len(t, frames, 300)
		for _, f := range frames {
			require.NotNil(t, decode(t, f.Data).Layer(kind))
		}
	}
}

// TestConsumerMayStop: a frame loop that ends early ends the step.
func TestConsumerMayStop(t *testing.T) {
	step := packetStep(over4, layer("udp"))
	step.Packet.Count = 5
	n := 0
	for _, err := range NewBuilder(testnet.Direct()).Frames(&step) {
		require.NoError(t, err)
		if n++; n == 2 {
			break
		}
	}
	require.Equal(t, 2, n)
}

// TestTranslatedTalk: the server answers to what it sees, and cites what it sees.
func TestTranslatedTalk(t *testing.T) {
	sc, err := spec.Parse("nat.yaml", []byte(`summary: masquerading
topology:
  client: {eth0: [10.0.1.1/24]}
  router:
    forward: true
    eth0: [10.0.1.254/24]
    eth1: [10.0.2.254/24]
    nat: [masquerade out eth1, "dnat udp 203.0.113.1:53 to 10.0.2.2:5353"]
  server: {eth0: [10.0.2.2/24]}
  links: [client/eth0 - router/eth0, router/eth1 - server/eth0]
agent: {on: [router/eth0]}
traffic:
  - udp: client:1000 > 203.0.113.1:53
    translated: router:1000 > server:5353
    script: |
      > 10
      < 20
      < unreachable port
  - tcp: client:1000 > server:80
    translated: router:2000 > server:80
    script: |
      > SYN
      < SYN,ACK
  - ping: client > server
    translated: router > server
`))
	require.NoError(t, err)
	var got []string
	for _, step := range sc.Steps {
		for _, f := range framesOf(t, &sc.Topology, step) {
			requireSound(t, f.Data)
			p := decode(t, f.Data)
			text := f.Host + " " + p.NetworkLayer().NetworkFlow().String()
			if p.TransportLayer() != nil {
				text += " " + p.TransportLayer().TransportFlow().String()
			}
			if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && icmp.TypeCode.Type() == 3 {
				cited := gopacket.NewPacket(icmp.Payload, layers.LayerTypeIPv4, gopacket.Default)
				text += " about " + cited.NetworkLayer().NetworkFlow().String()
			}
			got = append(got, text)
		}
	}
	require.Equal(t, []string{
		"client 10.0.1.1->203.0.113.1 1000->53",
		"server 10.0.2.2->10.0.2.254 5353->1000",
		"server 10.0.2.2->10.0.2.254 about 10.0.2.254->10.0.2.2",
		"client 10.0.1.1->10.0.2.2 1000->80",
		"server 10.0.2.2->10.0.2.254 80->2000",
		"client 10.0.1.1->10.0.2.2",
		"server 10.0.2.2->10.0.2.254",
	}, got)
}
