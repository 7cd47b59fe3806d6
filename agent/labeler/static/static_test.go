package static

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
)

const sample = `
nodes:
  n1: {addresses: [10.9.0.1, "fd09::1"], external: [203.0.113.1], zone: a, region: r, cloud: aws}
pods:
  shop/web: {node: n1, addresses: [10.0.0.1], workload: Deployment/web, app: web, instance: i}
  shop/old: {addresses: [10.0.0.2], from: 5s, to: 10s}
  shop/new: {addresses: [10.0.0.2], from: 8s, told: 20s}
  kube-system/agent: {node: n1, addresses: [10.9.0.1], host_network: true}
services:
  shop/db: {addresses: [10.96.0.1], ports: ["80:30080/tcp", 53/udp], backends: ["10.0.0.1:8080/tcp"]}
`

const second = int64(time.Second)

// clock begins far from 0.
const begin = 1000 * second

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// label gives the labels of an address at a time after the beginning.
func label(t *testing.T, c *labeler.Cluster, addr string, at int64) *flow.Labels {
	t.Helper()
	a := netip.AddrPortFrom(netip.MustParseAddr(addr), 0)
	f := &labeler.Flow{Original: labeler.Leg{Src: a, Dst: netip.MustParseAddrPort("9.9.9.9:1")},
		Start: begin + at, End: begin + at}
	l := labeler.NewLabeler(labeler.Options{Clusters: []*labeler.Cluster{c}})
	got, err := l.LabelFlow("", f)
	require.NoError(t, err)
	if got.Local.IP != a.Addr() {
		return got.Remote.Labels
	}
	return got.Local.Labels
}

func TestSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.yaml")
	write(t, path, sample)
	c := labeler.NewCluster(labeler.ClusterOptions{Name: "c"})
	s, err := New(path, c, begin)
	require.NoError(t, err)
	require.True(t, c.Synced())
	require.Equal(t, &flow.Labels{Kind: flow.KindPod, Cluster: "c", Namespace: "shop", Pod: "web", Node: "n1",
		Workload: "web", WorkloadKind: "Deployment", App: "web", Instance: "i", Zone: "a", Region: "r", Cloud: "aws"},
		label(t, c, "10.0.0.1", -500*second))
	require.Equal(t, flow.KindNode, label(t, c, "10.9.0.1", 0).Kind)
	require.Equal(t, flow.KindNode, label(t, c, "203.0.113.1", 0).Kind)
	require.Equal(t, flow.KindPrivate, label(t, c, "10.0.0.2", 6*second).Kind, "not told yet")

	require.NoError(t, s.Advance(begin+6*second))
	require.Equal(t, "old", label(t, c, "10.0.0.2", 6*second).Pod)
	require.NoError(t, s.Advance(begin+15*second))
	require.Equal(t, "old", label(t, c, "10.0.0.2", 9*second).Pod)
	require.Equal(t, flow.KindUnknown, label(t, c, "10.0.0.2", 11*second).Kind)
	require.NoError(t, s.Advance(begin+21*second))
	require.Equal(t, "new", label(t, c, "10.0.0.2", 9*second).Pod, "told late, and of before")
	require.Equal(t, "old", label(t, c, "10.0.0.2", 7*second).Pod)
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.yaml")
	write(t, path, sample)
	c := labeler.NewCluster(labeler.ClusterOptions{Name: "c"})
	s, err := New(path, c, begin)
	require.NoError(t, err)

	write(t, path, "pods:\n  shop/web2: {addresses: [10.0.0.1], app: x}\n")
	require.NoError(t, s.Advance(begin+5*second))
	require.Equal(t, "web2", label(t, c, "10.0.0.1", 6*second).Pod)
	require.Equal(t, flow.KindUnknown, label(t, c, "10.9.0.1", 6*second).Kind, "the node is gone")

	write(t, path, "pods: [nonsense, of, another, length]\n")
	require.ErrorContains(t, s.Advance(begin+7*second), path+":1:")
	require.Equal(t, "web2", label(t, c, "10.0.0.1", 8*second).Pod, "what was said still holds")
	require.NoError(t, s.Advance(begin+9*second), "it is told once")

	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, s.Advance(begin+10*second), os.ErrNotExist)
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                         "f.yaml: the file is empty; want nodes, pods or services",
		"pod: {}":                                  `f.yaml:1:1: unknown key "pod"; did you mean "pods"?`,
		"pods: {web: {}}":                          "f.yaml: pods.web: want namespace/name",
		"pods: {a/b: {addresses: [x]}}":            `f.yaml: pods.a/b.addresses[0]: "x"; want an address`,
		"pods: {a/b: {workload: web}}":             `f.yaml: pods.a/b.workload: "web"; want kind/name`,
		"pods: {a/b: {uid: 7}}":                    `f.yaml: pods.a/b.uid: "7"; want a pod's, like 0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11`,
		"pods: {a/b: {from: soon}}":                `f.yaml: pods.a/b.from: "soon"; want a duration`,
		"pods: {a/b: {told: -1s}}":                 `f.yaml: pods.a/b.told: "-1s"; want a duration`,
		"pods: {a/b: {from: 5s, to: 5s}}":          `f.yaml: pods.a/b.to: 5s; want a time after from`,
		"pods: {a/b: {told: 6s, to: 5s}}":          `f.yaml: pods.a/b.to: 5s; want a time after from, and not before told`,
		"nodes: {n: {cloud: ibm}}":                 `f.yaml: nodes.n.cloud "ibm": want aws, gcp or azure`,
		"nodes: {n: {addresses: [\"fe80::1%x\"]}}": `f.yaml: nodes.n.addresses[0]: "fe80::1%x"`,
		"nodes: {n: {external: [x]}}":              `f.yaml: nodes.n.external[0]: "x"`,
		"services: {s: {}}":                        "f.yaml: services.s: want namespace/name",
		"services: {a/s: {addresses: [x]}}":        `f.yaml: services.a/s.addresses[0]: "x"`,
		"services: {a/s: {ports: [80]}}":           `f.yaml: services.a/s.ports[0]: "80"; want 80/tcp`,
		"services: {a/s: {ports: [0/tcp]}}":        `f.yaml: services.a/s.ports[0]: "0/tcp"`,
		`services: {a/s: {ports: ["1:x/tcp"]}}`: `f.yaml: services.a/s.ports[0]: "1:x/tcp"; want 80/tcp, or ` +
			`80:30080/tcp with a port on all nodes`,
		`services: {a/s: {backends: ["10.0.0.1:0/tcp"]}}`: `f.yaml: services.a/s.backends[0]: "10.0.0.1:0/tcp"; ` +
			`want an address, port and protocol like 10.0.0.1:8080/tcp`,
	} {
		_, err := Parse("f.yaml", []byte(text), 0)
		require.ErrorContains(t, err, want, text)
	}
}

func TestTimes(t *testing.T) {
	p, err := Parse("f", []byte("pods: {a/b: {from: 2026-01-31T12:00:00Z}}"), begin)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC).UnixNano(), p.pods[0].From)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("pods: {a/b: {from: 5s, to: 6s}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 256 { // deep nesting costs the YAML library quadratic time
			return
		}
		p, err := Parse("f", data, begin)
		if err != nil {
			return
		}
		c := labeler.NewCluster(labeler.ClusterOptions{})
		(&Source{cluster: c}).apply(p, begin)
		for _, e := range p.events() {
			e.tell(c, e.at)
		}
	})
}
