package pbflow

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/weirnet/weir/agent/flow"
)

func pointer(n int64) *int64 { return &n }

func of(r flow.Record) flow.Report { return flow.Report{Record: &r} }

// full is a record with every field.
func full() flow.Record {
	return flow.Record{
		Boot: "a21b8f65ec768f23", Sequence: 1, Flow: 2, Zone: 3,
		Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::2"),
		SrcPort: 40064, DstPort: 443, Protocol: 6, Cites: 17, ICMPType: 8, ICMPCode: 9, ICMPID: 10,
		Packets: 11, Bytes: 12000, PacketsBefore: 13, BytesBefore: 14,
		Flags: flow.SYN | flow.CWR, Start: 15e9, End: 16e9, Role: flow.RoleResponder, State: "closed",
		Reason: flow.EndDetected, ICMPError: "3/1", Sampling: 100,
		Seen: []flow.Hook{{Namespace: "ns", Interface: "eth0", Direction: flow.Egress},
			{Interface: "veth1", Direction: flow.Ingress}},
		AgentIP: netip.MustParseAddr("192.0.2.9"), Duplicate: true,
		RTTMin: 1, RTTLast: 2, RTTMax: 3_000_004, RTTSamples: 4,
		Handshake: &flow.Handshake{Server: new(int64), Client: pointer(5), SYNRepeats: 6, SYNACKRepeats: 7},
		Lookups:   &flow.Lookups{Answered: 1, Failed: 2, Unanswered: 3, Rcode: "NXDOMAIN", Mean: 4, Max: 5},
		NATBefore: flow.NAT{ID: "x", Flow: 5, Src: netip.MustParseAddr("10.0.0.1"),
			Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 6, DstPort: 7, ICMPID: 8},
		NATAfter: flow.NAT{ID: "y", Flow: 9, Src: netip.MustParseAddr("192.0.2.1"),
			Dst: netip.MustParseAddr("192.0.2.2"), SrcPort: 10, DstPort: 11, ICMPID: 12},
		SrcLabels: labels("src"), DstLabels: labels("dst"), Service: "shop/web", Class: "SAME_ZONE",
		Unlabelled: "NO_OWNER", LabelFlags: flow.FlagMirror, Environment: "production",
	}
}

func labels(of string) *flow.Labels {
	return &flow.Labels{Kind: flow.KindPod, Cluster: of + " cluster", Namespace: of + " namespace",
		Workload: of + " workload", WorkloadKind: of + " kind", Pod: of + " pod", App: of + " app",
		Instance: of + " instance", Service: of + " service", Node: of + " node", Zone: of + " zone",
		Region: of + " region", Cloud: of + " cloud", CloudService: of + " cloud service",
		Name: of + " name"}
}

// fullDrop and fullDNS are likewise.
func fullDrop() flow.Drop {
	return flow.Drop{Boot: "b", Sequence: 1, AgentIP: netip.MustParseAddr("192.0.2.9"), NetNS: 4026532567, Src: netip.MustParseAddr("10.0.0.1"),
		Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 1, DstPort: 2, Protocol: 17, Reason: "no-socket",
		Packets: 3, Start: 4, End: 5}
}

func fullDNS() flow.DNS {
	return flow.DNS{Boot: "b", Sequence: 1, AgentIP: netip.MustParseAddr("2001:db8::9"), Outcome: flow.DNSAnswered, Reason: "x", Messages: 9, Zone: 2,
		Client: netip.MustParseAddr("10.0.0.1"), Server: netip.MustParseAddr("10.0.0.2"),
		ClientPort: 3, ServerPort: 53, Protocol: 17, ID: 4, Name: "x.", Type: "A", Rcode: "NOERROR",
		Truncated: true, Latency: pointer(1_500_000_000), Repeats: 5, Start: 6, End: 1_500_000_006}
}

// TestFull makes sure that TestRoundTrip is about every field: one that is added to a record, and not here,
// fails.
func TestFull(t *testing.T) {
	drop, dns := fullDrop(), fullDNS()
	r := full()
	for _, report := range []any{r, drop, dns} {
		v := reflect.ValueOf(report)
		noneEmpty(t, v.Type().Name(), v)
	}
}

func noneEmpty(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	require.False(t, v.IsZero(), "%s is empty", path)
	switch {
	case v.Type() == reflect.TypeFor[netip.Addr]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			noneEmpty(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct:
		noneEmpty(t, path, v.Elem())
	case v.Kind() == reflect.Slice:
		noneEmpty(t, path+"[0]", v.Index(0))
	}
}

// plain is a record like most.
func plain() flow.Record {
	return flow.Record{
		Boot: "a21b8f65ec768f23", Sequence: 1234567, Flow: 987654321,
		Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.2"),
		SrcPort: 40064, DstPort: 8080, Protocol: 6, Packets: 6, Bytes: 484,
		Flags: flow.FIN | flow.SYN | flow.PSH | flow.ACK, Start: 6251881355571, End: 6254897355537,
		Role: flow.RoleInitiator, State: "established", Reason: flow.EndActive,
		Seen: []flow.Hook{{Interface: "eth0", Direction: flow.Egress}},
	}
}

func parse(t testing.TB, b []byte) *Records {
	t.Helper()
	var m Records
	require.NoError(t, proto.Unmarshal(b, &m))
	return &m
}

func TestRoundTrip(t *testing.T) {
	drop, dns := fullDrop(), fullDNS()
	want := []flow.Report{
		of(full()), of(plain()),
		of(flow.Record{Src: netip.IPv6Unspecified(), Dst: netip.IPv6Unspecified(),
			Role: flow.RoleUnknown, Reason: flow.EndForced,
			Handshake: &flow.Handshake{}, Lookups: &flow.Lookups{}, DstLabels: &flow.Labels{}}),
		of(flow.Record{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("2001:db8::1"),
			Role: flow.RoleUnknown, Reason: flow.EndForced}), // kubenetmon's case 107
		{Drop: &drop},
		{Drop: &flow.Drop{Boot: "b", Sequence: 2, Reason: flow.DropTableFull, Packets: 9}},
		{DNS: &dns},
		{DNS: &flow.DNS{Boot: "b", Sequence: 2, Outcome: flow.DNSLost, Reason: "sink", Messages: 7}},
	}
	var buf []byte
	for _, r := range want {
		buf = Append(buf, r, 1e18)
	}
	entries := parse(t, buf).Entries
	require.Len(t, entries, len(want))
	for i, e := range entries {
		got, err := Decode(e)
		require.NoError(t, err)
		require.Equal(t, want[i], got)
		require.Empty(t, e.ProtoReflect().GetUnknown())
	}
	require.Equal(t, uint64(3), entries[4].PktDropPackets)
	require.Equal(t, int64(1e9), entries[4].TimeFlowStart.Seconds)
	require.Nil(t, entries[5].TimeFlowStart)
	require.Equal(t, uint32(4), entries[6].DnsId)
	require.Equal(t, "x.", entries[6].DnsName)
	require.Equal(t, 1500*time.Millisecond, entries[6].DnsLatency.AsDuration())
}

// TestReference checks what a collector that knows nothing of weir reads.
func TestReference(t *testing.T) {
	r := full()
	offset := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC).UnixNano()
	m := parse(t, Append(nil, flow.Report{Record: &r}, offset)).Entries[0]
	m.Weir = nil
	v6 := func(a netip.Addr) *IP { return &IP{IpFamily: &IP_Ipv6{Ipv6: a.AsSlice()}} }
	want := &Record{
		EthProtocol: 0x86dd, Direction: Direction_EGRESS,
		Network:   &Network{SrcAddr: v6(r.Src), DstAddr: v6(r.Dst)},
		Transport: &Transport{SrcPort: 40064, DstPort: 443, Protocol: 6},
		Bytes:     12000, Packets: 11, Interface: "eth0", Flags: 0x82, IcmpType: 8, IcmpCode: 9,
		DupList: []*DupMapEntry{{Interface: "eth0", Direction: Direction_EGRESS},
			{Interface: "veth1"}},
		Xlat: &Xlat{SrcAddr: &IP{IpFamily: &IP_Ipv4{Ipv4: 0xc0000201}},
			DstAddr: &IP{IpFamily: &IP_Ipv4{Ipv4: 0xc0000202}}, SrcPort: 10, DstPort: 11, ZoneId: 3},
		Sampling: 100, Duplicate: true, AgentIp: &IP{IpFamily: &IP_Ipv4{Ipv4: 0xc0000209}},
	}
	start, end := m.TimeFlowStart.AsTime(), m.TimeFlowEnd.AsTime()
	require.Equal(t, offset+15e9, start.UnixNano())
	require.Equal(t, offset+16e9, end.UnixNano())
	require.Equal(t, 3_000_004*time.Microsecond, m.TimeFlowRtt.AsDuration())
	m.TimeFlowStart, m.TimeFlowEnd, m.TimeFlowRtt = nil, nil, nil
	require.Equal(t, want.String(), m.String())

	v4 := plain()
	m = parse(t, Append(nil, flow.Report{Record: &v4}, -v4.Start-1)).Entries[0]
	require.Equal(t, uint32(0x0800), m.EthProtocol)
	require.Equal(t, uint32(0x0a090001), m.Network.SrcAddr.GetIpv4())
	require.Equal(t, int64(-1), m.TimeFlowStart.AsTime().UnixNano(), "before 1970")
}

// TestFieldNumbers holds the message to the reference's numbers and names.
func TestFieldNumbers(t *testing.T) {
	names := []string{1: "eth_protocol", 2: "direction", 3: "time_flow_start", 4: "time_flow_end",
		5: "data_link", 6: "network", 7: "transport", 8: "bytes", 9: "packets", 10: "interface",
		11: "duplicate", 12: "agent_ip", 13: "flags", 14: "icmp_type", 15: "icmp_code",
		16: "pkt_drop_bytes", 17: "pkt_drop_packets", 18: "pkt_drop_latest_flags",
		19: "pkt_drop_latest_state", 20: "pkt_drop_latest_drop_cause", 21: "dns_id", 22: "dns_flags",
		23: "dns_latency", 24: "time_flow_rtt", 25: "dns_errno", 26: "dup_list",
		27: "network_events_metadata", 28: "xlat", 29: "sampling", 30: "ipsec_encrypted",
		31: "ipsec_encrypted_ret", 32: "dns_name", 33: "ssl_version", 34: "ssl_mismatch",
		35: "tls_types", 36: "tls_cipher_suite", 37: "tls_key_share", 38: "quic"}
	fields := (&Record{}).ProtoReflect().Descriptor().Fields()
	require.Equal(t, len(names), fields.Len(), "and field 1000")
	for i := range fields.Len() {
		if f := fields.Get(i); f.Number() < 1000 {
			require.Equal(t, names[f.Number()], string(f.Name()))
		}
	}
	require.Equal(t, "/pbflow.Collector/Send", Collector_Send_FullMethodName)
}

func TestDecodeForeign(t *testing.T) {
	got, err := Decode(&Record{Interface: "eth0", Direction: Direction_EGRESS, Packets: 1})
	require.NoError(t, err)
	r := got.Record
	require.Equal(t, []flow.Hook{{Interface: "eth0", Direction: flow.Egress}}, r.Seen)
	require.Equal(t, flow.EndActive, r.Reason)
	require.Equal(t, flow.RoleUnknown, r.Role)
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		m    *Record
		want string
	}{
		{&Record{Transport: &Transport{SrcPort: 65536}}, "transport.src_port: 65536; want at most 65535"},
		{&Record{Transport: &Transport{Protocol: 256}}, "transport.protocol: 256; want at most 255"},
		{&Record{Network: &Network{DstAddr: &IP{IpFamily: &IP_Ipv6{Ipv6: []byte{1}}}}},
			"network.dst_addr.ipv6: 1 bytes; want 16"},
		{&Record{Weir: &Weir{Zone: 65536}}, "weir.zone"},
		{&Record{Weir: &Weir{NatAfter: &NAT{DstPort: 70000}}}, "weir.nat.dst_port"},
		{&Record{Weir: &Weir{Other: &Weir_Drop{&Drop{}}}, Transport: &Transport{DstPort: 70000}},
			"transport.dst_port"},
		{&Record{Weir: &Weir{Other: &Weir_Dns{&Dns{}}}, DnsId: 70000}, "dns_id"},
	}
	for _, test := range tests {
		_, err := Decode(test.m)
		require.ErrorContains(t, err, test.want)
	}
}

// TestLengths makes messages of every length around those at which their length takes a byte more.
func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 60, 100, 126, 127, 128, 129, 16300, 16383, 16384, 1 << 21} {
		for more := range 4 {
			r := plain()
			r.State = fmt.Sprintf("%*s", n+more, "x")
			got, err := Decode(parse(t, Append(nil, of(r), 0)).Entries[0])
			require.NoError(t, err)
			require.Equal(t, of(r), got)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	reports := []flow.Report{of(full()), of(plain()), {Drop: &flow.Drop{Reason: "x"}},
		{DNS: &flow.DNS{Outcome: flow.DNSAnswered, Latency: pointer(1)}}}
	b := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, r := range reports {
			Append(b, r, 1)
		}
	}))
}

func BenchmarkAppend(b *testing.B) {
	for name, r := range map[string]flow.Record{"plain": plain(), "full": full()} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = Append(buf[:0], flow.Report{Record: &r}, 1)
			}
			b.ReportMetric(float64(len(buf)), "B/record")
		})
	}
}

// FuzzDecode decodes any bytes. What can be decoded comes back the same after it was encoded.
func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, of(full()), 0))
	f.Add(Append(nil, flow.Report{Drop: &flow.Drop{Reason: "x"}}, 0))
	f.Add(Append(nil, flow.Report{DNS: &flow.DNS{Outcome: "x"}}, 0))
	f.Add([]byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Records
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		for _, e := range m.Entries {
			r, err := Decode(e)
			if err != nil {
				require.Zero(t, r)
				continue
			}
			once := Append(nil, r, 0)
			again, err := Decode(parse(t, once).Entries[0])
			require.NoError(t, err)
			require.Equal(t, once, Append(nil, again, 0))
		}
	})
}
