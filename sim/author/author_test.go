package author

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/lint"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
)

// TestTemplates: a template is a scenario without a mistake, and tells editors its schema.
func TestTemplates(t *testing.T) {
	require.Greater(t, len(Templates()), 5)
	for _, name := range Templates() {
		text, err := Template(name)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(text, []byte(Modeline)), name)
		problems, err := lint.Check([]runner.Job{{Name: name, File: name + ".yaml", Spec: text}})
		require.NoError(t, err)
		require.Len(t, problems, 1, "%v", problems) // there is no golden file
	}
	_, err := Template("tpc")
	require.ErrorContains(t, err, `there is no template "tpc": known are bridge, `)
}

func TestFile(t *testing.T) {
	for name, want := range map[string]string{
		"tcp/my-scenario": "scenarios/tcp/my-scenario.yaml", "one": "scenarios/one.yaml",
		"docs/x/../one.yaml": "docs/one.yaml", "/tmp/A.yaml": "/tmp/A.yaml",
		"Tcp": "", "../x": "", "": "", "a//b": "", "a b": "",
	} {
		file, err := File(name)
		require.Equal(t, want, file)
		require.Equal(t, want == "", err != nil, name)
	}
}

func TestWriteKeepsFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "b.yaml")
	require.NoError(t, Write(file, []byte("one")))
	require.ErrorIs(t, Write(file, []byte("two")), os.ErrExist)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "one", string(text))
}

// frames are what a scenario's steps send, a second apart from step to step where time passes.
func frames(t testing.TB, sc *spec.Scenario) (all [][]byte, at []time.Duration) {
	b, now := traffic.NewBuilder(&sc.Topology), time.Second
	for i := range sc.Steps {
		now += sc.Steps[i].Advance
		for f, err := range b.Frames(&sc.Steps[i]) {
			require.NoError(t, err)
			all, at = append(all, f.Data), append(at, now)
		}
	}
	return all, at
}

func capture(t testing.TB, all [][]byte, at []time.Duration) []byte {
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for i, f := range all {
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, int64(at[i])),
			CaptureLength: len(f), Length: len(f)}, f))
	}
	return b.Bytes()
}

// shape is what a frame keeps on its way through a capture: all but addresses and what scripts have
// no words for.
func shape(frame []byte, bases map[string]uint32) string {
	p := dissect(frame)
	s := fmt.Sprintf("%d bytes, protocol %d", p.size(), p.protocol())
	for _, v := range p.vlans {
		s += fmt.Sprintf(", vlan %d", v.VLANIdentifier)
	}
	if ip, ok := p.ip.(*layers.IPv4); ok {
		s += fmt.Sprintf(", fragment %d %v", ip.FragOffset, ip.Flags&layers.IPv4MoreFragments)
	}
	if h, ok := transport(p.payload(), &layers.TCP{}); ok && p.protocol() == layers.IPProtocolTCP && p.plain() {
		// Numbers are relative to the first of each side.
		me := fmt.Sprint(p.src.Is4(), h.SrcPort, ">", h.DstPort)
		peer := fmt.Sprint(p.src.Is4(), h.DstPort, ">", h.SrcPort)
		if _, ok := bases[me]; !ok {
			bases[me] = h.Seq
		}
		s += fmt.Sprintf(", %v>%v %v seq %d", h.SrcPort, h.DstPort, flags(h), h.Seq-bases[me])
		if _, ok := bases[peer]; ok && h.ACK {
			s += fmt.Sprintf(" ack %d", h.Ack-bases[peer])
		}
	}
	return s
}

// shapes sorts frames: conversations that were mixed are not any more.
func shapes(all [][]byte) []string {
	bases := map[string]uint32{}
	var s []string
	for _, f := range all {
		s = append(s, shape(f, bases))
	}
	slices.SortFunc(s, cmp.Compare[string])
	return s
}

// sendsBare tells whether frames of the host may begin with their IP header.
func sendsBare(h spec.Host) bool {
	return !h.Forward && slices.ContainsFunc(h.Interfaces, func(i spec.Interface) bool { return i.Kind.L3() })
}

// TestRoundTrip turns the frames of all scenarios into captures, those into scenarios, and compares
// the frames that these send.
func TestRoundTrip(t *testing.T) {
	files, err := filepath.Glob("../../scenarios/*/*.yaml")
	require.NoError(t, err)
	compared := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		sc, err := spec.Parse(file, text)
		require.NoError(t, err)
		if slices.ContainsFunc(sc.Topology.Hosts, func(h spec.Host) bool { return len(h.NAT) > 0 }) {
			continue // a capture does not tell which addresses a router has translated
		}
		if slices.ContainsFunc(sc.Topology.Hosts, sendsBare) {
			continue // what is made of the capture has Ethernet headers
		}
		if slices.ContainsFunc(sc.Steps, func(s spec.Step) bool { return s.Replay != nil }) {
			continue // it is made of a capture itself
		}
		want, at := frames(t, sc)
		if len(want) == 0 || len(want) > maxFrames {
			continue
		}
		t.Run(sc.Name, func(t *testing.T) {
			made, err := FromCapture(sc.Name, bytes.NewReader(capture(t, want, at)))
			require.NoError(t, err)
			require.Equal(t, len(want), made.Frames)
			again, err := spec.Parse("again.yaml", made.Text)
			require.NoError(t, err)
			got, _ := frames(t, again)
			require.Len(t, got, made.Taken, "%s", made.Text)
			if made.Taken == made.Frames && !strings.Contains(string(made.Text), "malformed") {
				compared++
				require.Equal(t, shapes(want), shapes(got), "%s", made.Text)
			}
		})
	}
	require.Greater(t, compared, 30)
}

// TestNotes: what is no part of a scenario is told.
func TestNotes(t *testing.T) {
	arp := append(bytes.Repeat([]byte{0xff}, 12), 8, 6)
	tcp := make([]byte, 14+20+24)
	tcp[12], tcp[14], tcp[17], tcp[23], tcp[26], tcp[30] = 8, 0x45, 44, 6, 192, 192
	tcp[29], tcp[33], tcp[35], tcp[37], tcp[46], tcp[47] = 1, 2, 9, 80, 6<<4, 2 // a SYN with an option
	tcp[54], tcp[55] = 1, 1
	made, err := FromCapture("x", bytes.NewReader(capture(t, [][]byte{arp, arp, tcp},
		[]time.Duration{0, 0, 0})))
	require.NoError(t, err)
	require.Equal(t, 1, made.Taken)
	require.Equal(t, 3, made.Frames)
	require.Equal(t, []string{"left out: 2 frames that are not IP (ARP): hosts of a scenario need none",
		"changed: TCP options are not sent (1 packets)"}, made.Notes)
	require.Contains(t, string(made.Text), "  client: {eth0: [10.0.0.1/16]}  # 192.0.0.1\n")
	require.Contains(t, string(made.Text), "  - tcp: client:9 > server:80\n    script: |\n      > SYN\n")
	for what, data := range map[string][]byte{
		"shorter than the header": {1}, "nothing that a scenario can send": capture(t, [][]byte{arp}, make([]time.Duration, 1)),
		"read the capture": bytes.Repeat([]byte("x"), 100)} {
		_, err := FromCapture("x", bytes.NewReader(data))
		require.ErrorContains(t, err, what)
	}
}

// FuzzFromCapture: a scenario that is made can be read; what cannot be made is an error.
func FuzzFromCapture(f *testing.F) {
	for _, file := range []string{"tcp/retransmission", "udp/malformed", "icmp/port-unreachable", "l2/qinq"} {
		text, err := os.ReadFile("../../scenarios/" + file + ".yaml")
		require.NoError(f, err)
		sc, err := spec.Parse(file, text)
		require.NoError(f, err)
		all, at := frames(f, sc)
		f.Add(capture(f, all, at))
	}
	f.Add(append([]byte{0x0a, 0x0d, 0x0d, 0x0a}, make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		made, err := FromCapture("x", bytes.NewReader(data))
		if err != nil {
			return
		}
		_, err = spec.Parse("x.yaml", made.Text)
		require.NoError(t, err, "%s", made.Text)
	})
}
