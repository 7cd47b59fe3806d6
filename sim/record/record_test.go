package record

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/topology"
	"github.com/weirnet/weir/sim/traffic"
)

const scenario = `summary: over a bridge
topology:
  client: {eth0: [10.0.0.1/24]}
  switch:
    br0: {bridge: [eth0, eth1]}
  server: {eth0: [10.0.0.2/24]}
  links: [client/eth0 - switch/eth0, switch/eth1 - server/eth0]
agent: {on: [server/eth0]}
traffic:
  - tcp: client:40000 > server:80
    script: |
      > SYN
      < SYN,ACK
  - packet: client > 10.0.0.255
    layers: [{udp: {src: 1, dst: 2}}]
`

// run plays the scenario, and records it.
func run(t *testing.T, dir string) {
	kerneltest.NeedRoot(t)
	sc, err := spec.Parse("record.yaml", []byte(scenario))
	require.NoError(t, err)
	net, err := topology.Build(sc, topology.Options{})
	require.NoError(t, err)
	defer net.Close()
	engine, err := traffic.New(sc, net)
	require.NoError(t, err)
	defer engine.Close()
	r, err := Open(dir, net, &sc.Topology)
	require.NoError(t, err)
	for i := range sc.Steps {
		require.NoError(t, engine.Run(context.Background(), &sc.Steps[i]))
		require.NoError(t, r.Save(int64(i+1)*1e9))
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
}

// frame is what a test wants to know of one.
type frame struct {
	from string // the interface's description
	time int64  // ns
	what gopacket.LayerType
}

func read(t *testing.T, file string) (frames []frame, interfaces []string) {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{})
	require.NoError(t, err)
	for {
		data, info, err := r.ReadPacketData()
		if err != nil {
			break
		}
		i, err := r.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
		frames = append(frames, frame{i.Description, info.Timestamp.UnixNano(), p.TransportLayer().LayerType()})
	}
	for n := range r.NInterfaces() {
		i, err := r.Interface(n)
		require.NoError(t, err)
		interfaces = append(interfaces, i.Description)
	}
	return frames, interfaces
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	run(t, dir)
	frames, interfaces := read(t, filepath.Join(dir, "client-eth0--switch-eth0.pcapng"))
	require.Equal(t, []string{"client/eth0", "switch/eth0"}, interfaces)
	require.Equal(t, []frame{
		{"client/eth0", 1_000_000_000, layers.LayerTypeTCP},
		{"switch/eth0", 1_000_000_001, layers.LayerTypeTCP},
		{"client/eth0", 2_000_000_000, layers.LayerTypeUDP},
	}, withoutGaps(frames))
	frames, _ = read(t, filepath.Join(dir, "switch-br0.pcapng"))
	require.Len(t, frames, 1) // the broadcast is for the bridge's host, too
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 3)
}

// withoutGaps counts the time from each second anew: frames on other links lie between.
func withoutGaps(frames []frame) []frame {
	second, n := int64(0), int64(0)
	for i := range frames {
		s := frames[i].time / 1e9
		if s != second {
			second, n = s, 0
		}
		frames[i].time = s*1e9 + n
		n++
	}
	return frames
}

// TestTshark reads the files with Wireshark's own reader.
func TestTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		kerneltest.Lacking(t, "tshark") // ci/install installs it
	}
	dir := t.TempDir()
	run(t, dir)
	out, err := exec.Command(tshark, "-r", filepath.Join(dir, "switch-eth1--server-eth0.pcapng"),
		"-T", "fields", "-e", "frame.interface_description", "-e", "tcp.flags.str", "-e", "udp.dstport").Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 3)
	require.True(t, strings.HasPrefix(lines[0], "switch/eth1\t"), lines[0])
	require.True(t, strings.HasPrefix(lines[1], "server/eth0\t"), lines[1])
	require.True(t, strings.HasSuffix(lines[2], "\t2"), lines[2])
}
