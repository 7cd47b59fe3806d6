package prometheus

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
)

var _ export.Sink = (*Sink)(nil)

func record() flow.Record {
	return flow.Record{Protocol: 6, Packets: 3, Bytes: 400, Role: flow.RoleInitiator, Reason: flow.EndIdle,
		Seen:  []flow.Hook{{Namespace: "blue", Interface: "eth0", Direction: flow.Egress}},
		Class: "SAME_ZONE", Service: "shop/web", Environment: "production",
		SrcLabels: &flow.Labels{Kind: flow.KindPod, Cluster: "c", Namespace: "n", Workload: "w", Node: "o", Zone: "z"}}
}

func opened(t testing.TB, o Options) *Sink {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	require.NoError(t, o.Check())
	s, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func (s *Sink) send(t testing.TB, reports ...flow.Report) {
	t.Helper()
	var b []byte
	for _, r := range reports {
		b = s.Append(b, r, 0)
	}
	require.NoError(t, s.Send(context.Background(), b, len(reports)))
}

// scrape fetches what Prometheus would, without comments.
func (s *Sink) scrape(t testing.TB) (all []string) {
	t.Helper()
	r, err := http.Get("http://" + s.Addr() + "/metrics")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", r.Header.Get("Content-Type"))
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(body)) {
		if line[0] != '#' {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	return all
}

func TestSums(t *testing.T) {
	s := opened(t, Options{})
	a, b := record(), record()
	b.Protocol, b.Seen, b.Class = 200, nil, ""
	s.send(t, flow.Report{Record: &a}, flow.Report{Record: &b}, flow.Report{Record: &a},
		flow.Report{Drop: &flow.Drop{Reason: "no-socket", Packets: 7}},
		flow.Report{DNS: &flow.DNS{Outcome: flow.DNSAnswered, Rcode: "NXDOMAIN"}},
		flow.Report{DNS: &flow.DNS{Outcome: flow.DNSLost, Messages: 5}})
	s.send(t, flow.Report{Drop: &flow.Drop{Reason: "no-socket", Packets: 1}})
	require.Equal(t, []string{
		`weir_flow_packets_total{protocol="200",interface="",direction="",class=""} 3`,
		`weir_flow_packets_total{protocol="tcp",interface="eth0",direction="egress",class="SAME_ZONE"} 6`,
		`weir_flow_bytes_total{protocol="200",interface="",direction="",class=""} 400`,
		`weir_flow_bytes_total{protocol="tcp",interface="eth0",direction="egress",class="SAME_ZONE"} 800`,
		`weir_drop_packets_total{reason="no-socket"} 8`,
		`weir_dns_transactions_total{outcome="answered",rcode="NXDOMAIN"} 1`,
		`weir_dns_transactions_total{outcome="lost",rcode=""} 5`,
	}, s.scrape(t))
}

// TestLabels has every label that there is.
func TestLabels(t *testing.T) {
	for name, want := range map[string]string{"protocol": "tcp", "role": "initiator", "end": "idle",
		"namespace": "blue", "interface": "eth0", "direction": "egress", "class": "SAME_ZONE",
		"service": "shop/web", "environment": "production", "src_kind": "pod", "src_cluster": "c",
		"src_namespace": "n", "src_workload": "w", "src_node": "o", "src_zone": "z", "dst_kind": "",
		"dst_cluster": "", "dst_namespace": "", "dst_workload": "", "dst_node": "", "dst_zone": ""} {
		r := record()
		require.Contains(t, values, name)
		require.Equal(t, want, values[name](&r), name)
		r.SrcLabels, r.DstLabels = r.DstLabels, r.SrcLabels
		if dst, ok := strings.CutPrefix(name, "src_"); ok {
			require.Equal(t, want, values["dst_"+dst](&r), name)
		}
	}
	require.Len(t, values, 21)
}

// TestBound has more values than series: what is beyond is one series, and nothing is lost.
func TestBound(t *testing.T) {
	s := opened(t, Options{Labels: []string{"interface", "role"}, MaxSeries: 3})
	for n := range 10 {
		r := record()
		r.Seen = []flow.Hook{{Interface: fmt.Sprint("eth", n)}}
		s.send(t, flow.Report{Record: &r})
	}
	require.Equal(t, []string{
		`weir_flow_packets_total{interface="eth0",role="initiator"} 3`,
		`weir_flow_packets_total{interface="eth1",role="initiator"} 3`,
		`weir_flow_packets_total{interface="eth2",role="initiator"} 3`,
		`weir_flow_packets_total{interface="other",role="other"} 21`,
	}, s.scrape(t)[:4])
}

func TestEscapes(t *testing.T) {
	s := opened(t, Options{Labels: []string{"service"}})
	r := record()
	r.Service = "a\\\"\nü\xc3\xff"
	s.send(t, flow.Report{Record: &r})
	require.Equal(t, `weir_flow_packets_total{service="a\\\"\nü`+"\uFFFD"+`?"} 3`, s.scrape(t)[0])
}

// TestDamaged counts nothing of a block that cannot be read to its end.
func TestDamaged(t *testing.T) {
	s := opened(t, Options{})
	r := record()
	b := s.Append(nil, flow.Report{Record: &r}, 0)
	for _, bad := range []string{"x", string(b[:len(b)-1]), "\x07" + string(b[1:]), string(b[:20]) + "\x00"} {
		require.ErrorIs(t, s.Send(context.Background(), append(b[:len(b):len(b)], bad...), 2), export.ErrRejected)
	}
	require.Empty(t, s.scrape(t))
}

func TestListen(t *testing.T) {
	s := opened(t, Options{})
	_, err := Open(Options{Listen: s.Addr()})
	require.ErrorContains(t, err, "address already in use")
}

func TestCheck(t *testing.T) {
	for want, o := range map[string]Options{
		`listen: "9102"; want host:port`:        {Listen: "9102"},
		`labels[1]: "src"; want one of class, `: {Listen: ":1", Labels: []string{"role", "src"}},
		`labels[1]: "role" is there twice`:      {Listen: ":1", Labels: []string{"role", "role"}},
		`max_series: 100001; want 1 to 100000`:  {Listen: ":1", MaxSeries: 100_001},
	} {
		require.ErrorContains(t, o.Check(), want)
	}
}

func TestNoAllocation(t *testing.T) {
	s := opened(t, Options{})
	r, b := record(), make([]byte, 0, 4096)
	add := func() {
		b = s.Append(b[:0], flow.Report{Record: &r}, 0)
		require.NoError(t, s.sums.add(b))
	}
	add()
	require.Zero(t, testing.AllocsPerRun(100, add))
}

func BenchmarkAppend(b *testing.B) {
	s := opened(b, Options{})
	r, buf := record(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = s.Append(buf[:0], flow.Report{Record: &r}, 0)
	}
}
