package traffic

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
)

// recorded is a scenario whose frames are made into a capture.
const recorded = `
summary: a capture is made of it
topology:
  a: {eth0: [192.168.1.7/24, fd00:1::7/64]}
  b: {eth0: [192.168.1.1/24, fd00:1::1/64]}
  links: [a/eth0 - b/eth0]
agent: {on: [b/eth0]}
traffic:
  - tcp: a:40000 > b:80
    client_isn: 1
    server_isn: 2
    script: |
      > SYN
      < SYN,ACK
      > PSH,ACK 99
  - udp: a:40000 > b:53
    vlans: [7]
    script: |
      > 100
      < unreachable port
  - udp: a:40000 > b:53
    family: ipv6
    script: |
      > 101
      < unreachable port
  - {packet: "a:1000 > b:53", layers: [{ipv4: {options: "01 01 01 00"}}, udp, {payload: 3000}], fragments: {size: 1400}}
  - {packet: "a:5353 > [ff02::fb]:5353", layers: [udp, {payload: 9}]}
  - {packet: "a:1 > b:2", family: ipv6, layers: [ipv6, {ipv6ext: {type: 60}}, udp, {payload: 9}]}
  - {packet: "b:1 > a:2", layers: [{udp: {checksum: 4660}}, {payload: 9}]}
  - {packet: a > b, layers: [{arp: {}}]}
`

// replaying is where the capture is replayed: hosts a and b, in the places of the recorded ones.
const replaying = `
summary: a capture is replayed
topology:
  a: {eth0: [10.0.0.1/24, fd00:9::1/64]}
  b: {eth0: [10.0.0.2/24, fd00:9::2/64]}
  links: [a/eth0 - b/eth0]
agent: {on: [b/eth0]}
traffic:
  - replay: x.pcap
    map: {192.168.1.7: a, 192.168.1.1: b, "fd00:1::7": a, "fd00:1::1": b}
    others: skip
`

func replayFrames(t testing.TB, text string, capture []byte) [][]byte {
	sc, err := spec.Parse("x.yaml", []byte(text))
	require.NoError(t, err)
	var all [][]byte
	for i := range sc.Steps {
		if sc.Steps[i].Replay != nil {
			sc.Steps[i].Replay.Data = capture
		}
		for f, err := range NewBuilder(&sc.Topology).Frames(&sc.Steps[i]) {
			require.NoError(t, err)
			all = append(all, bytes.Clone(f.Data))
		}
	}
	return all
}

func captureOf(t testing.TB, frames [][]byte) []byte {
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for _, f := range frames {
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0),
			CaptureLength: len(f), Length: len(f)}, f))
	}
	return b.Bytes()
}

// elsewhere is the recorded scenario with the addresses of the other one.
var elsewhere = strings.NewReplacer("192.168.1.7", "10.0.0.1", "192.168.1.1", "10.0.0.2",
	"fd00:1::7", "fd00:9::1", "fd00:1::1", "fd00:9::2")

// TestReplay checks that a replayed frame is, byte by byte, what the same step makes on the other
// topology: so checksums are right where they were, and wrong where they were wrong.
func TestReplay(t *testing.T) {
	got := replayFrames(t, replaying, captureOf(t, replayFrames(t, recorded, nil)))
	want := replayFrames(t, elsewhere.Replace(recorded), nil)
	want = want[:len(want)-1] // ARP is skipped
	require.Len(t, got, len(want))
	wrong := len(want) - 1 // its checksum says 4660 and is as far from right as before, not the same
	for i := range want {
		if i == wrong {
			at := 14 + 20 + 6
			require.NotEqual(t, want[i][at:at+2], got[i][at:at+2])
			copy(got[i][at:], want[i][at:at+2])
		}
		require.Equal(t, want[i], got[i], "frame %d", i+1)
	}
}

// TestReplayRefuses checks the frames that a map does not fit.
func TestReplayRefuses(t *testing.T) {
	capture := captureOf(t, replayFrames(t, recorded, nil))
	strict := strings.Replace(replaying, "    others: skip\n", "", 1)
	for text, want := range map[string]string{
		strict: "line 9: x.pcap: frame 14: it is not IP (type 0x0806): others: skip leaves such frames out",
		strings.Replace(strict, "192.168.1.1: b, ", "", 1): "frame 1: map does not name its destination 192.168.1.1",
		strings.Replace(strict, "192.168.1.7: a, ", "", 1): "frame 1: map does not name its source 192.168.1.7",
		strings.Replace(strict, "192.168.1.7: a, ", "192.168.1.7: 10.0.0.9, ", 1): "frame 1: its source " +
			"192.168.1.7 stands for 10.0.0.9, which no host has",
		strings.Replace(replaying, "192.168.1.7: a, 192.168.1.1: b, \"fd00:1::7\": a, \"fd00:1::1\": b",
			"192.168.1.9: a", 1): "has no frame that can be sent",
	} {
		sc, err := spec.Parse("x.yaml", []byte(text))
		require.NoError(t, err)
		sc.Steps[0].Replay.Data = capture
		require.ErrorContains(t, NewBuilder(&sc.Topology).Check(&sc.Steps[0]), want)
	}
}

// FuzzReaddress: no packet makes it reach beyond the packet, whatever lengths it claims.
func FuzzReaddress(f *testing.F) {
	for _, frame := range replayFrames(f, recorded, nil) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		at, err := network3(frame)
		if err != nil {
			return
		}
		readdress(frame[at:], func(a netip.Addr) netip.Addr { return a.Next() })
	})
}
