package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
)

// stage is a source that watches a fake server.
type stage struct {
	*server
	cluster  *labeler.Cluster
	clock    atomic.Int64
	log      *lockedBuilder
	patience time.Duration
}

type lockedBuilder struct {
	mu sync.Mutex
	strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

// clock of the stage, in ns; objects say 2026-01-01T00:00:00Z plus seconds.
var midnight = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) int64 { return midnight.Add(time.Duration(seconds) * time.Second).UnixNano() }

func rfc(seconds int) string { return time.Unix(0, at(seconds)).UTC().Format(time.RFC3339) }

func newStage(t *testing.T, stream bool) *stage {
	t.Helper()
	s := &stage{server: newServer(t), cluster: labeler.NewCluster(labeler.ClusterOptions{Name: "c"}),
		log: &lockedBuilder{}, patience: time.Minute}
	s.stream = stream
	s.clock.Store(at(100))
	return s
}

// run starts the source; it ends with the test.
func (s *stage) run(t *testing.T) {
	t.Helper()
	keys := DefaultKeys()
	keys.Instance = []string{"instance"}
	src := newSource(s.cluster, Options{Keys: keys, Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Now: func() time.Time { return time.Unix(0, s.clock.Load()) }}, &rest.Config{Host: s.URL, QPS: -1})
	src.patience = s.patience
	src.backoff = &wait.Backoff{Duration: time.Millisecond, Steps: 1}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// soon waits for a condition.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond, what)
}

func (s *stage) labels(addr string, seconds int) flow.Labels {
	a := netip.AddrPortFrom(netip.MustParseAddr(addr), 1)
	l := labeler.NewLabeler(labeler.Options{Clusters: []*labeler.Cluster{s.cluster}})
	got, _ := l.LabelFlow("", &labeler.Flow{Start: at(seconds), End: at(seconds), Protocol: 6,
		Original: labeler.Leg{Src: netip.MustParseAddrPort("9.9.9.9:1"), Dst: a}})
	if got.Local.IP == a.Addr() {
		return *got.Local.Labels
	}
	return *got.Remote.Labels
}

func podJSON(name, ip, more string) string {
	return fmt.Sprintf(`{"metadata":{"namespace":"shop","name":%q,"uid":"uid-%s","labels":{"app.kubernetes.io/name":"web"},
		"managedFields":[{"manager":"x"}],"ownerReferences":[{"kind":"ReplicaSet","name":"web-1","controller":true}]},
		"spec":{"nodeName":"n1","containers":[{"name":"c"}]},
		"status":{"podIP":%q,"podIPs":[{"ip":%q}],"startTime":%q%s}}`, name, name, ip, ip, rfc(10), more)
}

func (s *stage) populate() {
	s.put("nodes", `{"metadata":{"name":"n1","uid":"n1","creationTimestamp":"2025-01-01T00:00:00Z",
		"labels":{"topology.kubernetes.io/zone":"z","topology.kubernetes.io/region":"r"}},
		"spec":{"providerID":"aws:///z/i-1","podCIDRs":["10.0.0.0/24","fd00::/64"]},
		"status":{"addresses":[{"type":"InternalIP","address":"10.9.0.1"},{"type":"ExternalIP","address":"203.0.113.1"},
		{"type":"Hostname","address":"n1"}]}}`)
	s.put("namespaces", `{"metadata":{"name":"shop","uid":"ns"}}`)
	s.put("replicasets", `{"metadata":{"namespace":"shop","name":"web-1","uid":"rs",
		"ownerReferences":[{"kind":"Deployment","name":"web","controller":true}]},"spec":{"replicas":1}}`)
	s.put("services", `{"metadata":{"namespace":"shop","name":"web","uid":"s"},"spec":{"clusterIPs":["10.96.0.1"],
		"externalIPs":["203.0.113.9"],"ports":[{"port":80,"nodePort":30080}]},
		"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.10"},{"hostname":"x.example"}]}}}`)
	s.put("endpointslices", `{"metadata":{"namespace":"shop","name":"web-x","uid":"e","labels":{"kubernetes.io/service-name":"web"}},
		"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.5"],"conditions":{"ready":true}}],"ports":[{"port":8080,"protocol":"TCP"}]}`)
	s.put("pods", podJSON("web-1-a", "10.0.0.5", ""))
}

var web = flow.Labels{Kind: flow.KindPod, Cluster: "c", Namespace: "shop", Pod: "web-1-a", Workload: "web",
	WorkloadKind: "Deployment", App: "web", Node: "n1", Zone: "z", Region: "r", Cloud: "aws"}

func TestEverythingIsRead(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %v", stream), func(t *testing.T) {
			s := newStage(t, stream)
			s.populate()
			s.run(t)
			soon(t, "synced", s.cluster.Synced)
			require.Equal(t, web, s.labels("10.0.0.5", 50))
			for _, a := range []string{"10.9.0.1", "203.0.113.1", "10.0.0.1", "fd00::1", "10.0.0.0"} {
				require.Equal(t, flow.KindNode, s.labels(a, 50).Kind, a)
			}
			for _, a := range []string{"10.96.0.1", "203.0.113.9", "203.0.113.10"} {
				require.Equal(t, "web", s.labels(a, 50).Service, a)
			}
			require.Equal(t, stream, s.listed("pods") == 0)
			require.Contains(t, s.accepted("replicasets"), "as=PartialObjectMetadata")
		})
	}
}

func TestChangesAreFollowed(t *testing.T) {
	s := newStage(t, true)
	s.populate()
	s.run(t)
	soon(t, "synced", s.cluster.Synced)

	s.put("pods", podJSON("late", "10.0.0.6", ""))
	soon(t, "a new pod", func() bool { return s.labels("10.0.0.6", 50).Pod == "late" })
	s.put("namespaces", `{"metadata":{"name":"shop","uid":"ns","labels":{"k8s-app":"shop"}}}`)
	s.put("pods", strings.Replace(podJSON("plain", "10.0.0.7", ""), "app.kubernetes.io/name", "other", 1))
	soon(t, "the namespace's app", func() bool { return s.labels("10.0.0.7", 50).App == "shop" })

	// The kubelet's times count, not those at which they become known.
	s.put("pods", podJSON("late", "10.0.0.6", `,"phase":"Succeeded","containerStatuses":[{"state":{"terminated":
		{"finishedAt":"`+rfc(60)+`"}}}]`))
	soon(t, "its end", func() bool { return s.labels("10.0.0.6", 70).Kind == flow.KindUnknown })
	require.Equal(t, "late", s.labels("10.0.0.6", 59).Pod)
	s.put("pods", podJSON("next", "10.0.0.6", `,"conditions":[{"type":"PodReadyToStartContainers","status":"True",
		"lastTransitionTime":"`+rfc(65)+`"}]`))
	soon(t, "its address is used again", func() bool { return s.labels("10.0.0.6", 70).Pod == "next" })
	require.Equal(t, flow.KindUnknown, s.labels("10.0.0.6", 62).Kind)
	s.remove("pods", "shop/late")
	s.remove("pods", "shop/web-1-a")
	soon(t, "a pod that is deleted", func() bool { return s.labels("10.0.0.5", 100).Kind == flow.KindUnknown })
	require.Equal(t, "next", s.labels("10.0.0.6", 70).Pod)

	s.remove("services", "shop/web")
	soon(t, "a service that is deleted", func() bool { return s.labels("10.96.0.1", 50).Service == "" })
	s.remove("endpointslices", "shop/web-x")
	s.remove("replicasets", "shop/web-1")
	s.remove("namespaces", "/shop")
	s.remove("nodes", "/n1")
	soon(t, "a node that is deleted", func() bool { return s.labels("10.9.0.1", 100).Kind == flow.KindUnknown })
}

// TestLostTouch: what happens while no watch is open is made up for, also after the server has
// forgotten where it was.
func TestLostTouch(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for _, expired := range []bool{false, true} {
			t.Run(fmt.Sprintf("stream %v, expired %v", stream, expired), func(t *testing.T) {
				s := newStage(t, stream)
				s.populate()
				s.run(t)
				soon(t, "synced", s.cluster.Synced)
				s.set(true)
				s.disconnect()
				s.remove("pods", "shop/web-1-a")
				s.put("pods", podJSON("other", "10.0.0.8", ""))
				s.remove("services", "shop/web")
				s.remove("endpointslices", "shop/web-x")
				s.remove("nodes", "/n1")
				s.remove("replicasets", "shop/web-1")
				if expired {
					s.forget()
				}
				s.set(false)
				soon(t, "the new pod", func() bool { return s.labels("10.0.0.8", 50).Pod == "other" })
				soon(t, "all that is gone", func() bool {
					return s.labels("10.0.0.5", 100).Kind == flow.KindUnknown &&
						s.labels("10.9.0.1", 100).Kind == flow.KindUnknown && s.labels("10.96.0.1", 100).Service == ""
				})
				require.Equal(t, web.Pod, s.labels("10.0.0.5", 50).Pod)
			})
		}
	}
}

// TestForbidden: without the right to read some, the others are read.
func TestForbidden(t *testing.T) {
	s := newStage(t, true)
	s.refused["jobs"], s.patience = true, 10*time.Millisecond
	s.populate()
	s.run(t)
	soon(t, "synced", s.cluster.Synced)
	soon(t, "a full set of labels", func() bool { return s.labels("10.0.0.5", 50) == web })
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	require.Contains(t, s.log.String(), "jobs")
}

func TestPages(t *testing.T) {
	s := newStage(t, false)
	for i := range 700 { // client-go asks for 500 at a time
		s.put("pods", podJSON(fmt.Sprintf("p%d", i), fmt.Sprintf("10.1.%d.%d", i/200, i%200), ""))
	}
	s.run(t)
	soon(t, "synced", s.cluster.Synced)
	for i := range 700 {
		require.Equal(t, fmt.Sprintf("p%d", i), s.labels(fmt.Sprintf("10.1.%d.%d", i/200, i%200), 50).Pod)
	}
}

func decode[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	require.NoError(t, json.Unmarshal([]byte(text), o))
	return o
}

func TestConvertPod(t *testing.T) {
	keys := Keys{App: []string{"a", "b"}, Instance: []string{"i"}}
	got := keys.pod(decode[pod](t, `{"metadata":{"name":"n","namespace":"ns","uid":"u","annotations":{"kubernetes.io/config.hash":"h"},"creationTimestamp":"`+rfc(1)+`",
		"labels":{"b":"app","i":"instance"},"ownerReferences":[{"kind":"X","name":"no"},{"kind":"Node","name":"n1","controller":true}]},
		"spec":{"nodeName":"n1","hostNetwork":true},
		"status":{"phase":"Failed","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"},{"ip":""}]}}`), at(9))
	require.Equal(t, labeler.Pod{UID: "u", GroupUID: "h", Namespace: "ns", Name: "n", Node: "n1", HostNetwork: true,
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		App:   "app", Instance: "instance", From: at(1), Until: at(9)}, got)
	// It cannot end before it began, whatever the clocks say.
	got = keys.pod(decode[pod](t, `{"metadata":{},"status":{"phase":"Succeeded","startTime":"`+rfc(5)+`",
		"containerStatuses":[{"state":{"terminated":{"finishedAt":"`+rfc(4)+`"}}},{"state":{"running":{}}}]}}`), at(9))
	require.Equal(t, got.From, got.Until)
	require.Zero(t, keys.pod(decode[pod](t, `{"status":{"phase":"Running"}}`), at(9)).Until)
	// Without the recommended label it is the one of Kubernetes' own pods: kubenetmon's case 15.
	keys = DefaultKeys()
	require.Equal(t, "dns", keys.pod(decode[pod](t, `{"metadata":{"labels":{"k8s-app":"dns"}}}`), 0).App)
}

func TestConvertOthers(t *testing.T) {
	n := convertNode(decode[node](t, `{"metadata":{"name":"n","labels":{"failure-domain.beta.kubernetes.io/zone":"z",
		"failure-domain.beta.kubernetes.io/region":"r"}},"spec":{"providerID":"gce://p/z/n","podCIDRs":["nonsense"]}}`))
	require.Equal(t, labeler.Node{Name: "n", Zone: "z", Region: "r", Cloud: labeler.GCP}, n)
	s := convertService(decode[service](t, `{"metadata":{"namespace":"a","name":"b"},"spec":{"clusterIPs":["None"],
		"ports":[{"protocol":"UDP","port":53},{"protocol":"SCTP","port":7}]}}`))
	require.Equal(t, labeler.Service{Namespace: "a", Name: "b",
		Ports: []labeler.ServicePort{{Protocol: 17, Port: 53}, {Protocol: 132, Port: 7}}}, s)
	e := convertSlice(decode[endpointSlice](t, `{"addressType":"FQDN","endpoints":[{"addresses":["x.example"]}],"ports":[{"port":null}]}`))
	require.Equal(t, labeler.Endpoints{}, e)
}

func FuzzPod(f *testing.F) {
	f.Add([]byte(podJSON("a", "10.0.0.1", "")))
	keys := DefaultKeys()
	f.Fuzz(func(t *testing.T, data []byte) {
		var p pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		c := labeler.NewCluster(labeler.ClusterOptions{})
		c.SetPod(keys.pod(&p, at(1)), at(1))
		c.DeletePod(p.Metadata.UID, at(2))
	})
}

func TestAccess(t *testing.T) {
	c := labeler.NewCluster(labeler.ClusterOptions{Name: "blue"})
	_, err := New(c, Options{})
	require.ErrorContains(t, err, `access to the API server of cluster "blue":`)
	path := filepath.Join(t.TempDir(), "config")
	_, err = New(c, Options{Kubeconfig: path})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte(`{apiVersion: v1, kind: Config, current-context: a,
		clusters: [{name: one, cluster: {server: "http://x"}}, {name: two, cluster: {server: "http://y"}}],
		contexts: [{name: a, context: {cluster: one}}, {name: b, context: {cluster: two}}]}`), 0o600))
	for name, want := range map[string]string{"": "http://x", "b": "http://y"} {
		s, err := New(c, Options{Kubeconfig: path, Context: name})
		require.NoError(t, err)
		require.Equal(t, want, s.config.Host)
	}
	_, err = New(c, Options{Kubeconfig: path, Context: "z"})
	require.ErrorContains(t, err, `context "z" does not exist`)
}

// TestMemory holds the bar of 1 MB for 1000 pods: what stays in memory of full objects.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short, which goes with -race: memory is another then")
	}
	const pods = 5000
	s := newStage(t, true)
	filler := strings.Repeat("x", 4000)
	for i := range pods {
		s.put("pods", podJSON(fmt.Sprintf("web-5d4f8c7b9-%05d", i), fmt.Sprintf("10.1.%d.%d", i/200, i%200),
			`,"message":"`+filler+`"`))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s.run(t)
	soon(t, "synced", s.cluster.Synced)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / pods
	t.Logf("%d bytes of heap for each pod", each)
	require.Less(t, each, int64(1000))
}
