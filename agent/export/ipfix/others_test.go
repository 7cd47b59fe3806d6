package ipfix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/export/sinktest"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/collector"
)

// tool finds a program that ci/install installs.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		kerneltest.Lacking(t, name)
	}
	return path
}

// samples are records of all shapes: TCP over IPv4, a ping over IPv6, a translated connection.
func samples() []flow.Record {
	ping := record(2)
	ping.Src, ping.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	ping.Protocol, ping.SrcPort, ping.DstPort, ping.Flags = 58, 0, 0, 0
	ping.ICMPType, ping.ICMPCode = 128, 0
	nat := record(3)
	nat.NATAfter = flow.NAT{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
		SrcPort: 50000, DstPort: 8080}
	return []flow.Record{record(1), answer(1), ping, nat}
}

// TestNfcapd has nfdump's collector read records, of each direction and as biflows.
func TestNfcapd(t *testing.T) {
	nfcapd, nfdump := tool(t, "nfcapd"), tool(t, "nfdump")
	for name, biflow := range map[string]bool{"each direction": false, "biflow": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			port := freePort(t)
			var log bytes.Buffer
			cmd := exec.Command(nfcapd, "-w", dir, "-b", "127.0.0.1", "-p", strconv.Itoa(port))
			cmd.Stdout, cmd.Stderr = &log, &log
			require.NoError(t, cmd.Start())
			s := sinktest.Open(t, Open, Options{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Biflow: biflow})
			require.Eventually(t, func() bool { return queued(t, port) == 0 }, patience, time.Millisecond)
			s.send(t, samples()...)
			s.send(t, record(4)) // with templates that were sent before
			require.Eventually(t, func() bool { return queued(t, port) == 0 }, patience, time.Millisecond)
			require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
			require.NoError(t, cmd.Wait(), log.String())
			files, err := filepath.Glob(filepath.Join(dir, "nfcapd.*"))
			require.NoError(t, err)
			require.Len(t, files, 1, log.String())
			out, err := exec.Command(nfdump, "-q", "-r", files[0], "-o", "json").Output()
			require.NoError(t, err)
			out = bytes.Trim(out, "[] \n") // some versions make a list of it
			var got []map[string]any
			require.NoError(t, json.Unmarshal(slices.Concat([]byte{'['}, out, []byte{']'}), &got), string(out))
			require.Len(t, got, len(nfdumpFlows(biflow)))
			for i, want := range nfdumpFlows(biflow) {
				for key, value := range want {
					require.Equal(t, value, got[i][key], "%s of flow %d", key, i)
				}
			}
		})
	}
}

// nfdumpFlows are the samples, as nfdump shows them.
func nfdumpFlows(biflow bool) []map[string]any {
	first := map[string]any{"src4_addr": "10.0.0.1", "dst4_addr": "10.0.0.2", "src_port": 40000.0,
		"dst_port": 80.0, "proto": 6.0, "in_packets": 3.0, "in_bytes": 400.0, "tcp_flags": "C.....S.",
		"direction": 1.0, "first": "2026-01-01T00:04:05.005", "last": "2026-01-01T00:04:05.999"}
	with := func(more map[string]any) map[string]any {
		all := maps.Clone(first)
		maps.Copy(all, more)
		return all
	}
	nat := with(map[string]any{"src4_xlt_ip": "192.0.2.1", "dst4_xlt_ip": "192.0.2.2",
		"src_xlt_port": "50000", "dst_xlt_port": "8080"})
	ping := map[string]any{"src6_addr": "2001:db8::1", "dst6_addr": "2001:db8::2", "proto": 58.0,
		"icmp_type": 128.0, "icmp_code": 0.0, "in_packets": 3.0, "in_bytes": 400.0}
	if biflow {
		return []map[string]any{with(map[string]any{"out_packets": 2.0, "out_bytes": 300.0}), ping, nat, first}
	}
	back := with(map[string]any{"src4_addr": "10.0.0.2", "dst4_addr": "10.0.0.1", "src_port": 80.0,
		"dst_port": 40000.0, "in_packets": 2.0, "in_bytes": 300.0, "tcp_flags": "...A....",
		"direction": 0.0, "first": "2026-01-01T00:04:05.006"})
	return []map[string]any{first, back, ping, nat, first}
}

func freePort(t testing.TB) int {
	t.Helper()
	c := listenUDP(t)
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// queued is how many bytes wait at a port of 127.0.0.1; -1: nobody listens.
func queued(t testing.TB, port int) int64 {
	t.Helper()
	sockets, err := os.ReadFile("/proc/net/udp")
	require.NoError(t, err)
	for line := range strings.Lines(string(sockets)) {
		fields := strings.Fields(line)
		if fields[1] != fmt.Sprintf("0100007F:%04X", port) {
			continue
		}
		_, rx, _ := strings.Cut(fields[4], ":")
		n, err := strconv.ParseInt(rx, 16, 64)
		require.NoError(t, err)
		return n
	}
	return -1
}

// TestTshark has Wireshark's dissector read messages.
func TestTshark(t *testing.T) {
	tshark := tool(t, "tshark")
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), Biflow: true, Domain: 7})
	s.send(t, append(samples(), record(4))...)
	messages, _ := c.receive(t, collector.NewDecoder(), 4)
	want := map[string]string{
		"_ws.expert":    "", // it has no complaints
		"cflow.srcaddr": "10.0.0.1,10.0.0.1,10.0.0.1", "cflow.srcaddrv6": "2001:db8::1",
		"cflow.srcport": "40000,0,40000,40000", "cflow.packets": "2,3,3,3,3",
		"cflow.octets": "300,400,400,400,400", "cflow.flow_end_reason": "1,3,3,3,3",
		"cflow.biflow_direction": "1", "cflow.if_name": "eth1,eth0,eth0,eth0,eth0",
		"cflow.post_natsource_ipv4_address": "192.0.2.1", "cflow.icmp_ipv6_type": "128",
		"cflow.flow_id": "1,2,3,4", "cflow.post_key": strings.TrimSuffix(strings.Repeat("000000000000003f,", int(shapes)), ","),
		"cflow.flowsexp": "0",
	}
	args := []string{"-r", capture(t, messages), "-d", "udp.port==4739,cflow", "-T", "fields"}
	names := slices.Sorted(maps.Keys(want))
	for _, name := range names {
		args = append(args, "-e", name)
	}
	out, err := exec.Command(tshark, args...).Output()
	require.NoError(t, err)
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		for i, value := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			got[names[i]] = strings.Trim(got[names[i]]+","+value, ",")
		}
	}
	require.Equal(t, want, got)
}

// capture writes messages into a file as packets to port 4739.
func capture(t testing.TB, messages [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "messages.pcap")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	w := pcapgo.NewWriter(f)
	require.NoError(t, w.WriteFileHeader(maxMessage, layers.LinkTypeIPv4))
	for _, m := range messages {
		ip := layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
		udp := layers.UDP{SrcPort: 40000, DstPort: 4739}
		require.NoError(t, udp.SetNetworkLayerForChecksum(&ip))
		b := gopacket.NewSerializeBuffer()
		require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&ip, &udp, gopacket.Payload(m)))
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(b.Bytes()), Length: len(b.Bytes())}, b.Bytes()))
	}
	return path
}
