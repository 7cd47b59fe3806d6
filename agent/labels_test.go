package agent

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/bpf"
)

func TestLabelsConfig(t *testing.T) {
	c, err := ParseConfig("weir.yaml", []byte(smallest+`
labels:
  node: n1
  cluster: green
  environment: staging
  cloud: aws
  region: eu-west-1
  wait: 3s
  mirrors: drop
  app_keys: [app]
  instance_keys: [instance]
  clusters:
    - {name: blue, kubernetes: {kubeconfig: /etc/weir/kubeconfig, context: blue}}
    - {name: green, zone: 7, file: /etc/weir/green.yaml}
  ranges:
    files: {aws: aws.json}
    urls: {google: "https://www.gstatic.com/ipranges/goog.json"}
    cache: /var/cache/weir
    every: 1h
    own: [{cidr: 10.50.0.0/16, name: postgres, zone: a, region: eu-west-1, cloud: aws, class: intra_zone}]
`))
	require.NoError(t, err)
	require.True(t, c.Labels.on())
	require.Equal(t, 3*time.Second, c.Labels.Wait)
	require.Equal(t, []string{"app"}, c.Labels.keys().App)
	require.Equal(t, "green", c.Labels.cluster())
	own, err := c.Labels.Ranges.own()
	require.NoError(t, err)
	require.Equal(t, []labeler.Entry{{Prefix: netip.MustParsePrefix("10.50.0.0/16"), Range: &labeler.Range{
		Name: "postgres", Zone: "a", Region: "eu-west-1", Cloud: "aws", Class: labeler.IntraZone}}}, own)

	inside := Labels{Clusters: []LabelCluster{{Name: "far", Kubernetes: &Kubernetes{Kubeconfig: "x"}},
		{Name: "own", Kubernetes: &Kubernetes{}}}}
	require.Equal(t, "own", inside.cluster(), "the agent is a pod of it")
	inside.Clusters = inside.Clusters[:1]
	require.Equal(t, "", inside.cluster())

	none := DefaultConfig()
	require.False(t, none.Labels.on())
	require.Equal(t, 10*time.Second, none.Labels.Wait)
}

func TestLabelsConfigErrors(t *testing.T) {
	for text, want := range map[string]string{
		"environment: test":     `labels.environment "test": want development`,
		"cloud: ibm":            `labels.cloud "ibm": want aws`,
		"mirrors: maybe":        `labels.mirrors: "maybe"; want keep or drop`,
		"wait: -1s":             "labels.wait: -1s; want 0 or more",
		"clusters: [{file: x}]": `labels.clusters[0].name: ""; want a name of its own`,
		"clusters: [{name: a, file: x}, {name: a}]":                 `labels.clusters[1].name: "a"; want a name of its own`,
		"clusters: [{name: a}]":                                     "labels.clusters[0]: want either file or kubernetes",
		"clusters: [{name: a, file: x, kubernetes: {}}]":            "labels.clusters[0]: want either file or kubernetes",
		"cluster: b, clusters: [{name: a, file: x}]":                `labels.cluster: "b"; want the name of one of clusters`,
		"ranges: {files: {ibm: x}}":                                 `labels.ranges: no provider "ibm"; there are [aws gcp google azure]`,
		"ranges: {files: {aws: x}, urls: {aws: x}}":                 "labels.ranges: aws has both a file and a URL",
		"ranges: {own: [{cidr: x}]}":                                `labels.ranges.own[0].cidr: "x"; want a prefix like 10.0.0.0/8`,
		"ranges: {own: [{cidr: 10.0.0.0/8}]}":                       "labels.ranges.own[0].name: is missing",
		"ranges: {own: [{cidr: 10.0.0.0/8, name: x, class: near}]}": `labels.ranges.own[0].class "near": there are`,
		"clusters: [{nme: a}]":                                      `weir.yaml:2:22: unknown key "nme"`,
	} {
		_, err := ParseConfig("weir.yaml", []byte(smallest+"labels: {"+text+"}\n"))
		require.ErrorContains(t, err, want, text)
	}
}

// recordsSink keeps what it is given.
type recordsSink struct{ all []flow.Record }

func (s *recordsSink) Write(r *flow.Record) error { s.all = append(s.all, *r); return nil }
func (s *recordsSink) Flush() error               { return nil }

// labelled starts labels from a file and ranges, on a virtual clock.
func labelled(t *testing.T, file string) *labels {
	t.Helper()
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Clock.Virtual = true
	path, ranges := filepath.Join(dir, "labels.yaml"), filepath.Join(dir, "goog.json")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	require.NoError(t, os.WriteFile(ranges, []byte(`{"prefixes":[{"ipv4Prefix":"8.8.8.0/24"}]}`), 0o600))
	cfg.Labels.Clusters = []LabelCluster{{Name: "blue", File: path}}
	cfg.Labels.Ranges = LabelRanges{Files: map[string]string{"google": ranges},
		Own: []OwnRange{{CIDR: "10.50.0.0/16", Name: "postgres"}}}
	cfg.Labels.Node, cfg.Labels.Environment = "n1", "staging"
	require.NoError(t, cfg.Labels.check())
	l, err := startLabels(&cfg, 1, discard())
	require.NoError(t, err)
	t.Cleanup(l.close)
	return l
}

func TestLabelSink(t *testing.T) {
	l := labelled(t, "pods: {shop/web: {node: n1, addresses: [10.0.0.1]}}\n")
	var out recordsSink
	sink := l.sink(&out)
	for _, dst := range []string{"8.8.8.8", "10.50.0.1", "192.168.0.1"} {
		require.NoError(t, sink.Write(&flow.Record{Src: netip.MustParseAddr("10.0.0.1"),
			Dst: netip.MustParseAddr(dst), Start: 5, End: 6, Packets: 1, Bytes: 60, Role: flow.RoleInitiator}))
	}
	var got []string
	for _, r := range out.all {
		require.Equal(t, "web", r.SrcLabels.Pod)
		require.Equal(t, "staging", r.Environment)
		got = append(got, string(r.DstLabels.Kind)+" "+r.DstLabels.Name+" "+r.Class)
	}
	require.Equal(t, []string{"cloud  PUBLIC_INTERNET", "range postgres PRIVATE_OTHER",
		"private  PRIVATE_OTHER"}, got)
	require.Equal(t, &labeler.Stats{In: labeler.Count{Packets: 3, Bytes: 180},
		Labelled: labeler.Count{Packets: 3, Bytes: 180}}, l.stats())
}

// TestMirrors: what the sender's node reports too is dropped here when that is asked for, and counted.
func TestMirrors(t *testing.T) {
	const file = "pods: {shop/web: {node: n1, addresses: [10.0.0.1]}, shop/db: {node: n2, addresses: [10.0.0.2]}}\n"
	here, there := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for mirrors, want := range map[string]int{"": 2, mirrorsKeep: 2, mirrorsDrop: 1} {
		l := labelled(t, file)
		l.cfg.Mirrors = mirrors
		var out recordsSink
		sink := l.sink(&out)
		for _, r := range []flow.Record{{Src: here, Dst: there, Packets: 1, Bytes: 60, Role: flow.RoleInitiator},
			{Src: there, Dst: here, Packets: 2, Bytes: 140, Role: flow.RoleResponder}} {
			require.NoError(t, sink.Write(&r))
		}
		require.Len(t, out.all, want)
		require.Equal(t, here, out.all[0].Src)
		dropped := labeler.Count{}
		if want == 1 {
			dropped = labeler.Count{Packets: 2, Bytes: 140}
		}
		both := labeler.Count{Packets: 3, Bytes: 200}
		require.Equal(t, &labeler.Stats{In: both, Labelled: both, Dropped: dropped}, l.stats())
	}
}

// TestClusters: two clusters use the same addresses in zones of their own, and a third one others; the first
// that knows an address has it.
func TestClusters(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Clock.Virtual = true
	for i, c := range []struct{ name, text string }{
		{"blue", "pods: {shop/web: {addresses: [10.0.0.1]}, shop/both: {addresses: [10.0.0.3]}}\n"},
		{"green", "nodes: {n1: {zone: a, region: r}}\npods: {shop/db: {node: n1, addresses: [10.0.0.2]}, " +
			"shop/too: {addresses: [10.0.0.3]}}\nservices: {shop/db: {addresses: [10.96.0.2], ports: [80/tcp], " +
			"backends: [\"10.0.0.2:80/tcp\"]}}\n"},
		{"red", "pods: {shop/other: {addresses: [10.0.0.1]}}\n"},
	} {
		path := filepath.Join(dir, c.name+".yaml")
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		cfg.Labels.Clusters = append(cfg.Labels.Clusters, LabelCluster{Name: c.name, File: path, Zone: uint16(i / 2 * 7)})
	}
	l, err := startLabels(&cfg, 1, discard())
	require.NoError(t, err)
	t.Cleanup(l.close)
	label := func(zone uint16, dst string) flow.Record {
		r := flow.Record{Zone: zone, Protocol: 6, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr(dst),
			DstPort: 80, Role: flow.RoleInitiator, Start: 5, End: 6, Packets: 1, Bytes: 60}
		l.labeler.LabelRecord(&r, l.by)
		return r
	}
	r := label(0, "10.0.0.2")
	require.Equal(t, "blue pod shop/web, green pod shop/db", r.SrcLabels.Cluster+" "+r.SrcLabels.String()+", "+
		r.DstLabels.Cluster+" "+r.DstLabels.String())
	require.Equal(t, "shop/db UNKNOWN no-place", r.Service+" "+r.Class+" "+r.Unlabelled)
	r = label(0, "10.0.0.3")
	require.Equal(t, "blue", r.DstLabels.Cluster)
	require.Equal(t, "INTRA_VPC", r.Class)
	r = label(7, "10.0.0.2")
	require.Equal(t, "red", r.SrcLabels.Cluster)
	require.Equal(t, flow.KindPrivate, r.DstLabels.Kind, "green is of another zone")
	require.Equal(t, labeler.Count{Packets: 1, Bytes: 60}, l.stats().Unknown["no-place"])
}

// TestProviderFiles reads a small file of each provider, in its own format.
func TestProviderFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Clock.Virtual = true
	cfg.Labels.Cloud, cfg.Labels.Region = "aws", "eu-west-1"
	cfg.Labels.Ranges.Files = map[string]string{}
	for provider, text := range map[string]string{
		"aws": `{"prefixes": [{"ip_prefix": "203.0.113.0/26", "region": "eu-west-1", "service": "S3"},
			{"ip_prefix": "203.0.113.0/26", "region": "eu-west-1", "service": "AMAZON"}, {"ip_prefix": "bad", "region": "x", "service": "S3"}],
			"ipv6_prefixes": [{"ipv6_prefix": "2001:db8:1::/48", "region": "us-east-1", "service": "EC2"}]}`,
		"gcp":    `{"prefixes": [{"ipv4Prefix": "203.0.113.64/26", "service": "Google Cloud", "scope": "europe-west1"}]}`,
		"google": `{"prefixes": [{"ipv4Prefix": "203.0.113.64/27"}, {"ipv6Prefix": "2001:db8:2::/48"}]}`,
		"azure": `{"values": [{"name": "Storage.WestEurope", "properties": {"region": "westeurope", "systemService": "AzureStorage",
			"addressPrefixes": ["203.0.113.128/26"]}}]}`,
	} {
		path := filepath.Join(dir, provider)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		cfg.Labels.Ranges.Files[provider] = path
	}
	cfg.Labels.Ranges.Own = []OwnRange{{CIDR: "203.0.113.192/26", Name: "partner"}}
	require.NoError(t, cfg.Labels.check())
	l, err := startLabels(&cfg, 1, discard())
	require.NoError(t, err)
	t.Cleanup(l.close)
	for dst, want := range map[string]string{
		"203.0.113.1":   "aws s3 eu-west-1 INTRA_REGION",
		"2001:db8:1::1": "aws ec2 us-east-1 INTER_REGION",
		"203.0.113.100": "gcp googlecloud europe-west1 PUBLIC_INTERNET",
		"203.0.113.65":  "gcp googleservice global PUBLIC_INTERNET",
		"2001:db8:2::1": "gcp googleservice global PUBLIC_INTERNET",
		"203.0.113.129": "azure azurestorage westeurope PUBLIC_INTERNET",
		"203.0.113.200": "   PUBLIC_INTERNET",
	} {
		r := flow.Record{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr(dst), Role: flow.RoleInitiator}
		l.labeler.LabelRecord(&r, l.by)
		require.Equal(t, want, r.DstLabels.Cloud+" "+r.DstLabels.CloudService+" "+r.DstLabels.Region+" "+r.Class, dst)
	}
}

// TestHold: a young connection waits for an owner that is told of late, and not longer than that.
func TestHold(t *testing.T) {
	const second = int64(time.Second)
	l := labelled(t, "pods: {shop/web: {addresses: [10.0.0.1]}, shop/late: {addresses: [10.0.0.2], from: 5s, told: 8s}}\n")
	e := bpf.Entry{}
	e.Addr = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	e.Legs[0].First, e.Legs[0].Last = 6*second, 7*second
	e.Legs[0].Packets = 1
	a := &Agent{labels: l, sweeper: &sweeper{rec: &recorder{ends: newEnds(nil, nil), decorate: flow.Decorate(netip.Addr{}, func(uint16) flow.Hook { return flow.Hook{} })}}}
	l.advance(7 * second)
	require.True(t, a.hold(&e, 7*second))
	require.False(t, a.hold(&e, 16*second), "the wait is over")
	l.advance(8 * second)
	require.False(t, a.hold(&e, 8*second))
	e.Addr[1] = netip.MustParseAddr("9.9.9.9")
	require.False(t, a.hold(&e, 7*second), "nobody will claim it")
}

func TestLabelsThatCannotStart(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Labels.Clusters = []LabelCluster{{Name: "blue", File: filepath.Join(t.TempDir(), "none.yaml")}}
	_, err := startLabels(&cfg, 1, discard())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "labels: ")
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLabelTable(t *testing.T) {
	var out strings.Builder
	require.NoError(t, labelTable(&out, &labeler.Stats{In: labeler.Count{Packets: 3, Bytes: 180},
		Labelled: labeler.Count{Packets: 2, Bytes: 120},
		Unknown:  map[string]labeler.Count{"past-owner": {Packets: 1, Bytes: 60}}}))
	require.Equal(t, `RECORDS              PACKETS  BYTES
all                  3        180
labelled             2        120
unknown: past-owner  1        60
`, out.String())
}

func TestConnectionTableWithLabels(t *testing.T) {
	var out strings.Builder
	require.NoError(t, connectionTable(&out, []conntrack.Entry{{Protocol: 6, Known: true, Class: "INTRA_ZONE",
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 1, DstPort: 2,
		SrcLabels: &flow.Labels{Kind: flow.KindPod, Namespace: "shop", Pod: "web", Node: "n1"},
		DstLabels: &flow.Labels{Kind: flow.KindNode, Node: "n2"}, Service: "shop/db"}}))
	require.Contains(t, out.String(), "EXPIRES IN  FROM          TO       SERVICE  CLASS\n")
	require.Contains(t, out.String(), "0s          pod shop/web  node n2  shop/db  INTRA_ZONE\n")
}
