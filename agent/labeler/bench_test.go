package labeler

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bigCluster has pods of both families, a node for each hundred, and a service for each ten.
func bigCluster(pods int) *Cluster {
	c := NewCluster(ClusterOptions{Name: "big"})
	for i := range pods {
		node := fmt.Sprintf("ip-10-0-%d.internal", i/100)
		if i%100 == 0 {
			c.SetNode(Node{UID: node, Name: node, Internal: []netip.Addr{numbered4(9, i)},
				Zone: fmt.Sprint("zone-", i/100%3), Region: "region", Cloud: AWS}, 1)
		}
		if i%10 == 0 {
			c.SetOwner("namespace", Ref{"ReplicaSet", fmt.Sprintf("web-%d-5d4f8c7b9", i/10)},
				Ref{"Deployment", fmt.Sprintf("web-%d", i/10)})
			c.SetService(Service{Namespace: "namespace", Name: fmt.Sprintf("web-%d", i/10),
				Addrs: []netip.Addr{numbered4(96, i)}, Ports: []ServicePort{{unix.IPPROTO_TCP, 80, 0}}})
		}
		c.SetPod(bigPod(i, node), 1)
		c.SetEndpoints(Endpoints{Namespace: "namespace", Name: fmt.Sprintf("web-%d", i),
			Service: fmt.Sprintf("web-%d", i/10), Addrs: []netip.Addr{numbered4(10, i)},
			Ports: []EndpointPort{{unix.IPPROTO_TCP, 8080}}})
	}
	c.SetSynced()
	return c
}

func bigPod(i int, node string) Pod {
	return Pod{UID: fmt.Sprintf("c0ffee00-1234-4321-aaaa-%012d", i), Namespace: "namespace",
		Name: fmt.Sprintf("web-%d-5d4f8c7b9-%05d", i/10, i), Node: node,
		Addrs:      []netip.Addr{numbered4(10, i), numbered6(i)},
		Controller: Ref{"ReplicaSet", fmt.Sprintf("web-%d-5d4f8c7b9", i/10)}, App: "web", From: 1}
}

func numbered4(first byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{first, byte(i >> 16), byte(i >> 8), byte(i)})
}

func numbered6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0, 0, 7, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// public4 and public6 are in prefix i of bigRanges.
func public4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(20 + i>>14), byte(i >> 6), byte(i << 2), 9})
}

func public6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x26, 0, byte(i >> 12), byte(i >> 4), byte(i << 4), 15: 9})
}

// bigRanges has half of its prefixes in each family. They share ranges, as those of providers do.
func bigRanges(tb testing.TB, prefixes int) *Ranges {
	f := File{Provider: ProviderAWS}
	shared := sharedRanges{}
	for i := range prefixes / 2 {
		r := shared.of(AWS, fmt.Sprint("service", i%20), fmt.Sprint("region", i%33))
		f.Entries = append(f.Entries, Entry{netip.PrefixFrom(public4(i), 22+i%3).Masked(), r},
			Entry{netip.PrefixFrom(public6(i), 40+i%9).Masked(), r})
	}
	r, err := NewRanges([]File{f}, RangeOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// bigFlow is between pods, through a service, or to a cloud, of either family. Its number says which;
// one pod is a number itself, the other one follows from it.
func bigFlow(i, pod int) Flow {
	other := (pod*31 + 17) % 100000
	src, dst := numbered4(10, pod), numbered4(10, other)
	switch i % 4 {
	case 1:
		src, dst = numbered6(pod), numbered6(other)
	case 2:
		dst = public4(other / 2)
	case 3:
		src, dst = numbered6(pod), public6(other/2)
	}
	a, b := netip.AddrPortFrom(src, 40000), netip.AddrPortFrom(dst, 8080)
	f := Flow{Protocol: unix.IPPROTO_TCP, Original: Leg{a, b, 10, 11}, Reply: Leg{b, a, 12, 13},
		Start: 5, End: 10}
	if i%8 == 0 {
		f.Original.Dst = netip.AddrPortFrom(numbered4(96, other/10*10), 80)
	}
	return f
}

// nearFlow has a pod of one node at one end, as an agent sees it.
func nearFlow(i int) Flow { return bigFlow(i, 500+i%100) }

// anyFlow is between any two of all pods, or from any of them, as a collector sees it.
func anyFlow(i int) Flow { return bigFlow(i, i*7919%99991) }

func bigLabeler(tb testing.TB) *Labeler {
	remote := NewRemoteLabeler(RemoteOptions{Cloud: AWS, Region: "region1"})
	remote.SetRanges(bigRanges(tb, 100000))
	return NewLabeler(Options{Clusters: []*Cluster{bigCluster(100000)}, Remote: remote})
}

// BenchmarkLabelFlow labels both ends, with 100 000 pods and 100 000 prefixes. Making the flow is part
// of it.
func BenchmarkLabelFlow(b *testing.B) {
	l := bigLabeler(b)
	for name, next := range map[string]func(int) Flow{"node": nearFlow, "anywhere": anyFlow} {
		b.Run(name, func(b *testing.B) { labelFlows(b, l, next) })
	}
}

func labelFlows(b *testing.B, l *Labeler, next func(int) Flow) {
	for i := range 200000 { // labels are made at the first lookup
		f := next(i)
		if _, err := l.LabelFlow("", &f); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f := next(i)
		_, _ = l.LabelFlow("ip-10-0-5.internal", &f)
		i++
	}
}

// BenchmarkLabelFlowWhileChanging does so while 10 000 pods a second come or go.
func BenchmarkLabelFlowWhileChanging(b *testing.B) {
	l := bigLabeler(b)
	stop, done := make(chan struct{}), make(chan int)
	go func() { done <- churn(l.clusters[0], stop) }()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f := nearFlow(i)
		_, _ = l.LabelFlow("ip-10-0-5.internal", &f)
		i++
	}
	close(stop)
	b.ReportMetric(float64(<-done)/b.Elapsed().Seconds(), "changes/s")
}

// churn replaces pods until it is stopped. It makes up for what it has missed.
func churn(c *Cluster, stop chan struct{}) (changes int) {
	const perSecond = 10_000
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for {
		select {
		case <-stop:
			return changes
		case <-tick.C:
			for due := int(time.Since(begun).Seconds() * perSecond); changes < due; changes += 2 {
				p := bigPod(changes*13%100000, "ip-10-0-1.internal")
				c.DeletePod(p.UID, int64(changes))
				p.From = int64(changes)
				c.SetPod(p, int64(changes))
			}
		}
	}
}

// BenchmarkCloudLookup asks for an address of each of 100 000 prefixes in turn.
func BenchmarkCloudLookup(b *testing.B) {
	r := bigRanges(b, 100000)
	for name, address := range map[string]func(int) netip.Addr{"v4": public4, "v6": public6} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i, found := 0, 0
			for b.Loop() {
				if r.lookup(keyOf(address(i*7919%50000))) != nil {
					found++
				}
				i++
			}
			b.ReportMetric(float64(found)/float64(i), "found")
		})
	}
}

// BenchmarkLoadRanges reads the four providers' real files.
func BenchmarkLoadRanges(b *testing.B) {
	data := realFiles(b)
	b.ReportAllocs()
	for b.Loop() {
		loadReal(b, data, false)
	}
}

func BenchmarkSetPod(b *testing.B) {
	c := bigCluster(100000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.SetPod(bigPod(i%100000, "ip-10-0-1.internal"), int64(i))
		i++
	}
}
