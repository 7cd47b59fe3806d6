package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/bpf/trace"
)

func TestParseConfigFeatures(t *testing.T) {
	c, err := ParseConfig("weir.yaml", []byte(smallest+"features: [drops, rtt, nat]\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"drops", "rtt", "nat"}, c.Features)
	_, err = ParseConfig("weir.yaml", []byte(smallest+"features: [drops, dsn]\n"))
	require.ErrorContains(t, err,
		`weir.yaml:2:11: features: "dsn"; there are drops, rtt, dns, handshake, nat, sockets`)
	for _, bad := range []string{"ports: []", "ports: [53, 0]", "timeout: 0s"} {
		_, err = ParseConfig("weir.yaml", []byte(smallest+"dns: {"+bad+"}\n"))
		require.ErrorContains(t, err, "weir.yaml:2:6: dns: ports")
	}
}

// TestFeaturesTell lets sockets talk and packets be dropped between two namespaces, of which one
// is watched, and reads what the agent has written of it.
func TestFeaturesTell(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Features = trace.Features()
	var log bytes.Buffer
	a, err := New(cfg, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Contains(t, log.String(), "msg=feature name=drops state=on")
	require.Contains(t, log.String(), "msg=feature name=rtt state=on")
	stop := run(t, a)
	client, server := p.talk(t)
	knocks := dropKey{p.knock(t, 7), server.Addr(), 9}
	eventually(t, "the drops", func() bool {
		_, drops := readOutput(t, cfg.Output)
		return drops[knocks] >= 7
	})
	require.NoError(t, stop())

	flows, drops := readOutput(t, cfg.Output)
	require.EqualValues(t, 7, drops[knocks])
	for _, ends := range [][2]netip.AddrPort{{client, server}, {server, client}} {
		var samples uint32
		for _, r := range flows {
			if r.RTTSamples == 0 || r.Src != ends[0].Addr() || r.SrcPort != ends[0].Port() {
				continue
			}
			require.Equal(t, ends[1].Port(), r.DstPort)
			require.Positive(t, r.RTTMin)
			require.LessOrEqual(t, r.RTTMin, r.RTTLast)
			require.LessOrEqual(t, r.RTTLast, r.RTTMax)
			require.Less(t, r.RTTMax, uint32(time.Second/time.Microsecond))
			samples += r.RTTSamples
		}
		require.Positive(t, samples, "no round-trip time from %v to %v", ends[0], ends[1])
	}
}

// talk lets a client on the near end exchange some lines with a server on the far end.
func (p *pair) talk(t testing.TB) (client, server netip.AddrPort) {
	t.Helper()
	var l net.Listener
	inside(t, p.far, func() (err error) {
		l, err = net.Listen("tcp4", "10.0.0.2:8080")
		return err
	})
	defer l.Close()
	go func() {
		if s, err := l.Accept(); err == nil {
			_, _ = io.Copy(s, s) // ends with the client
			s.Close()
		}
	}()
	var c net.Conn
	inside(t, p.near, func() (err error) {
		c, err = net.Dial("tcp4", "10.0.0.2:8080")
		return err
	})
	defer c.Close()
	line := make([]byte, 6)
	for range 10 {
		_, err := c.Write([]byte("hello\n"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, line)
		require.NoError(t, err)
	}
	return addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
}

func addrPort(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// knock sends n datagrams to a port of the far end on which nobody listens, and returns from
// where.
func (p *pair) knock(t testing.TB, n int) netip.AddrPort {
	t.Helper()
	var c *net.UDPConn
	inside(t, p.near, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: p.nearIP})
		return err
	})
	defer c.Close()
	for range n {
		_, err := c.WriteToUDP([]byte("hello"), &net.UDPAddr{IP: p.farIP, Port: 9})
		require.NoError(t, err)
	}
	return addrPort(c.LocalAddr())
}

type dropKey struct {
	src     netip.AddrPort
	dst     netip.Addr
	dstPort uint16
}

// readOutput reads the lines of an agent: its flow records, and its drops by tuple.
func readOutput(t testing.TB, path string) (flows []flow.Record, drops map[dropKey]uint64) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text = text[:bytes.LastIndexByte(text, '\n')+1] // an agent that runs may be about to write the rest
	drops = map[dropKey]uint64{}
	var sequence uint64
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var line struct {
			flow.Record
			Drop *flow.Drop `json:"drop"`
		}
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return flows, drops
		}
		require.NoError(t, err)
		d := line.Drop
		if d == nil {
			flows = append(flows, line.Record)
			continue
		}
		sequence++
		require.Equal(t, sequence, d.Sequence)
		require.NotEmpty(t, d.Boot)
		require.NotEmpty(t, d.Reason)
		drops[dropKey{netip.AddrPortFrom(d.Src, d.SrcPort), d.Dst, d.DstPort}] += d.Packets
	}
}

// TestFeatureThatCannotRun: the ledger takes no drops, and the agent runs without them.
func TestFeatureThatCannotRun(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Features = []string{trace.FeatureDrops}
	l := newLedger()
	var log bytes.Buffer
	a, err := New(cfg, Options{Sink: l, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Contains(t, log.String(),
		`msg=feature name=drops state="cannot run here" reason="the sink takes no drop records"`)
	p.send(t, p.udp(t, 1, 2, 0))
	require.NoError(t, run(t, a)())
	require.EqualValues(t, 1, l.sum.Packets)
}

// moody is a drop sink that fails at times.
type moody struct {
	fails   bool
	written []flow.Drop
}

func (m *moody) WriteDrop(d *flow.Drop) error {
	if m.fails {
		return errors.New("the disk is full")
	}
	m.written = append(m.written, *d)
	return nil
}

// TestDropsOutliveTheSink: records of a sweep that failed are written again, under their own
// numbers, and what finds no room meanwhile is told.
func TestDropsOutliveTheSink(t *testing.T) {
	kerneltest.NeedRoot(t)
	tr, err := trace.Open(trace.Options{}) // nothing is on: the test brings the drops
	require.NoError(t, err)
	defer tr.Close()
	m, ip := &moody{fails: true}, netip.MustParseAddr("192.0.2.7")
	d := &drops{trace: tr, signature: signature{"b", ip}, sink: m, room: 2}
	d.keep(flow.Drop{Reason: "a", Packets: 1})
	require.ErrorContains(t, d.drain(), "the disk is full")
	d.keep(flow.Drop{Reason: "b", Packets: 2})
	d.missed = 5
	m.fails = false
	want := []flow.Drop{{Boot: "b", Sequence: 1, AgentIP: ip, Reason: "a", Packets: 1},
		{Boot: "b", Sequence: 2, AgentIP: ip, Reason: "b", Packets: 2},
		{Boot: "b", Sequence: 3, AgentIP: ip, Reason: flow.DropTableFull, Packets: 5}}
	require.NoError(t, d.drain())
	require.Equal(t, want, m.written)
	require.NoError(t, d.drain())
	require.Equal(t, append(want, want...), m.written, "again, until it is safe")
	d.written()
	m.written = nil
	require.NoError(t, d.drain())
	require.Empty(t, m.written)
}

func TestZones(t *testing.T) {
	one := zones{}
	for _, inode := range []uint64{10, anywhere} {
		one.add(inode, 7)
		one.add(inode, 7)
	}
	require.Equal(t, []uint16{7}, one.of(10))
	require.Equal(t, []uint16{7}, one.of(99), "behind an interface that is watched")
	two := zones{10: {7}, 11: {8}, anywhere: {7, 8}}
	require.Equal(t, []uint16{8}, two.of(11))
	require.Empty(t, two.of(99), "whose network it is in cannot be known")
	require.Equal(t, []uint16{7, 8}, zones{10: {7, 8}, anywhere: {7, 8}}.of(10))
}

func TestRoundTripsJoin(t *testing.T) {
	src, dst := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	r := newRoundTrips(nil, 1, 100)
	told := trace.RTT{Tuple: trace.Tuple{Src: src, Dst: dst, Protocol: unix.IPPROTO_TCP},
		Min: 10, Last: 20, Max: 30, Samples: 3}
	r.add(7, &told, 1)
	told.Min, told.Last, told.Max = 5, 6, 7
	r.add(7, &told, 50)
	r.add(8, &told, 50)
	require.EqualValues(t, 3, r.missed, "no room for a second one")

	l := newLedger()
	s := &rttSink{l, r}
	record := flow.Record{Sequence: 1, Zone: 7, Src: src.Addr(), SrcPort: 1,
		Dst: dst.Addr(), DstPort: 2, Protocol: unix.IPPROTO_UDP}
	for i := range 3 { // of another protocol; the one; again
		record.Sequence, record.RTTSamples = uint64(i+1), 0
		require.NoError(t, s.Write(&record))
		record.Protocol = unix.IPPROTO_TCP
	}
	require.Zero(t, l.records[0].RTTSamples)
	got := l.records[1]
	require.Equal(t, []uint32{5, 6, 30, 6},
		[]uint32{got.RTTMin, got.RTTLast, got.RTTMax, got.RTTSamples})
	require.Zero(t, l.records[2].RTTSamples, "told twice")

	r.add(7, &told, 50)
	r.forget(150)
	require.Len(t, r.held, 1)
	r.forget(151)
	require.Empty(t, r.held)
}

func TestFeaturesCommand(t *testing.T) {
	kerneltest.NeedRoot(t)
	c := Command()
	var out bytes.Buffer
	c.SetArgs([]string{"features"})
	c.SetOut(&out)
	require.NoError(t, c.Execute())
	for _, f := range Features() {
		require.Regexp(t, `(?m)^`+f+` +(not )?available`, out.String())
	}
}
