package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/latency"
)

// ask sends a DNS query to the far end, where one answers NXDOMAIN, and returns the client.
func (p *pair) ask(t testing.TB, query []byte) netip.AddrPort {
	t.Helper()
	var server, client *net.UDPConn
	inside(t, p.far, func() (err error) {
		server, err = net.ListenUDP("udp4", &net.UDPAddr{IP: p.farIP, Port: 53})
		return err
	})
	defer server.Close()
	inside(t, p.near, func() (err error) {
		client, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: p.farIP, Port: 53})
		return err
	})
	defer client.Close()
	_, err := client.Write(query)
	require.NoError(t, err)
	buf := make([]byte, 512)
	n, from, err := server.ReadFromUDP(buf)
	require.NoError(t, err)
	buf[2], buf[3] = 0x80, 3 // a response: NXDOMAIN
	_, err = server.WriteToUDP(buf[:n], from)
	require.NoError(t, err)
	_, err = client.Read(buf)
	require.NoError(t, err)
	return addrPort(client.LocalAddr())
}

// exampleQuery asks for the address of Example.com.
var exampleQuery = []byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07Example\x03com\x00\x00\x01\x00\x01")

// TestLatencyTold lets sockets resolve a name and connect, and reads what the agent has written.
func TestLatencyTold(t *testing.T) {
	for _, mode := range []string{bpf.TC, ""} {
		t.Run("mode "+mode, func(t *testing.T) {
			p := newPair(t)
			cfg := p.watching(t)
			cfg.Interfaces[0].Hook, cfg.Interfaces[0].Zone = mode, 9
			cfg.Features = latency.Features()
			a, err := New(cfg, Options{})
			require.NoError(t, err)
			before := p.attached(t)
			require.Len(t, before, 6)
			stop := run(t, a)
			resolver := p.ask(t, exampleQuery)
			client, server := p.talk(t)
			require.NoError(t, stop())
			require.Empty(t, p.attached(t))

			flows, dns := readLatency(t, cfg.Output)
			require.Len(t, dns, 1)
			d := dns[0]
			require.NotNil(t, d.Latency)
			require.Positive(t, *d.Latency)
			require.Less(t, *d.Latency, int64(time.Minute))
			require.Equal(t, *d.Latency, d.End-d.Start)
			want := flow.DNS{Boot: d.Boot, Sequence: 1, Outcome: flow.DNSAnswered, Zone: 9,
				Client: resolver.Addr(), ClientPort: resolver.Port(),
				Server: server.Addr(), ServerPort: 53, Protocol: 17, ID: 7, Name: "Example.com.",
				Type: "A", Rcode: "NXDOMAIN", Latency: d.Latency, Start: d.Start, End: d.End}
			require.Equal(t, want, d)
			var lookups []flow.Lookups
			var handshakes []flow.Handshake
			for _, r := range flows {
				if r.Lookups != nil {
					require.Equal(t, resolver.Port(), r.SrcPort)
					lookups = append(lookups, *r.Lookups)
				}
				if r.Handshake != nil {
					require.Equal(t, client.Port(), r.SrcPort)
					handshakes = append(handshakes, *r.Handshake)
				}
			}
			require.Equal(t, []flow.Lookups{{Answered: 1, Failed: 1, Rcode: "NXDOMAIN",
				Mean: *d.Latency, Max: *d.Latency}}, lookups)
			require.Len(t, handshakes, 1)
			require.NotNil(t, handshakes[0].Server)
			require.NotNil(t, handshakes[0].Client)
			require.Less(t, *handshakes[0].Server, int64(time.Minute))
			require.Less(t, *handshakes[0].Client, int64(time.Minute))
		})
	}
}

// TestFeaturesOff: nothing stands on the hooks but the packet path, and nothing is told.
func TestFeaturesOff(t *testing.T) {
	for _, mode := range []string{bpf.TC, ""} {
		p := newPair(t)
		cfg := p.watching(t)
		cfg.Interfaces[0].Hook = mode
		a, err := New(cfg, Options{})
		require.NoError(t, err)
		require.Nil(t, a.features)
		require.Len(t, p.attached(t), 2)
		stop := run(t, a)
		p.ask(t, exampleQuery)
		p.talk(t)
		require.NoError(t, stop())
		flows, dns := readLatency(t, cfg.Output)
		require.NotEmpty(t, flows)
		require.Empty(t, dns)
		for _, r := range flows {
			require.Nil(t, r.Lookups)
			require.Nil(t, r.Handshake)
			require.Zero(t, r.RTTSamples)
		}
	}
}

// readLatency reads flow and DNS records.
func readLatency(t testing.TB, path string) (flows []flow.Record, dns []flow.DNS) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var line struct {
			flow.Record
			DNS *flow.DNS `json:"dns"`
		}
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return flows, dns
		}
		require.NoError(t, err)
		if line.DNS != nil {
			dns = append(dns, *line.DNS)
		} else {
			flows = append(flows, line.Record)
		}
	}
}

// TestLatencyLeftovers: an agent takes off what features of a killed one have left.
func TestLatencyLeftovers(t *testing.T) {
	p := newPair(t)
	d, err := latency.OpenDNS([]uint16{53}, latency.Options{Max: 1})
	require.NoError(t, err)
	var index int
	inside(t, p.far, func() error {
		l, err := netlink.LinkByName(farName)
		if err != nil {
			return err
		}
		index = l.Attrs().Index
		return d.Attach(bpf.Hook{Interface: index, Mode: bpf.TC}, 1)
	})
	require.NotEmpty(t, p.attached(t))
	cfg := p.watching(t)
	cfg.Interfaces[0].Hook = bpf.TC
	a, err := New(cfg, Options{})
	require.NoError(t, err)
	require.NoError(t, run(t, a)())
	require.Empty(t, p.attached(t))
	inside(t, p.far, func() error { return d.Detach(1) }) // it is gone: no error
	require.NoError(t, d.Close())
}

// answering is a DNS sink that fails at times.
type answering struct {
	fails   bool
	written []flow.DNS
}

func (s *answering) WriteDNS(d *flow.DNS) error {
	if s.fails {
		return errors.New("the disk is full")
	}
	s.written = append(s.written, *d)
	return nil
}

// TestDNSOutlivesTheSink: records of a sweep that failed are written again, under their own numbers, and
// what finds no room meanwhile is told.
func TestDNSOutlivesTheSink(t *testing.T) {
	s, ip := &answering{fails: true}, netip.MustParseAddr("192.0.2.7")
	d := &lookups{signature: signature{"b", ip}, sink: s, room: 2}
	for range 4 {
		d.record(flow.DNS{Outcome: flow.DNSUnasked})
	}
	require.Error(t, d.write())
	counts := [latency.Reasons]uint64{latency.RingFull: 3, latency.ShortMessage: 1}
	d.losses(&counts)
	require.Error(t, d.write())
	s.fails = false
	require.NoError(t, d.write())
	require.Len(t, s.written, 2)
	d.written()
	s.written = nil
	d.losses(&counts)
	require.NoError(t, d.write())
	d.written()
	d.losses(&counts)
	require.NoError(t, d.write())
	require.Equal(t, []flow.DNS{
		{Boot: "b", Sequence: 3, AgentIP: ip, Outcome: flow.DNSUnreadable, Reason: "short", Messages: 1},
		{Boot: "b", Sequence: 4, AgentIP: ip, Outcome: flow.DNSLost, Reason: "ring-full", Messages: 3},
		{Boot: "b", Sequence: 5, AgentIP: ip, Outcome: flow.DNSLost, Reason: "sink", Messages: 2},
	}, s.written)
}

// TestHandshakesJoin: each handshake goes to the connection whose SYN it began with.
func TestHandshakesJoin(t *testing.T) {
	client, server := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	h := newHandshakes(nil, 1, 100*clockSlack)
	told := latency.Handshake{Client: client, Server: server, Start: 1, ToServer: 5, ToClient: -1}
	h.add(&told, 1)
	told.Start, told.ToServer = 10*clockSlack, 6
	h.add(&told, 1)
	told.Client = server
	h.add(&told, 1)
	require.EqualValues(t, 1, h.missed)

	l := newLedger()
	s := &latencySink{Sink: l, handshakes: h}
	rec := flow.Record{Src: client.Addr(), SrcPort: 1, Dst: server.Addr(), DstPort: 2, Protocol: 6}
	for i, at := range []int64{10 * clockSlack, 1, 1, 10 * clockSlack} {
		rec.Sequence, rec.Handshake = uint64(i+1), nil
		rec.Start, rec.End = at, at+1
		require.NoError(t, s.Write(&rec))
	}
	require.EqualValues(t, 6, *l.records[0].Handshake.Server)
	require.Nil(t, l.records[0].Handshake.Client)
	require.EqualValues(t, 5, *l.records[1].Handshake.Server)
	require.Nil(t, l.records[2].Handshake)
	require.Nil(t, l.records[3].Handshake)
	h.add(&latency.Handshake{Client: client, Server: server}, 1)
	h.forget(2 + 100*clockSlack)
	require.Empty(t, h.held)
}
