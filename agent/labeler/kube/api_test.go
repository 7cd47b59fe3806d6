package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/kube"
)

const (
	objects = 2000 // of each kind
	workers = 16   // that create them
)

// binariesEnv names the folder with etcd and kube-apiserver; make apitest fills and sets it.
const binariesEnv = "WEIR_APISERVER"

// day is when the first pods got their addresses.
var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// truth is what was created: how often each pod's address was given away, and so on.
type truth struct {
	*api
	generation [objects]int
	finished   [objects]bool
	moves      [objects]int // of each node, to the next zone
}

func podName(i, generation int) string { return fmt.Sprintf("web-%d-%d", i, generation) }
func podAddr(i int) netip.Addr         { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
func podAddr6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i)})
}
func nodeAddr(i int) netip.Addr    { return netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}) }
func serviceAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, byte(i>>8) + 16, byte(i)}) }

// since is when a generation of pods got its addresses.
func since(generation int) time.Time { return day.Add(time.Duration(generation) * time.Hour) }

type obj = map[string]any

// each does something for all numbers from 0, some at a time.
func each(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(workers)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	require.NoError(t, g.Wait())
}

func (w *truth) createOwners(t *testing.T) {
	require.NoError(t, w.do(http.MethodPost, "/api/v1/namespaces", obj{"metadata": obj{"name": "shop"}}))
	each(t, objects/10, func(i int) error {
		return w.do(http.MethodPost, "/apis/apps/v1/namespaces/shop/replicasets", obj{
			"metadata": obj{"name": fmt.Sprintf("web-%d", i), "ownerReferences": []obj{{"apiVersion": "apps/v1",
				"kind": "Deployment", "name": fmt.Sprintf("shop-%d", i), "uid": fmt.Sprint(i), "controller": true}}},
			"spec": obj{"replicas": 0, "selector": obj{"matchLabels": obj{"a": "b"}}, "template": obj{
				"metadata": obj{"labels": obj{"a": "b"}}, "spec": obj{"containers": []obj{{"name": "c", "image": "i"}}}}},
		})
	})
}

func (w *truth) createNode(i int) error {
	return w.do(http.MethodPost, "/api/v1/nodes", obj{
		"metadata": obj{"name": fmt.Sprintf("n%d", i), "labels": obj{"topology.kubernetes.io/zone": w.zone(i),
			"topology.kubernetes.io/region": "r"}},
		"status": obj{"addresses": []obj{{"type": "InternalIP", "address": nodeAddr(i).String()}}},
	})
}

func (w *truth) zone(node int) string { return fmt.Sprint("z", (node+w.moves[node])%3) }

// move relabels a node.
func (w *truth) move(i int) error {
	w.moves[i]++
	return w.do(http.MethodPatch, fmt.Sprintf("/api/v1/nodes/n%d", i), obj{"metadata": obj{
		"labels": obj{"topology.kubernetes.io/zone": w.zone(i)}}})
}

func (w *truth) createService(i int) error {
	name := fmt.Sprintf("s%d", i)
	err := w.do(http.MethodPost, "/api/v1/namespaces/shop/services", obj{"metadata": obj{"name": name},
		"spec": obj{"clusterIP": serviceAddr(i).String(), "ports": []obj{{"port": 80, "targetPort": 8080}}}})
	return errors.Join(err, w.do(http.MethodPost, "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", obj{
		"metadata":    obj{"name": name, "labels": obj{"kubernetes.io/service-name": name}},
		"addressType": "IPv4", "endpoints": []obj{{"addresses": []string{podAddr(i).String()}}},
		"ports": []obj{{"port": 8080, "protocol": "TCP"}}}))
}

const pods = "/api/v1/namespaces/shop/pods"

// createPod gives an address to the current generation's pod.
func (w *truth) createPod(i int) error {
	g := w.generation[i]
	err := w.do(http.MethodPost, pods, obj{
		"metadata": obj{"name": podName(i, g), "labels": obj{"app.kubernetes.io/name": fmt.Sprint("app-", i%7)},
			"ownerReferences": []obj{{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": fmt.Sprintf("web-%d", i/10),
				"uid": fmt.Sprint(i / 10), "controller": true}}},
		"spec": obj{"nodeName": fmt.Sprintf("n%d", i), "containers": []obj{{"name": "c", "image": "i"}},
			"automountServiceAccountToken": false},
	})
	return errors.Join(err, w.setStatus(i, obj{"phase": "Running", "startTime": since(g).Format(time.RFC3339),
		"podIP": podAddr(i).String(), "podIPs": []obj{{"ip": podAddr(i).String()}, {"ip": podAddr6(i).String()}}}))
}

func (w *truth) setStatus(i int, status obj) error {
	return w.do(http.MethodPatch, pods+"/"+podName(i, w.generation[i])+"/status", obj{"status": status})
}

// replace gives a pod's address to another one.
func (w *truth) replace(i int) error {
	if err := w.do(http.MethodDelete, pods+"/"+podName(i, w.generation[i]), obj{"gracePeriodSeconds": 0}); err != nil {
		return err
	}
	w.generation[i]++
	w.finished[i] = false
	return w.createPod(i)
}

// finish ends a pod's containers, an hour after they began; its object stays.
func (w *truth) finish(i int) error {
	w.finished[i] = true
	return w.setStatus(i, obj{"phase": "Succeeded", "containerStatuses": []obj{{"name": "c", "image": "i", "imageID": "i",
		"state": obj{"terminated": obj{"exitCode": 0,
			"finishedAt": since(w.generation[i]).Add(30 * time.Minute).Format(time.RFC3339)}}}}})
}

// churn replaces a fifth of the pods, ends a tenth, and gives as many services another address and nodes
// another zone.
func (w *truth) churn(t *testing.T, round int) {
	each(t, objects, func(i int) error {
		switch (i + round) % 10 {
		case 0, 1:
			return w.replace(i)
		case 2:
			if !w.finished[i] {
				return w.finish(i)
			}
		case 3:
			path := fmt.Sprintf("/api/v1/namespaces/shop/services/s%d", i)
			return w.do(http.MethodPatch, path, obj{"spec": obj{"externalIPs": []string{external(i, round).String()}}})
		case 4:
			return w.move(i)
		}
		return nil
	})
}

func external(i, round int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, byte(round), byte(i >> 8), byte(i)})
}

// source runs a source over the wire until the test ends, and gives a labeler of what it tells.
func source(t *testing.T, config string) *labeler.Labeler {
	t.Helper()
	c := labeler.NewCluster(labeler.ClusterOptions{Name: "real"})
	s, err := kube.New(c, kube.Options{Kubeconfig: config, Keys: kube.DefaultKeys()})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	require.Eventually(t, c.Synced, patience, 10*time.Millisecond, "all is read")
	return labeler.NewLabeler(labeler.Options{Clusters: []*labeler.Cluster{c}})
}

// wrong lists where labels are not what was created: of owners of now, of the beginning of each
// generation, nodes and services.
func (w *truth) wrong(l *labeler.Labeler, round int) (all []string) {
	differ := func(what string, i int, got, want any) {
		if got != want {
			all = append(all, fmt.Sprintf("%s %d: %v; want %v", what, i, got, want))
		}
	}
	for i := range objects {
		g := w.generation[i]
		for _, a := range []netip.Addr{podAddr(i), podAddr6(i)} {
			got := ask(l, a, 8080, since(g).Add(time.Minute))
			differ("pod", i, got.Labels, flow.Labels{Kind: flow.KindPod, Cluster: "real", Namespace: "shop", Pod: podName(i, g),
				Workload: fmt.Sprintf("shop-%d", i/10), WorkloadKind: "Deployment", App: fmt.Sprint("app-", i%7),
				Node: fmt.Sprintf("n%d", i), Zone: w.zone(i), Region: "r"})
			if a.Is4() {
				differ("service of pod", i, got.service, fmt.Sprintf("shop/s%d", i))
			}
			if g > 0 {
				differ("pod before", i, ask(l, a, 8080, since(g-1).Add(time.Minute)).Pod, podName(i, g-1))
			}
			got = ask(l, a, 8080, time.Now())
			differ("pod that has ended", i, got.Kind == flow.KindUnknown, w.finished[i])
			differ("several owners of pod", i, got.ambiguous, false)
		}
		differ("node", i, ask(l, nodeAddr(i), 22, time.Now()).Labels, flow.Labels{Kind: flow.KindNode, Cluster: "real",
			Node: fmt.Sprintf("n%d", i), Zone: w.zone(i), Region: "r"})
		differ("service", i, ask(l, serviceAddr(i), 80, time.Now()).service, fmt.Sprintf("shop/s%d", i))
		if round > 0 && (i+round)%10 == 3 {
			differ("external address", i, ask(l, external(i, round), 80, time.Now()).service, fmt.Sprintf("shop/s%d", i))
		}
	}
	return all
}

// answer is what is told of an address.
type answer struct {
	flow.Labels
	service   string
	ambiguous bool
}

// ask labels a flow to an address at a time.
func ask(l *labeler.Labeler, a netip.Addr, port uint16, at time.Time) answer {
	got, _ := l.LabelFlow("", &labeler.Flow{Protocol: 6, Start: at.UnixNano(), End: at.UnixNano(), Original: labeler.Leg{
		Src: netip.MustParseAddrPort("9.9.9.9:1"), Dst: netip.AddrPortFrom(a, port)}})
	out := answer{*got.Remote.Labels, got.Service, got.ConnectionFlags[labeler.AmbiguousOwner]}
	if got.Local.IP == a {
		out.Labels = *got.Local.Labels
	}
	return out
}

// settle waits until labels are what was created.
func (w *truth) settle(t *testing.T, l *labeler.Labeler, round int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for wrong := w.wrong(l, round); len(wrong) > 0; wrong = w.wrong(l, round) {
		if time.Now().After(deadline) {
			t.Fatalf("%d labels are wrong in the end; the first: %s", len(wrong), wrong[0])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestAPIServer follows a real API server through changes, watches that break and its restart.
func TestAPIServer(t *testing.T) {
	binaries := os.Getenv(binariesEnv)
	if binaries == "" {
		t.Skipf("needs etcd and kube-apiserver: make apitest builds them, and names their folder in %s", binariesEnv)
	}
	begun := time.Now()
	w := &truth{api: startAPI(t, binaries)}
	w.createOwners(t)
	each(t, objects, w.createPod)
	each(t, objects, w.createNode)
	each(t, objects, w.createService)
	t.Logf("%d pods, nodes and services were created after %v", objects, time.Since(begun))

	t.Logf("a process that knows all of them has %d kB of RSS", kube.Resident(t, w.config))
	l := source(t, w.config)
	w.settle(t, l, 0)
	for round, disturb := range []func(){
		func() { w.churn(t, 1) },
		func() { // watches break again and again
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
						w.set(false)
					}
				}
			}()
			w.churn(t, 2)
			close(stop)
			<-stopped
		},
		func() { // nothing is heard of changes and a restart
			w.set(true)
			w.churn(t, 3)
			w.restart(t)
			w.set(false)
		},
		func() { // the server goes while it is watched
			w.restart(t)
			w.churn(t, 4)
		},
	} {
		disturb()
		changed := time.Now()
		w.settle(t, l, round+1)
		t.Logf("round %d: right %v after the last change", round+1, time.Since(changed))
	}
}
