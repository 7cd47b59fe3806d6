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
  environment: staging
  cloud: aws
  region: eu-west-1
  wait: 3s
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
	own, err := c.Labels.Ranges.own()
	require.NoError(t, err)
	require.Equal(t, []labeler.Entry{{Prefix: netip.MustParsePrefix("10.50.0.0/16"), Range: labeler.Range{
		Name: "postgres", Zone: "a", Region: "eu-west-1", Cloud: "aws", Class: labeler.IntraZone}}}, own)

	none := DefaultConfig()
	require.False(t, none.Labels.on())
	require.Equal(t, 10*time.Second, none.Labels.Wait)
}

func TestLabelsConfigErrors(t *testing.T) {
	for text, want := range map[string]string{
		"environment: test":     `labels.environment "test": want development`,
		"cloud: ibm":            `labels.cloud "ibm": want aws`,
		"wait: -1s":             "labels.wait: -1s; want 0 or more",
		"clusters: [{file: x}]": `labels.clusters[0].name: ""; want a name of its own`,
		"clusters: [{name: a, file: x}, {name: a}]":                 `labels.clusters[1].name: "a"; want a name of its own`,
		"clusters: [{name: a}]":                                     "labels.clusters[0]: want either file or kubernetes",
		"clusters: [{name: a, file: x, kubernetes: {}}]":            "labels.clusters[0]: want either file or kubernetes",
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

// TestHold: a young connection waits for an owner that is told of late, and not longer than that.
func TestHold(t *testing.T) {
	const second = int64(time.Second)
	l := labelled(t, "pods: {shop/web: {addresses: [10.0.0.1]}, shop/late: {addresses: [10.0.0.2], from: 5s, told: 8s}}\n")
	e := bpf.Entry{}
	e.Addr = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	e.Legs[0].First, e.Legs[0].Last = 6*second, 7*second
	e.Legs[0].Packets = 1
	a := &Agent{labels: l, sweeper: &sweeper{rec: &recorder{hooks: func(uint16) flow.Hook { return flow.Hook{} }}}}
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
