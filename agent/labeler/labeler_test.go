package labeler

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
)

// world is a cluster of two nodes in two zones, with services, ranges, and a second cluster.
func world(t testing.TB) *Labeler {
	t.Helper()
	c := NewCluster(ClusterOptions{Name: "blue"})
	c.SetNode(Node{UID: "n1", Name: "n1", Internal: addrs("10.9.0.1", "fd09::1"), Others: addrs("203.0.113.1"),
		Zone: "eu-west-1a", Region: "eu-west-1", Cloud: AWS}, 1)
	c.SetNode(Node{UID: "n2", Name: "n2", Internal: addrs("10.9.0.2", "fd09::2"),
		Zone: "eu-west-1b", Region: "eu-west-1", Cloud: AWS}, 1)
	c.SetNode(Node{UID: "n3", Name: "n3", Internal: addrs("10.9.0.3"),
		Zone: "eu-west-1a", Region: "eu-west-1", Cloud: AWS}, 1)
	set := func(name, node string, ips ...string) {
		c.SetPod(Pod{UID: name, Namespace: "shop", Name: name, Node: node, Addrs: addrs(ips...), From: 1}, 1)
	}
	set("web", "n1", "10.0.1.1", "fd00:1::1")
	set("cache", "n1", "10.0.1.2")
	set("db", "n2", "10.0.2.1", "fd00:2::1")
	set("near", "n3", "10.0.3.1")
	set("pupi", "n2", "100.64.0.9") // addresses that are not RFC 1918's
	set("public", "n2", "198.51.100.7")
	c.SetPod(Pod{UID: "agent", Namespace: "kube-system", Name: "agent", Node: "n1", Addrs: addrs("10.9.0.1"),
		HostNetwork: true, From: 1}, 1)
	c.SetService(Service{Namespace: "shop", Name: "db", Addrs: addrs("10.96.0.1", "fd96::1"),
		Ports: []ServicePort{{unix.IPPROTO_TCP, 5432, 0}}})
	c.SetEndpoints(Endpoints{Namespace: "shop", Name: "db-1", Service: "db", Addrs: addrs("10.0.2.1", "fd00:2::1"),
		Ports: []EndpointPort{{unix.IPPROTO_TCP, 5433}}})
	c.SetService(Service{Namespace: "shop", Name: "web", Addrs: addrs("10.96.0.2", "203.0.113.80"),
		Ports: []ServicePort{{unix.IPPROTO_TCP, 80, 30080}}})
	c.SetEndpoints(Endpoints{Namespace: "shop", Name: "web-1", Service: "web", Addrs: addrs("10.0.1.1"),
		Ports: []EndpointPort{{unix.IPPROTO_TCP, 8080}}})
	c.SetService(Service{Namespace: "default", Name: "kubernetes", Addrs: addrs("10.96.0.3"),
		Ports: []ServicePort{{unix.IPPROTO_TCP, 443, 0}}})
	c.SetEndpoints(Endpoints{Namespace: "default", Name: "kubernetes", Service: "kubernetes",
		Addrs: addrs("10.9.0.2"), Ports: []EndpointPort{{unix.IPPROTO_TCP, 6443}}})
	c.SetSynced()

	green := NewCluster(ClusterOptions{Name: "green"})
	green.SetNode(Node{UID: "g1", Name: "n1", Internal: addrs("10.8.0.1"), Zone: "us-east-1a",
		Region: "us-east-1", Cloud: AWS}, 1)
	green.SetPod(Pod{UID: "g-web", Namespace: "shop", Name: "web", Node: "n1", Addrs: addrs("10.80.0.1", "10.0.1.1"),
		From: 1}, 1)
	green.SetNode(Node{UID: "g2", Name: "bare"}, 1)
	green.SetPod(Pod{UID: "g-bare", Namespace: "shop", Name: "bare", Node: "bare", Addrs: addrs("10.80.0.2"), From: 1}, 1)
	green.SetSynced()

	remote := NewRemoteLabeler(RemoteOptions{})
	aws := parse(t, ProviderAWS, awsText("52.1.0.0/16", "S3", "eu-west-1", "52.2.0.0/16", "S3", "us-east-1",
		"52.3.0.0/16", "S3", "GLOBAL", "52.4.0.0/16", "S3", "", "198.51.0.0/16", "EC2", "us-east-1"))
	gcp := parse(t, ProviderGCP, `{"prefixes":[{"ipv4Prefix":"34.1.0.0/16","service":"Google Cloud","scope":"europe-west1"}]}`)
	ranges, err := NewRanges([]File{aws, gcp}, RangeOptions{User: []Entry{
		{netip.MustParsePrefix("10.50.0.0/16"), &Range{Name: "postgres", Zone: "eu-west-1a", Region: "eu-west-1"}},
		{netip.MustParsePrefix("10.51.0.0/16"), &Range{Name: "office"}},
		{netip.MustParsePrefix("10.52.0.0/16"), &Range{Name: "peering", Class: InterRegion}},
		{netip.MustParsePrefix("192.0.2.0/24"), &Range{Name: "partner"}},
	}})
	require.NoError(t, err)
	remote.SetRanges(ranges)
	return NewLabeler(Options{Clusters: []*Cluster{c, green}, Remote: remote})
}

// brief is what an end is called in these tests.
func brief(l *flow.Labels) string {
	switch l.Kind {
	case flow.KindPod:
		return l.Cluster + "/" + l.Pod
	case flow.KindNode:
		return l.Cluster + "/" + l.Node
	case flow.KindService:
		return "service " + l.Service
	case flow.KindCloud:
		return l.Cloud + " " + l.CloudService + " " + l.Region
	case flow.KindRange:
		return l.Name
	}
	return string(l.Kind)
}

func tcp(src, dst, replySrc, replyDst string) *Flow {
	at := func(s string) (a netip.AddrPort) {
		if s != "" {
			a = netip.MustParseAddrPort(s)
		}
		return a
	}
	return &Flow{Protocol: unix.IPPROTO_TCP, Start: 5, End: 10, Original: Leg{at(src), at(dst), 10, 11},
		Reply: Leg{at(replySrc), at(replyDst), 12, 13}}
}

func TestLabelFlow(t *testing.T) {
	for name, c := range map[string]struct {
		node          string
		flow          *Flow
		local, remote string
		service       string
		class         ConnectionClass
		flags         string
	}{
		// What kubenetmon gets wrong or loses.
		"through a NodePort, on the node that forwards": {"n1",
			tcp("8.8.8.8:5000", "10.9.0.1:30080", "10.0.1.1:8080", "10.9.0.1:5000"),
			"blue/web", "internet", "shop/web", PublicInternet, ""},
		"through a NodePort, to a pod on another node": {"n3",
			tcp("8.8.8.8:5000", "10.9.0.3:30080", "10.0.1.1:8080", "10.9.0.3:5000"),
			"blue/web", "internet", "shop/web", PublicInternet, ""},
		"the same, on the pod's node, behind source NAT": {"n1",
			tcp("10.9.0.3:5000", "10.0.1.1:8080", "10.0.1.1:8080", "10.9.0.3:5000"),
			"blue/web", "blue/n3", "shop/web", IntraZone, "{'MIRROR':true,'SERVICE_INFERRED':true}"},
		"a service with a node as backend": {"n1",
			tcp("10.0.1.1:5000", "10.96.0.3:443", "10.9.0.2:6443", "10.0.1.1:5000"),
			"blue/web", "blue/n2", "default/kubernetes", InterZone, ""},
		"a node's external address": {"n2",
			tcp("10.0.2.1:5000", "203.0.113.1:22", "203.0.113.1:22", "10.0.2.1:5000"),
			"blue/db", "blue/n1", "", InterZone, ""},
		"a pod with shared address space": {"n1",
			tcp("10.0.1.1:5000", "100.64.0.9:1", "100.64.0.9:1", "10.0.1.1:5000"),
			"blue/web", "blue/pupi", "", InterZone, ""},
		"a pod with a public address beats a cloud's range": {"n1",
			tcp("10.0.1.1:5000", "198.51.100.7:1", "198.51.100.7:1", "10.0.1.1:5000"),
			"blue/web", "blue/public", "", InterZone, ""},
		"a node's own flow": {"n1",
			tcp("10.9.0.1:5000", "10.0.2.1:9", "10.0.2.1:9", "10.9.0.1:5000"),
			"blue/n1", "blue/db", "", InterZone, ""},
		"two pods of other nodes": {"elsewhere",
			tcp("10.0.1.1:5000", "10.0.2.1:9", "10.0.2.1:9", "10.0.1.1:5000"),
			"blue/web", "blue/db", "", InterZone, ""},
		"nobody here": {"n1",
			tcp("8.8.8.8:5000", "1.1.1.1:53", "", ""), "internet", "internet", "", PublicInternet, ""},
		"IPv6": {"n1",
			tcp("[fd00:1::1]:5000", "[fd96::1]:5432", "[fd00:2::1]:5433", "[fd00:1::1]:5000"),
			"blue/web", "blue/db", "shop/db", InterZone, ""},
		"107 IPv4 to IPv6": {"n1",
			tcp("10.0.1.1:5000", "[fd00:2::1]:9", "", ""),
			"blue/web", "blue/db", "", InterZone, ""},
		"IPv4 in IPv6": {"n1",
			tcp("[::ffff:10.0.1.1]:5000", "[::ffff:10.0.2.1]:9", "", ""),
			"blue/web", "blue/db", "", InterZone, ""},

		// Services.
		"a cluster IP and its backend": {"n1",
			tcp("10.0.1.1:5000", "10.96.0.1:5432", "10.0.2.1:5433", "10.0.1.1:5000"),
			"blue/web", "blue/db", "shop/db", InterZone, ""},
		"a cluster IP before translation": {"n1",
			tcp("10.0.1.1:5000", "10.96.0.1:5432", "10.96.0.1:5432", "10.0.1.1:5000"),
			"blue/web", "service db", "shop/db", IntraVPC, ""},
		"a backend, translated in the socket": {"n1",
			tcp("10.0.1.1:5000", "10.0.2.1:5433", "10.0.2.1:5433", "10.0.1.1:5000"),
			"blue/web", "blue/db", "shop/db", InterZone, "{'SERVICE_INFERRED':true}"},
		"another port of a backend": {"n1",
			tcp("10.0.1.1:5000", "10.0.2.1:22", "10.0.2.1:22", "10.0.1.1:5000"),
			"blue/web", "blue/db", "", InterZone, ""},
		"a load balancer's address": {"n1",
			tcp("8.8.8.8:5000", "203.0.113.80:80", "10.0.1.1:8080", "8.8.8.8:5000"),
			"blue/web", "internet", "shop/web", PublicInternet, ""},

		// Classes.
		"same host":     {"n1", tcp("10.0.1.1:5000", "10.0.1.2:9", "", ""), "blue/web", "blue/cache", "", SameHost, ""},
		"own node":      {"n1", tcp("10.0.1.1:5000", "10.9.0.1:9", "", ""), "blue/web", "blue/n1", "", SameHost, ""},
		"124 same zone": {"n1", tcp("10.0.1.1:5000", "10.0.3.1:9", "", ""), "blue/web", "blue/near", "", IntraZone, ""},
		"124 two zones, seen from the receiver": {"n2", tcp("10.0.1.1:5000", "10.0.2.1:9", "", ""),
			"blue/db", "blue/web", "", InterZone, "{'MIRROR':true}"},
		"two clusters in two regions": {"n1", tcp("10.0.1.1:5000", "10.80.0.1:9", "", ""),
			"blue/web", "green/web", "", InterRegion, ""},
		"a cloud's own region":   {"n1", tcp("10.0.1.1:5000", "52.1.0.9:443", "", ""), "blue/web", "aws s3 eu-west-1", "", IntraRegion, ""},
		"a cloud's other region": {"n1", tcp("10.0.1.1:5000", "52.2.0.9:443", "", ""), "blue/web", "aws s3 us-east-1", "", InterRegion, ""},
		"a cloud's global range": {"n1", tcp("10.0.1.1:5000", "52.3.0.9:443", "", ""), "blue/web", "aws s3 global", "", IntraRegion, ""},
		"another cloud":          {"n1", tcp("10.0.1.1:5000", "34.1.0.9:443", "", ""), "blue/web", "gcp googlecloud europe-west1", "", PublicInternet, ""},
		"the Internet":           {"n1", tcp("10.0.1.1:5000", "9.9.9.9:443", "", ""), "blue/web", "internet", "", PublicInternet, ""},
		"from the Internet":      {"n1", tcp("9.9.9.9:5000", "10.0.1.2:443", "", ""), "blue/cache", "internet", "", PublicInternet, ""},
		"private, of nobody":     {"n1", tcp("10.0.1.1:5000", "192.168.7.7:443", "", ""), "blue/web", "private", "", PrivateOther, ""},
		"range with a place":     {"n1", tcp("10.0.1.1:5000", "10.50.0.1:5432", "", ""), "blue/web", "postgres", "", IntraZone, ""},
		"range, the other zone":  {"n2", tcp("10.0.2.1:5000", "10.50.0.1:5432", "", ""), "blue/db", "postgres", "", InterZone, ""},
		"range, private":         {"n1", tcp("10.0.1.1:5000", "10.51.0.1:5432", "", ""), "blue/web", "office", "", PrivateOther, ""},
		"range with a class":     {"n1", tcp("10.0.1.1:5000", "10.52.0.1:5432", "", ""), "blue/web", "peering", "", InterRegion, ""},
		"range, public":          {"n1", tcp("10.0.1.1:5000", "192.0.2.1:5432", "", ""), "blue/web", "partner", "", PublicInternet, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := world(t)
			got, err := l.LabelFlow(c.node, c.flow)
			require.NoError(t, err)
			require.Equal(t, c.local, brief(got.Local.Labels))
			require.Equal(t, c.remote, brief(got.Remote.Labels))
			require.Equal(t, c.service, got.Service)
			require.Equal(t, c.class, got.ConnectionClass)
			if c.flags == "" {
				c.flags = "{}"
			}
			require.Equal(t, c.flags, got.ConnectionFlags.String())
			out := got.BytesOut == 11 // the initiator is local
			require.Equal(t, out, got.Local.IP == c.flow.Original.Src.Addr().Unmap())
			require.Equal(t, uint64(24), got.BytesIn+got.BytesOut)
			require.Equal(t, Stats{In: Count{22, 24}, Labelled: Count{22, 24}}, l.Stats())
		})
	}
}

// TestEndsHaveNames: what tells of an end what it is, of which case 123 makes one name.
func TestEndsHaveNames(t *testing.T) {
	l := world(t)
	green := l.clusters[1]
	green.SetPod(Pod{UID: "r", Namespace: "shop", Name: "redis-0", Node: "n1", Addrs: addrs("10.50.0.9"), From: 1,
		App: "redis", Instance: "redis-primary", Controller: Ref{"StatefulSet", "redis"}}, 1)
	green.SetPod(Pod{UID: "s", Namespace: "shop", Name: "bare-0", Node: "n1", Addrs: addrs("10.50.0.8"), From: 1,
		Controller: Ref{"StatefulSet", "bare"}}, 1)
	type names struct{ instance, app, workload, name, service string }
	for addr, want := range map[string]names{
		"10.50.0.9": {instance: "redis-primary", app: "redis", workload: "redis"}, // a pod in a range is a pod
		"10.50.0.8": {workload: "bare"},
		"10.50.0.7": {name: "postgres"},
		"52.1.0.9":  {service: "s3"},
		"9.9.9.9":   {},
	} {
		got, err := l.LabelFlow("n1", tcp("10.0.1.1:1", addr+":1", "", ""))
		require.NoError(t, err)
		r := got.Remote.Labels
		require.Equal(t, want, names{r.Instance, r.App, r.Workload, r.Name, r.CloudService}, addr)
		require.Equal(t, want == names{}, r.Kind == flow.KindInternet)
	}
}

// TestLoopback: in case 105 kubenetmon's agent leaves 127.0.0.1 out. Here an interface is watched or not; what is counted at a
// loopback device has labels like the rest.
func TestLoopback(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "[::1]"} {
		got, err := world(t).LabelFlow("n1", tcp(addr+":1", addr+":2", "", ""))
		require.NoError(t, err)
		require.Equal(t, PrivateOther, got.ConnectionClass, addr)
	}
}

// TestUnknown: nothing is dropped, and the reasons add up.
func TestUnknown(t *testing.T) {
	l := world(t)
	blue := l.clusters[0]
	blue.DeletePod("cache", 7)
	for _, c := range []struct {
		flow   *Flow
		reason Reason
	}{
		{tcp("10.0.1.1:1", "52.4.0.1:1", "", ""), NoRegion},
		{tcp("10.0.1.1:1", "10.0.1.2:1", "", ""), Labelled}, // it began in the owner's time
		{tcp("10.0.1.1:1", "10.80.0.2:1", "", ""), NoPlace},
		{&Flow{Protocol: 47, Original: tcp("10.0.1.1:0", "10.0.1.2:0", "", "").Original, Start: 8, End: 9}, PastOwner},
	} {
		got, err := l.LabelFlow("n1", c.flow)
		require.NoError(t, err)
		require.Equal(t, c.reason, got.Unlabelled)
		require.Equal(t, c.reason != Labelled, got.ConnectionClass == Unknown)
		require.Equal(t, "blue/web", brief(got.Local.Labels))
	}
	require.Equal(t, Stats{In: Count{76, 83}, Labelled: Count{22, 24}, Unknown: map[string]Count{
		"no-region": {22, 24}, "no-place": {22, 24}, "past-owner": {10, 11}}}, l.Stats())
}

func TestNotSynced(t *testing.T) {
	c := NewCluster(ClusterOptions{Name: "c"})
	l := NewLabeler(Options{Clusters: []*Cluster{c}})
	r := &flow.Record{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("9.9.9.9"), Protocol: 6,
		Packets: 1, Bytes: 60, Start: 5, End: 6, Role: flow.RoleInitiator}
	require.True(t, l.Pending(r, Asker{}))
	l.LabelRecord(r, Asker{})
	require.Equal(t, "UNKNOWN", r.Class)
	require.Equal(t, "not-synced", r.Unlabelled)

	c.SetSynced()
	require.True(t, l.Pending(r, Asker{}), "the pod may still appear")
	l.LabelRecord(r, Asker{})
	require.Equal(t, "PUBLIC_INTERNET", r.Class)
	require.Equal(t, flow.KindPrivate, r.SrcLabels.Kind)

	c.SetPod(pod("late", "10.0.0.1", 4, 0), 9)
	require.False(t, l.Pending(r, Asker{}))
	l.LabelRecord(r, Asker{})
	require.Equal(t, "late", r.SrcLabels.Pod)
	require.Equal(t, "", r.Unlabelled)

	none := NewLabeler(Options{})
	require.False(t, none.Pending(r, Asker{}), "nobody will tell more")
}

// TestRecords: both directions of a connection get the same service, whoever's role is known.
func TestRecords(t *testing.T) {
	l := world(t)
	client, server := netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.96.0.1")
	for _, c := range []struct {
		role flow.Role
		back bool
	}{{flow.RoleInitiator, false}, {flow.RoleResponder, true}, {flow.RoleUnknown, false}, {flow.RoleUnknown, true}} {
		r := &flow.Record{Src: client, Dst: server, SrcPort: 5000, DstPort: 5432, Protocol: 6, Role: c.role,
			Start: 5, End: 6}
		if c.back {
			r.Src, r.Dst, r.SrcPort, r.DstPort = server, client, 5432, 5000
		}
		l.LabelRecord(r, Asker{Node: "n1"})
		src, dst := r.SrcLabels, r.DstLabels
		if c.back {
			src, dst = dst, src
		}
		require.Equal(t, "blue/web", brief(src))
		require.Equal(t, "service db", brief(dst))
		require.Equal(t, "shop/db", r.Service)
		require.Equal(t, "INTRA_VPC", r.Class)
		require.Zero(t, r.LabelFlags)
	}
}

// TestTranslated: a record's ends are who sends and who receives, whatever its packets are called where
// they are seen, and the service is the one that the initiator addressed.
func TestTranslated(t *testing.T) {
	l := world(t)
	at := netip.MustParseAddr
	nat := func(src, dst string, srcPort, dstPort uint16) flow.NAT {
		return flow.NAT{ID: "x", Src: at(src), Dst: at(dst), SrcPort: srcPort, DstPort: dstPort}
	}
	rec := func(role flow.Role, src, dst string, srcPort, dstPort uint16) flow.Record {
		return flow.Record{Src: at(src), Dst: at(dst), SrcPort: srcPort, DstPort: dstPort, Protocol: 6, Role: role,
			Start: 5, End: 6}
	}
	for name, c := range map[string]struct {
		rec           flow.Record
		before, after flow.NAT
		src, dst      string
		service       string
		class         string
	}{
		"to the service": {rec: rec(flow.RoleInitiator, "10.0.1.1", "10.96.0.1", 5000, 5432),
			after: nat("10.0.1.1", "10.0.2.1", 5000, 5433), src: "blue/web", dst: "blue/db",
			service: "shop/db", class: "INTER_ZONE"},
		"to the backend": {rec: rec(flow.RoleInitiator, "10.0.1.1", "10.0.2.1", 5000, 5433),
			before: nat("10.0.1.1", "10.96.0.1", 5000, 5432), src: "blue/web", dst: "blue/db",
			service: "shop/db", class: "INTER_ZONE"},
		"from the backend": {rec: rec(flow.RoleResponder, "10.0.2.1", "10.0.1.1", 5433, 5000),
			before: nat("10.96.0.1", "10.0.1.1", 5432, 5000), src: "blue/db", dst: "blue/web",
			service: "shop/db", class: "INTER_ZONE"},
		"from the service": {rec: rec(flow.RoleResponder, "10.96.0.1", "10.0.1.1", 5432, 5000),
			after: nat("10.0.2.1", "10.0.1.1", 5433, 5000), src: "blue/db", dst: "blue/web",
			service: "shop/db", class: "INTER_ZONE"},
		"masqueraded": {rec: rec(flow.RoleInitiator, "10.9.0.1", "9.9.9.9", 1024, 443),
			before: nat("10.0.1.1", "9.9.9.9", 5000, 443), src: "blue/web", dst: "internet",
			class: "PUBLIC_INTERNET"},
		"back": {rec: rec(flow.RoleResponder, "9.9.9.9", "10.9.0.1", 443, 1024),
			before: nat("9.9.9.9", "10.0.1.1", 443, 5000), src: "internet", dst: "blue/web",
			class: "PUBLIC_INTERNET"},
		"back, not known of whom": {rec: rec(flow.RoleUnknown, "10.0.2.1", "10.0.1.1", 5433, 5000),
			before: nat("10.96.0.1", "10.0.1.1", 5432, 5000), src: "blue/db", dst: "blue/web",
			service: "shop/db", class: "INTER_ZONE"},
		"through a node's port": {rec: rec(flow.RoleInitiator, "10.9.0.1", "10.0.1.1", 1024, 8080),
			before: nat("9.9.9.9", "10.9.0.1", 5000, 30080), src: "internet", dst: "blue/web",
			service: "shop/web", class: "PUBLIC_INTERNET"},
	} {
		r := c.rec
		r.NATBefore, r.NATAfter = c.before, c.after
		l.LabelRecord(&r, Asker{})
		require.Equal(t, c.src, brief(r.SrcLabels), name)
		require.Equal(t, c.dst, brief(r.DstLabels), name)
		require.Equal(t, c.service, r.Service, name)
		require.Equal(t, c.class, r.Class, name)
	}
}

// TestMirror: of two nodes that see the same packets, the sender's counts.
func TestMirror(t *testing.T) {
	l := world(t)
	r := &flow.Record{Src: netip.MustParseAddr("10.0.1.1"), Dst: netip.MustParseAddr("10.0.2.1"), Protocol: 6,
		DstPort: 9, Role: flow.RoleInitiator, Start: 5, End: 6}
	for node, want := range map[string]flow.LabelFlags{"n1": 0, "n2": flow.FlagMirror, "": 0, "n3": 0} {
		l.LabelRecord(r, Asker{Node: node})
		require.Equal(t, want, r.LabelFlags, node)
	}
	r.Role = flow.RoleResponder
	l.LabelRecord(r, Asker{Node: "n2"})
	require.Equal(t, flow.FlagMirror, r.LabelFlags, "also of the responder's packets")
}

// TestEpoch: the clock of records has another beginning than that of clusters.
func TestEpoch(t *testing.T) {
	l := world(t)
	l.clusters[0].DeletePod("cache", 1000)
	r := &flow.Record{Src: netip.MustParseAddr("10.0.1.1"), Dst: netip.MustParseAddr("10.0.1.2"), Start: 10, End: 20}
	l.LabelRecord(r, Asker{Epoch: 900})
	require.Equal(t, "cache", r.DstLabels.Pod)
	l.LabelRecord(r, Asker{Epoch: 995})
	require.Equal(t, flow.KindUnknown, r.DstLabels.Kind)
}

// TestUID: what the kernel tells of a socket beats the address.
func TestUID(t *testing.T) {
	f := tcp("10.9.0.1:5000", "10.0.2.1:9", "", "")
	f.SrcUID = "agent"
	got, err := world(t).LabelFlow("n1", f)
	require.NoError(t, err)
	require.Equal(t, "blue/agent", brief(got.Local.Labels))
	require.Equal(t, "n1", got.Local.Node)
}

// TestZones: clusters with the same addresses are kept apart.
func TestZones(t *testing.T) {
	a, b := NewCluster(ClusterOptions{Name: "a"}), NewCluster(ClusterOptions{Name: "b", Zone: 7})
	a.SetPod(pod("x", "10.0.0.1", 1, 0), 1)
	b.SetPod(pod("y", "10.0.0.1", 1, 0), 1)
	l := NewLabeler(Options{Clusters: []*Cluster{a, b}})
	for zone, want := range map[uint16]string{0: "a/x", 7: "b/y", 8: "private"} {
		f := tcp("10.0.0.1:1", "9.9.9.9:1", "", "")
		f.Zone = zone
		got, err := l.LabelFlow("n", f)
		require.NoError(t, err)
		require.Equal(t, want, brief(got.Local.Labels))
	}
}

// TestNodesOfOneName: clusters have nodes of the same name, and so has the one that asks.
func TestNodesOfOneName(t *testing.T) {
	var clusters []*Cluster
	for i, name := range []string{"a", "b"} {
		c := NewCluster(ClusterOptions{Name: name})
		net := fmt.Sprintf("10.%d.0.", i)
		c.SetNode(Node{UID: name, Name: "n1", Internal: addrs(net + "1"), Zone: "zone-" + name, Region: "r", Cloud: AWS}, 1)
		p := pod("p", net+"2", 1, 0)
		p.Node = "n1"
		c.SetPod(p, 1)
		c.SetSynced()
		clusters = append(clusters, c)
	}
	for cluster, want := range map[string]struct {
		local string // of a flow from b to a
		flags flow.LabelFlags
		zone  string // of the node n1
	}{
		"a": {"a/p", flow.FlagMirror, "zone-a"},
		"b": {"b/p", 0, "zone-b"},
		"":  {"b/p", 0, "zone-a"}, // nobody can tell: the initiator is as near
	} {
		l := NewLabeler(Options{Clusters: clusters, Cluster: cluster})
		got, err := l.LabelFlow("n1", tcp("10.1.0.2:5000", "10.0.0.2:80", "", ""))
		require.NoError(t, err)
		require.Equal(t, want.local, brief(got.Local.Labels), cluster)
		require.Equal(t, InterZone, got.ConnectionClass, "two nodes, and not one host")
		require.Equal(t, connectionFlags(want.flags), got.ConnectionFlags, cluster)
		r := &flow.Record{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.0.0.2"), Protocol: 6,
			Role: flow.RoleInitiator, Start: 5, End: 6}
		l.LabelRecord(r, Asker{Node: "n1"})
		require.Equal(t, want.flags, r.LabelFlags, cluster)
		n, err := l.GetNodeByName("n1")
		require.NoError(t, err)
		require.Equal(t, want.zone, n.Zone, cluster)
	}
}

// TestDefaultPlace: the options tell where nodes are that do not.
func TestDefaultPlace(t *testing.T) {
	c := NewCluster(ClusterOptions{Name: "c"})
	c.SetPod(pod("x", "10.0.0.1", 1, 0), 1)
	c.SetPod(Pod{UID: "y", Name: "y", Node: "m", Addrs: addrs("10.0.0.2"), From: 1}, 1)
	remote := NewRemoteLabeler(RemoteOptions{Cloud: "AWS", Region: "EU-West-1"})
	r, err := NewRanges([]File{parse(t, ProviderAWS, awsText("52.1.0.0/16", "S3", "eu-west-1"))}, RangeOptions{})
	require.NoError(t, err)
	remote.SetRanges(r)
	l := NewLabeler(Options{Clusters: []*Cluster{c}, Remote: remote})
	for dst, want := range map[string]ConnectionClass{"52.1.0.1:1": IntraRegion, "10.0.0.2:1": IntraRegion} {
		got, err := l.LabelFlow("n", tcp("10.0.0.1:1", dst, "", ""))
		require.NoError(t, err)
		require.Equal(t, want, got.ConnectionClass)
	}
}

// TestProtocolNames also has the protocol of case 104, which is left out there.
func TestProtocolNames(t *testing.T) {
	for p, want := range map[uint8]string{6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6", 132: "sctp", 47: "47", 123: "123"} {
		f := tcp("10.0.1.1:1", "10.0.2.1:1", "", "")
		f.Protocol = p
		got, err := world(t).LabelFlow("n1", f)
		require.NoError(t, err)
		require.Equal(t, want, got.Proto)
	}
}

// TestNoAllocations: labelling makes nothing new, once an owner's labels are made.
func TestNoAllocations(t *testing.T) {
	l := world(t)
	flows := []*Flow{tcp("10.0.1.1:5000", "10.96.0.1:5432", "10.0.2.1:5433", "10.0.1.1:5000"),
		tcp("[fd00:1::1]:5000", "[fd96::1]:5432", "[fd00:2::1]:5433", "[fd00:1::1]:5000"),
		tcp("10.0.1.1:5000", "52.1.0.9:443", "", "")}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, f := range flows {
			_, _ = l.LabelFlow("n1", f)
		}
	}))
	r := &flow.Record{Src: netip.MustParseAddr("10.0.1.1"), Dst: netip.MustParseAddr("10.0.2.1"), Protocol: 6}
	require.Zero(t, testing.AllocsPerRun(100, func() { l.LabelRecord(r, Asker{Node: "n1"}) }))
}
