package ipfix

import (
	"context"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/sinktest"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/collector"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// epoch is what records' times are relative to.
const epoch = 1_767_225_845_000_000_000 // 2026-01-01T00:04:05Z

func record(n uint64) flow.Record {
	return flow.Record{
		Boot: "b", Sequence: n, Flow: n, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		SrcPort: 40000, DstPort: 80, Protocol: 6, Packets: 3, Bytes: 400, Start: 5_000_001, End: 999_999_999,
		Flags: flow.SYN | flow.CWR, Role: flow.RoleInitiator, State: "established", Reason: flow.EndDetected,
		Sampling: 8, Seen: []flow.Hook{{Interface: "eth0", Direction: flow.Egress}},
	}
}

// answer is a record of the other direction.
func answer(n uint64) flow.Record {
	r := record(n)
	r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
	r.Packets, r.Bytes, r.Start, r.End = 2, 300, 6_000_000, 999_999_998
	r.Flags, r.Role, r.Reason = flow.ACK, flow.RoleResponder, flow.EndIdle
	r.Seen = []flow.Hook{{Interface: "eth1", Direction: flow.Ingress}}
	return r
}

// forward is what a collector reads of the record n.
func forward(n uint64) collector.Record {
	return collector.Record{
		"sourceIPv4Address": "10.0.0.1", "destinationIPv4Address": "10.0.0.2", "icmpTypeCodeIPv4": uint64(0),
		"sourceTransportPort": uint64(40000), "destinationTransportPort": uint64(80),
		"protocolIdentifier": uint64(6), "flowId": n,
		"samplingFlowInterval": uint64(1), "samplingFlowSpacing": uint64(7),
		"flowStartMilliseconds": uint64(1_767_225_845_005), "flowEndMilliseconds": uint64(1_767_225_845_999),
		"flowStartNanoseconds": ntp(epoch + 5_000_001), "flowEndNanoseconds": ntp(epoch + 999_999_999),
		"packetDeltaCount": uint64(3), "octetDeltaCount": uint64(400), "layer2OctetDeltaCount": uint64(400),
		"tcpControlBits": uint64(0x82), "flowEndReason": uint64(3), "flowDirection": uint64(1),
		"interfaceName": "eth0",
	}
}

func (s *Sink) encode(records ...flow.Record) (b []byte) {
	for _, r := range records {
		b = s.Append(b, flow.Report{Record: &r}, epoch)
	}
	return b
}

func (s *Sink) send(t testing.TB, records ...flow.Record) {
	t.Helper()
	require.NoError(t, s.try(records...))
}

func (s *Sink) try(records ...flow.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Send(ctx, s.encode(records...), len(records))
}

// udp is a collector's socket.
type udp struct{ *net.UDPConn }

func listenUDP(t testing.TB) udp {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	return udp{c}
}

// receive reads messages until they have held so many records of flows.
func (c udp) receive(t testing.TB, d *collector.Decoder, records int) (messages [][]byte, all []collector.Record) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	for len(all) < records {
		buf := make([]byte, maxMessage)
		n, err := c.Read(buf)
		require.NoError(t, err)
		got, err := d.Decode(buf[:n])
		require.NoError(t, err)
		messages, all = append(messages, buf[:n]), append(all, got...)
	}
	require.Zero(t, d.Skipped, "data without a template")
	return messages, all
}

func TestRecord(t *testing.T) {
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String()})
	six := record(2)
	six.Src, six.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	six.NATAfter = flow.NAT{Src: netip.MustParseAddr("2001:db8::3"), Dst: six.Dst, SrcPort: 1, DstPort: 2}
	six.Protocol, six.ICMPType, six.ICMPCode, six.Seen, six.Sampling = 58, 128, 1, nil, 0
	nat := record(3)
	nat.NATAfter = flow.NAT{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
		SrcPort: 1, DstPort: 2}
	s.send(t, record(1), six, nat, answer(3))
	_, got := c.receive(t, collector.NewDecoder(), 4)

	want := []collector.Record{forward(1), forward(2), forward(3), forward(3)}
	for _, name := range []string{"sourceIPv4Address", "destinationIPv4Address", "icmpTypeCodeIPv4"} {
		delete(want[1], name)
	}
	maps.Copy(want[1], collector.Record{"sourceIPv6Address": "2001:db8::1", "destinationIPv6Address": "2001:db8::2",
		"icmpTypeCodeIPv6": uint64(128<<8 | 1), "protocolIdentifier": uint64(58),
		"postNATSourceIPv6Address": "2001:db8::3", "postNATDestinationIPv6Address": "2001:db8::2",
		"postNAPTSourceTransportPort": uint64(1), "postNAPTDestinationTransportPort": uint64(2),
		"interfaceName": "", "flowDirection": uint64(0), "samplingFlowSpacing": uint64(0)})
	maps.Copy(want[2], collector.Record{
		"postNATSourceIPv4Address": "192.0.2.1", "postNATDestinationIPv4Address": "192.0.2.2",
		"postNAPTSourceTransportPort": uint64(1), "postNAPTDestinationTransportPort": uint64(2)})
	maps.Copy(want[3], collector.Record{"sourceIPv4Address": "10.0.0.2", "destinationIPv4Address": "10.0.0.1",
		"sourceTransportPort": uint64(80), "destinationTransportPort": uint64(40000)})
	maps.Copy(want[3], answered(""))
	require.Equal(t, want, got)
}

// answered are the fields of an answer's own, with a prefix to their names.
func answered(prefix string) collector.Record {
	name := func(first, rest string) string {
		if prefix == "" {
			return first + rest
		}
		return prefix + string(first[0]-'a'+'A') + first[1:] + rest
	}
	return collector.Record{
		name("flowStart", "Milliseconds"): uint64(1_767_225_845_006), name("flowEnd", "Milliseconds"): uint64(1_767_225_845_999),
		name("flowStart", "Nanoseconds"): ntp(epoch + 6_000_000), name("flowEnd", "Nanoseconds"): ntp(epoch + 999_999_998),
		name("packet", "DeltaCount"): uint64(2), name("octet", "DeltaCount"): uint64(300),
		name("layer2", "OctetDeltaCount"): uint64(300), name("tcp", "ControlBits"): uint64(0x10),
		name("flow", "EndReason"): uint64(1), name("flow", "Direction"): uint64(0), name("interface", "Name"): "eth1",
	}
}

// TestBiflow joins the directions of a connection where they follow each other, and only there.
func TestBiflow(t *testing.T) {
	c := listenUDP(t)
	d := collector.NewDecoder()
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), Biflow: true})
	joined := func(n, direction uint64) collector.Record {
		r := forward(n)
		maps.Copy(r, answered("reverse"))
		r["biflowDirection"] = direction
		return r
	}
	elsewhere := answer(3) // on the way back to another port
	elsewhere.DstPort++
	s.send(t, record(1), answer(1), record(2), answer(2), answer(2), record(3), elsewhere, record(4))
	_, got := c.receive(t, d, 6)
	require.Equal(t, joined(1, 1), got[0])
	require.Equal(t, joined(2, 1), got[1])
	require.Equal(t, forward(3), got[3])
	require.Equal(t, forward(4), got[5])
	for _, i := range []int{2, 4} {
		require.NotContains(t, got[i], "biflowDirection")
	}
	s.send(t, answer(4)) // its other direction is in another block
	_, got = c.receive(t, d, 1)
	require.NotContains(t, got[0], "biflowDirection")

	for role, want := range map[flow.Role]uint64{flow.RoleInitiator: 2, flow.RoleUnknown: 0} {
		r := answer(5)
		r.Role = role
		s.send(t, record(5), r)
		_, got = c.receive(t, d, 1)
		require.Equal(t, []collector.Record{joined(5, want)}, got)
	}
}

// TestMessages sends more than a message holds: none is too long, each but the last is nearly full, and
// sequence numbers count the records.
func TestMessages(t *testing.T) {
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), Domain: 7, MaxMessage: minMessage})
	var all []flow.Record
	for n := range uint64(100) {
		r := record(n)
		if n%10 == 0 {
			r.Src, r.Dst = netip.IPv6Loopback(), netip.IPv6Loopback()
		}
		all = append(all, r)
	}
	d := collector.NewDecoder()
	before := time.Now().Unix()
	s.send(t, all...)
	messages, got := c.receive(t, d, 100)
	for n, r := range got {
		require.Equal(t, uint64(n), r["flowId"])
	}
	sequence, flows := uint32(0), 0
	for i, m := range messages {
		require.LessOrEqual(t, len(m), minMessage)
		if i < len(messages)-1 {
			require.Greater(t, len(m), minMessage-250, "message %d is far from full", i)
		}
		require.EqualValues(t, 10, binary.BigEndian.Uint16(m))
		require.EqualValues(t, len(m), binary.BigEndian.Uint16(m[2:]))
		require.GreaterOrEqual(t, int64(binary.BigEndian.Uint32(m[4:])), before)
		require.Equal(t, sequence, binary.BigEndian.Uint32(m[8:]), "message %d", i)
		require.EqualValues(t, 7, binary.BigEndian.Uint32(m[12:]))
		data := countData(t, m)
		sequence += uint32(data)
		flows += data
	}
	require.Equal(t, 100+int(shapes)+1, flows, "with those that tell of templates, and of the export")
	require.Equal(t, totals{uint64(len(messages)), uint64(flows), s.total.octets}, s.total)
}

// countData counts the data records of a message, of flows and options, by their templates' lengths.
func countData(t testing.TB, m []byte) (n int) {
	t.Helper()
	for sets := m[messageHeader:]; len(sets) > 0; {
		id, size := binary.BigEndian.Uint16(sets), int(binary.BigEndian.Uint16(sets[2:]))
		body := sets[setHeader:size]
		sets = sets[size:]
		for len(body) > 0 && id >= firstTemplate {
			n++
			body = body[length(id, body):]
		}
	}
	return n
}

// length is how long a record is.
func length(id uint16, body []byte) (n int) {
	switch id {
	case flowKeysTemplate:
		return 10
	case exportTemplate:
		return 28
	}
	for _, f := range shape(id - firstTemplate).fields() {
		if f.length == variable {
			n += 1 + int(body[n])
		} else {
			n += int(f.length)
		}
	}
	return n
}

// TestTemplates sends templates again over udp, for collectors that were not there, and once over tcp.
func TestTemplates(t *testing.T) {
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), TemplateRefresh: time.Nanosecond})
	s.send(t, record(1))
	c.receive(t, collector.NewDecoder(), 1)
	s.send(t, record(2))
	c.receive(t, collector.NewDecoder(), 1) // knows nothing of what was sent before

	s = sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), TemplateRefresh: time.Hour})
	d := collector.NewDecoder()
	s.send(t, record(1))
	first, _ := c.receive(t, d, 1)
	s.send(t, record(1))
	second, _ := c.receive(t, d, 1)
	require.Less(t, len(second[0]), len(first[0])/2)
}

func TestFlowKeys(t *testing.T) {
	for s := range shapes {
		var keys []uint16
		for _, f := range s.fields() {
			if f.key {
				keys = append(keys, f.element)
			}
		}
		want := []uint16{8, 12, 32, 7, 11, 4}
		if s&shapeV6 != 0 {
			want = []uint16{27, 28, 139, 7, 11, 4}
		}
		require.Equal(t, want, keys)
	}
}

func TestNTP(t *testing.T) {
	for _, ns := range []int64{0, 1, 999_999_999, epoch, epoch + 123_456_789} {
		stamp := ntp(ns)
		require.Equal(t, ns, (int64(stamp>>32)-ntpEpoch)*1e9+int64((stamp&0xffffffff)*1e9>>32))
	}
}

// TestUDPRefused has no collector, which the kernel tells after the first datagram.
func TestUDPRefused(t *testing.T) {
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String()})
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return s.try(record(1)) != nil }, patience, time.Millisecond)
}

// TestOthers passes over reports that IPFIX has no elements for.
func TestOthers(t *testing.T) {
	s := sinktest.Open(t, Open, Options{Address: "127.0.0.1:4739"})
	require.Empty(t, s.Append(nil, flow.Report{Drop: &flow.Drop{}}, 0))
	require.Empty(t, s.Append(nil, flow.Report{DNS: &flow.DNS{}}, 0))
}

func TestDamaged(t *testing.T) {
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), MaxMessage: minMessage})
	for _, b := range [][]byte{{1}, {1, 0, 0, 3}, {1, 0, 0, 99, 1}, append([]byte{1, 0, 4, 0}, make([]byte, 1020)...)} {
		require.ErrorIs(t, s.Send(context.Background(), b, 1), export.ErrRejected)
	}
}

// TestFits makes the longest record that there can be fit into the smallest message.
func TestFits(t *testing.T) {
	c := listenUDP(t)
	s := sinktest.Open(t, Open, Options{Address: c.LocalAddr().String(), MaxMessage: minMessage, Biflow: true})
	a, b := record(1), answer(1)
	a.Src, a.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	a.NATAfter = flow.NAT{Src: a.Src, Dst: a.Dst}
	b.Src, b.Dst = a.Dst, a.Src
	long := string(slices.Repeat([]byte("x"), 1000))
	a.Seen, b.Seen = []flow.Hook{{Interface: long}}, []flow.Hook{{Interface: long}}
	s.send(t, a, b)
	_, got := c.receive(t, collector.NewDecoder(), 1)
	require.Equal(t, long[:maxName], got[0]["reverseInterfaceName"])
}

func TestCheck(t *testing.T) {
	for want, o := range map[string]Options{
		`address: ""; want host:port`:                    {},
		`address: "x"; want host:port`:                   {Address: "x"},
		`transport: "sctp"; want udp or tcp`:             {Address: "x:1", Transport: "sctp"},
		`tls: is for the transport tcp; this one is udp`: {Address: "x:1", TLS: &certs.Options{}},
		`tls: cert and key: one without the other`:       {Address: "x:1", Transport: "tcp", TLS: &certs.Options{Cert: "x"}},
		`max_message: 100; want 512 to 65535`:            {Address: "x:1", MaxMessage: 100},
		`max_message: 70000; want 512 to 65535`:          {Address: "x:1", MaxMessage: 70000},
		`template_refresh: -1s; want more than 0`:        {Address: "x:1", TemplateRefresh: -time.Second},
	} {
		require.EqualError(t, o.Check(), want)
	}
}

func TestNoAllocation(t *testing.T) {
	s := sinktest.Open(t, Open, Options{Address: "127.0.0.1:4739", Biflow: true})
	a, z := record(1), answer(1)
	b := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		s.Append(s.Append(b, flow.Report{Record: &a}, epoch), flow.Report{Record: &z}, epoch)
	}))
}

func BenchmarkAppend(b *testing.B) {
	for name, biflow := range map[string]bool{"each direction": false, "biflow": true} {
		b.Run(name, func(b *testing.B) {
			s := sinktest.Open(b, Open, Options{Address: "127.0.0.1:4739", Biflow: biflow})
			both := [2]flow.Record{record(1), answer(1)}
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for i := 0; b.Loop(); i ^= 1 {
				if i == 0 {
					buf = buf[:0]
				}
				buf = s.Append(buf, flow.Report{Record: &both[i]}, epoch)
			}
		})
	}
}

// BenchmarkSend puts records into messages and sends them, to nobody who reads.
func BenchmarkSend(b *testing.B) {
	c := listenUDP(b)
	s := sinktest.Open(b, Open, Options{Address: c.LocalAddr().String()})
	var all []flow.Record
	for n := range uint64(1000) {
		all = append(all, record(n))
	}
	payload := s.encode(all...)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, s.Send(context.Background(), payload, 1000))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}
