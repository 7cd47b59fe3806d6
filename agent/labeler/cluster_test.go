package labeler

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

const second = int64(time.Second)

// who asks a cluster for the pod or node that has an address at a time, with a flow that began at
// another; "" is nobody, "?" an owner of another time.
func who(c *Cluster, a string, start, end int64) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	known := c.addrs.get(keyOf(netip.MustParseAddr(a)))
	if known == nil {
		return ""
	}
	found := known.at(start, end)
	switch {
	case found.owner != nil && found.ambiguous:
		return found.owner.name + "!"
	case found.owner != nil:
		return found.owner.name
	case found.past:
		return "?"
	}
	return ""
}

func at(c *Cluster, a string, t int64) string { return who(c, a, t, t) }

func pod(name, ip string, from, until int64) Pod {
	return Pod{UID: "uid-" + name, Namespace: "ns", Name: name, Node: "n", Addrs: addrs(ip),
		From: from, Until: until}
}

func TestOwnerOfATime(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetPod(pod("first", "10.0.0.1", 10, 0), 11)
	require.Equal(t, "?", at(c, "10.0.0.1", 9), "before its time")
	require.Equal(t, "first", at(c, "10.0.0.1", 10))
	require.Equal(t, "first", at(c, "10.0.0.1", 1000))
	require.Equal(t, "", at(c, "10.0.0.2", 10))

	c.SetPod(pod("first", "10.0.0.1", 10, 20), 25) // it has ended, and is still there
	require.Equal(t, "first", at(c, "10.0.0.1", 19))
	require.Equal(t, "?", at(c, "10.0.0.1", 20))
	require.Equal(t, "first", who(c, "10.0.0.1", 15, 30), "a flow that began in its time")

	c.SetPod(pod("second", "10.0.0.1", 30, 0), 31)
	for time, want := range map[int64]string{19: "first", 25: "?", 30: "second", 99: "second"} {
		require.Equal(t, want, at(c, "10.0.0.1", time), time)
	}
	require.Equal(t, "second", who(c, "10.0.0.1", 15, 40), "its last packet is the second's")

	c.DeletePod("uid-first", 50) // late, and not the owner any more
	require.Equal(t, "second", at(c, "10.0.0.1", 60))
	require.Equal(t, "first", at(c, "10.0.0.1", 19))
	c.DeletePod("uid-first", 70) // unknown by now
	require.Equal(t, "second", at(c, "10.0.0.1", 80))
}

// TestReuseBeforeDelete: an address is given away before its former owner is reported as gone.
func TestReuseBeforeDelete(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetPod(pod("old", "fd00::1", 10, 0), 10)
	c.SetPod(pod("new", "fd00::1", 20, 0), 20)
	require.Equal(t, "old", at(c, "fd00::1", 15))
	require.Equal(t, "new!", at(c, "fd00::1", 25), "both claim it: the later one, with a flag")
	c.DeletePod("uid-old", 30)
	require.Equal(t, "new", at(c, "fd00::1", 25))
	require.Equal(t, "new", at(c, "fd00::1", 35))
}

// TestOrderOfReports: what is told in another order gives the same answers.
func TestOrderOfReports(t *testing.T) {
	pods := []Pod{pod("a", "10.0.0.1", 10, 20), pod("b", "10.0.0.1", 15, 0), pod("c", "10.0.0.1", 15, 0)}
	for order := range permutations(3) {
		c := NewCluster(ClusterOptions{})
		for _, i := range order {
			c.SetPod(pods[i], 5)
		}
		require.Equal(t, "a", at(c, "10.0.0.1", 12))
		require.Equal(t, "c!", at(c, "10.0.0.1", 16), "of equal times the higher UID")
	}
}

func TestPodChangesAddress(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetPod(pod("a", "10.0.0.1", 10, 0), 10)
	c.SetPod(pod("a", "10.0.0.2", 20, 0), 25) // a new sandbox
	require.Equal(t, "a", at(c, "10.0.0.1", 24))
	require.Equal(t, "?", at(c, "10.0.0.1", 26))
	require.Equal(t, "a", at(c, "10.0.0.2", 26))
	c.SetPod(pod("a", "10.0.0.1", 30, 0), 30) // and its first address again
	require.Equal(t, "a", at(c, "10.0.0.1", 24))
	require.Equal(t, "a", at(c, "10.0.0.1", 31))
	pods, err := NewLabeler(Options{Clusters: []*Cluster{c}}).GetPodsByIP("10.0.0.1")
	require.NoError(t, err)
	require.Len(t, pods, 1)
}

func TestUnknownBeginning(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetPod(pod("a", "10.0.0.1", 0, 0), 10)
	require.Equal(t, "?", at(c, "10.0.0.1", 9))
	require.Equal(t, "a", at(c, "10.0.0.1", 10))
	c.SetPod(pod("a", "10.0.0.1", 0, 0), 20)
	require.Equal(t, "a", at(c, "10.0.0.1", 10), "an update does not move it")
}

func TestHostNetwork(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetNode(Node{UID: "n", Name: "n", Internal: addrs("10.9.0.1"), Others: addrs("10.244.0.1", "203.0.113.9")}, 1)
	p := pod("agent", "10.9.0.1", 1, 0)
	p.HostNetwork = true
	c.SetPod(p, 2)
	require.Equal(t, "n", at(c, "10.9.0.1", 5))
	require.Equal(t, "n", at(c, "203.0.113.9", 5))
	require.Equal(t, "n", at(c, "10.244.0.1", 5))
	l := NewLabeler(Options{Clusters: []*Cluster{c}})
	pods, err := l.GetPodsByIP("10.9.0.1")
	require.NoError(t, err)
	require.Empty(t, pods)

	c.DeletePod("uid-agent", 9)
	require.Equal(t, "n", at(c, "10.9.0.1", 10))
	c.DeleteNode("n", "another", 9)
	require.Equal(t, "n", at(c, "10.9.0.1", 10))
	c.DeleteNode("n", "n", 9)
	require.Equal(t, "n", at(c, "10.9.0.1", 8))
	require.Equal(t, "?", at(c, "10.9.0.1", 10))
}

func TestNodeIsReplaced(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetNode(Node{UID: "1", Name: "n", Internal: addrs("10.9.0.1"), Zone: "a", From: 1}, 2)
	c.SetNode(Node{UID: "2", Name: "n", Internal: addrs("10.9.0.2"), Zone: "b", From: 8}, 9)
	require.Equal(t, "n", at(c, "10.9.0.1", 8))
	require.Equal(t, "?", at(c, "10.9.0.1", 9))
	require.Equal(t, "n", at(c, "10.9.0.2", 8))
	c.DeleteNode("n", "1", 10)
	require.Equal(t, "n", at(c, "10.9.0.2", 10))
	c.SetNode(Node{UID: "2", Name: "n", Internal: addrs("10.9.0.3"), Zone: "b", From: 8}, 12)
	require.Equal(t, "?", at(c, "10.9.0.2", 12))
	require.Equal(t, "n", at(c, "10.9.0.3", 12))
}

// TestLookups holds the lookups of both modes against kubenetmon's, cases 90 to 94 and 121.
func TestLookups(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			c := NewCluster(ClusterOptions{})
			l := NewLabeler(Options{Clusters: []*Cluster{c}, Strict: strict})
			names := func(ip string) (all []string) {
				pods, err := l.GetPodsByIP(ip)
				require.NoError(t, err)
				for _, p := range pods {
					all = append(all, p.Name)
				}
				return all
			}
			c.SetPod(pod("a", "1.2.3.4", 1, 0), 1)
			c.SetPod(pod("b", "1.2.3.4", 1, 0), 1)
			require.Equal(t, []string{"a", "b"}, names("1.2.3.4")) // 90
			c.DeletePod("uid-a", 2)
			require.Equal(t, []string{"b"}, names("1.2.3.4")) // 91
			require.Empty(t, names("0.0.0.0"))                // 92
			c.SetPod(pod("b", "1.2.3.4", 1, 3), 3)            // it has ended
			if strict {
				require.Equal(t, []string{"b"}, names("1.2.3.4"))
			} else {
				require.Empty(t, names("1.2.3.4")) // 121
			}
			_, err := l.GetPodsByIP("1.2.3")
			require.ErrorIs(t, err, ErrInvalidIP)

			c.SetNode(Node{UID: "n1", Name: "n1", Internal: addrs("10.9.0.1"), Others: addrs("10.9.9.9")}, 1)
			c.SetNode(Node{UID: "n2", Name: "n2", Internal: addrs("10.9.0.1")}, 1)
			_, err = l.GetNodeByInternalIP("10.9.0.1") // 93
			require.ErrorIs(t, err, ErrNodesShareInternalIP)
			c.DeleteNode("n1", "n1", 2)
			n, err := l.GetNodeByInternalIP("10.9.0.1")
			require.NoError(t, err)
			require.Equal(t, "n2", n.Name)
			n, err = l.GetNodeByInternalIP("10.9.9.9")
			require.NoError(t, err)
			require.Nil(t, n)
			_, err = l.GetNodeByInternalIP("")
			require.ErrorIs(t, err, ErrInvalidIP)
			n, err = l.GetNodeByName("n1") // 94
			require.NoError(t, err)
			require.Nil(t, n)
			n, err = l.GetNodeByName("n2")
			require.NoError(t, err)
			require.Equal(t, addrs("10.9.0.1"), n.Internal)
		})
	}
}

// TestPodsThatHaveEnded: whom an address belongs to that several pods have, case 120. Strict mode does as v1.0 does,
// which does not ask whether a pod has ended.
func TestPodsThatHaveEnded(t *testing.T) {
	const ended, running = 5, 0
	for name, c := range map[string]struct {
		until [2]int64
		owns  []string // the pods that have the address
		local string   // who is told in the record
		flags string
	}{
		"succeeded or failed, and running": {[2]int64{ended, running}, []string{"b"}, "c/b", "{}"},
		"both have ended":                  {[2]int64{ended, ended}, nil, "unknown", "{}"},
		"both are running":                 {[2]int64{running, running}, []string{"a", "b"}, "c/b", "{'AMBIGUOUS_OWNER':true}"},
	} {
		t.Run(name, func(t *testing.T) {
			c1 := NewCluster(ClusterOptions{Name: "c"})
			for i, pods := range []string{"a", "b"} {
				c1.SetPod(pod(pods, "1.2.3.4", int64(1+i), c.until[i]), 6)
			}
			c1.SetSynced()
			l := NewLabeler(Options{Clusters: []*Cluster{c1}})
			pods, err := l.GetPodsByIP("1.2.3.4")
			require.NoError(t, err)
			var owns []string
			for _, p := range pods {
				owns = append(owns, p.Name)
			}
			require.Equal(t, c.owns, owns)
			f := tcp("1.2.3.4:1", "9.9.9.9:1", "", "")
			f.Start, f.End = 7, 8
			got, err := l.LabelFlow("n", f)
			require.NoError(t, err)
			require.Equal(t, c.local, brief(got.Local.Labels))
			require.Equal(t, c.flags, got.ConnectionFlags.String())

			_, err = NewLabeler(Options{Clusters: []*Cluster{c1}, Strict: true}).LabelFlow("n", plainFlow("1.2.3.4", "9.9.9.9"))
			require.ErrorContains(t, err, "more than one pod maps to 1.2.3.4")
		})
	}
}

// TestSharedClusterIP has two services claim an address, which is an error in case 95: the first one by name is told
// until it is gone, then the other one.
func TestSharedClusterIP(t *testing.T) {
	c := NewCluster(ClusterOptions{Name: "c"})
	l := NewLabeler(Options{Clusters: []*Cluster{c}})
	service := func() string {
		got, err := l.LabelFlow("n", tcp("10.0.0.1:1", "10.96.0.1:80", "", ""))
		require.NoError(t, err)
		return got.Service
	}
	require.Equal(t, "", service())
	for _, name := range []string{"b", "a"} {
		c.SetService(Service{Namespace: "ns", Name: name, Addrs: addrs("10.96.0.1"), Ports: []ServicePort{{Protocol: 6, Port: 80}}})
	}
	require.Equal(t, "ns/a", service())
	c.DeleteService("ns", "a")
	require.Equal(t, "ns/b", service())
	c.DeleteService("ns", "b")
	require.Equal(t, "", service())
}

func TestKeep(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	c.SetPod(pod("a", "10.0.0.1", 1, 0), 1)
	c.SetPod(pod("b", "10.0.0.2", 1, 0), 1)
	c.KeepPods(map[string]bool{"uid-b": true}, 5)
	require.Equal(t, "?", at(c, "10.0.0.1", 6))
	require.Equal(t, "b", at(c, "10.0.0.2", 6))
	c.SetNode(Node{UID: "n1", Name: "n1", Internal: addrs("10.9.0.1")}, 1)
	c.SetNode(Node{UID: "n2", Name: "n2", Internal: addrs("10.9.0.2")}, 1)
	c.KeepNodes(map[string]bool{"n2": true}, 5)
	require.Equal(t, "?", at(c, "10.9.0.1", 6))
	require.Equal(t, "n2", at(c, "10.9.0.2", 6))
}

// TestHistory: former owners are forgotten, and nothing stays behind.
func TestHistory(t *testing.T) {
	c := NewCluster(ClusterOptions{History: 10 * time.Second})
	c.SetNode(Node{UID: "n", Name: "n", Internal: addrs("10.9.0.1")}, 1)
	for i := range int64(1000) {
		c.SetOwner("ns", Ref{"ReplicaSet", fmt.Sprint(i)}, Ref{"Deployment", "d"})
		p := pod(fmt.Sprint("p", i), fmt.Sprintf("10.0.%d.1", i%200), i*second, 0)
		p.Controller = Ref{"ReplicaSet", fmt.Sprint(i)}
		c.SetPod(p, i*second)
		c.DeletePod(p.UID, i*second+1)
		c.DeleteOwner("ns", p.Controller)
	}
	require.Equal(t, "p995", at(c, "10.0.195.1", 995*second))
	require.LessOrEqual(t, c.addrs.n, 12)
	require.LessOrEqual(t, len(c.released), 12)
	require.Empty(t, c.pods)
	require.Empty(t, c.workloads)
	require.Empty(t, c.namespaces)
	require.Len(t, c.nodes, 1)
	c.DeleteNode("n", "n", 1001*second)
	require.Empty(t, c.nodes)
}

// TestManyOwners: one address cannot make a cluster remember without bounds.
func TestManyOwners(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	for i := range int64(1000) {
		p := pod(fmt.Sprint("p", i), "10.0.0.1", i, 0)
		c.SetPod(p, i)
		if i < 999 {
			c.DeletePod(p.UID, i+1)
		}
	}
	require.Len(t, c.addrs.get(keyOf(netip.MustParseAddr("10.0.0.1"))).spans(), maxSpans)
	require.Equal(t, "p999", at(c, "10.0.0.1", 999))
	require.Equal(t, "p990", at(c, "10.0.0.1", 990))
}

// TestLabelsFollow: labels are those of now, whatever of a pod's surroundings is told later.
func TestLabelsFollow(t *testing.T) {
	c := NewCluster(ClusterOptions{Name: "c"})
	p := pod("a", "10.0.0.1", 1, 0)
	p.Controller = Ref{"ReplicaSet", "web-1"}
	c.SetPod(p, 1)
	labels := func() flow.Labels {
		c.mu.RLock()
		defer c.mu.RUnlock()
		return *c.pods["uid-a"].labels(c)
	}
	want := flow.Labels{Kind: flow.KindPod, Cluster: "c", Namespace: "ns", Pod: "a", Node: "n",
		Workload: "web-1", WorkloadKind: "ReplicaSet"}
	require.Equal(t, want, labels())

	c.SetOwner("ns", p.Controller, Ref{"Deployment", "web"})
	want.Workload, want.WorkloadKind = "web", "Deployment"
	require.Equal(t, want, labels())

	c.SetNode(Node{UID: "n", Name: "n", Zone: "z", Region: "r", Cloud: AWS}, 2)
	want.Zone, want.Region, want.Cloud = "z", "r", "aws"
	require.Equal(t, want, labels())

	c.SetNamespace("ns", "shop")
	want.App = "shop"
	require.Equal(t, want, labels())

	p.App, p.Instance = "web", "i"
	c.SetPod(p, 3)
	want.App, want.Instance = "web", "i"
	require.Equal(t, want, labels())

	c.DeleteOwner("ns", p.Controller) // its pods outlive it
	require.Equal(t, want, labels())
}

// TestSharedLabels: all lookups of an owner give one set.
func TestSharedLabels(t *testing.T) {
	c := NewCluster(ClusterOptions{Name: "c"})
	c.SetPod(pod("a", "10.0.0.1", 1, 0), 1)
	l := NewLabeler(Options{Clusters: []*Cluster{c}})
	f := plainFlow("10.0.0.1", "8.8.8.8")
	first, err := l.LabelFlow("n", f)
	require.NoError(t, err)
	second, err := l.LabelFlow("n", f)
	require.NoError(t, err)
	require.Same(t, first.Local.Labels, second.Local.Labels)
	require.Same(t, first.Remote.Labels, second.Remote.Labels)
}

// TestClusterMemory holds the bar of 1 MB of heap per 1000 pods, with what else comes with them.
func TestClusterMemory(t *testing.T) {
	const pods = 20000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := bigCluster(pods)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / pods
	t.Logf("%d bytes of heap for each pod", each)
	require.Less(t, each, int64(1000))
	runtime.KeepAlive(c)
}
