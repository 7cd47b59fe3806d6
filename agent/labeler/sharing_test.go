package labeler

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

// socketsOf knows sockets by the ports that they send from.
type socketsOf map[uint16]struct {
	uid string
	how Sharing
}

func (s socketsOf) Pod(r *flow.Record, reply bool) (string, Sharing) {
	port := r.SrcPort
	if reply {
		port = r.DstPort
	}
	if found, ok := s[port]; ok {
		return found.uid, found.how
	}
	return "", NoSocket
}

// shared is a cluster with a node n that shares its addresses with two pods.
func shared() (*Cluster, *Labeler) {
	c := NewCluster(ClusterOptions{Name: "c", History: 100 * time.Second})
	c.SetNode(Node{UID: "n", Name: "n", Internal: addrs("10.9.0.1"), Others: addrs("203.0.113.1")}, 0)
	c.SetNode(Node{UID: "m", Name: "m", Internal: addrs("10.9.0.2")}, 0)
	for name, uid := range map[string]string{"proxy": "uid-proxy", "scheduler": "hash"} {
		p := pod(name, "10.9.0.1", 1, 0)
		p.HostNetwork, p.GroupUID = true, uid
		c.SetPod(p, 1)
	}
	c.SetSynced()
	return c, NewLabeler(Options{Clusters: []*Cluster{c}, Cluster: "c"})
}

func between9(src, dst string, srcPort, dstPort uint16) *flow.Record {
	return &flow.Record{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), SrcPort: srcPort, DstPort: dstPort,
		Protocol: 6, Start: 10, End: 20, Packets: 2, Bytes: 100, Role: flow.RoleInitiator}
}

func TestSharedAddress(t *testing.T) {
	_, l := shared()
	by := Asker{Node: "n", Sockets: socketsOf{
		1: {"uid-proxy", SharedPod}, 2: {"hash", SharedPod}, 3: {"", SharedNode}, 4: {"", NoGroup}, 5: {"nobody", SharedPod},
	}}
	for port, want := range map[uint16]string{1: "proxy", 2: "scheduler", 3: "", 4: "", 5: "", 6: ""} {
		for _, role := range []flow.Role{flow.RoleInitiator, flow.RoleResponder, flow.RoleUnknown} {
			for _, own := range []string{"10.9.0.1", "203.0.113.1"} { // also one that the pods do not tell
				out, in := between9(own, "10.9.0.2", port, 80), between9("10.9.0.2", own, 80, port)
				out.Role, in.Role = role, role
				require.Equal(t, port == 5, l.Pending(out, by), "nobody may be told of yet")
				l.LabelRecord(out, by)
				l.LabelRecord(in, by)
				for _, e := range []*flow.Labels{out.SrcLabels, in.DstLabels} {
					require.Equal(t, want, e.Pod, "port %d, %v", port, role)
					require.Equal(t, "n", e.Node)
				}
				require.Empty(t, out.DstLabels.Pod, "of another node nothing is known")
			}
		}
	}
	each := Count{Packets: 2 * 12, Bytes: 100 * 12}
	require.Equal(t, map[string]Count{"pod": {2 * each.Packets, 2 * each.Bytes}, "node": each, "no-group": each,
		"no-pod": each, "no-socket": each}, l.Stats().Shared)

	// Two of one node: both ends are told, each by its own socket.
	both := between9("10.9.0.1", "203.0.113.1", 1, 2)
	l.LabelRecord(both, by)
	require.Equal(t, []string{"proxy", "scheduler"}, []string{both.SrcLabels.Pod, both.DstLabels.Pod})
	require.Equal(t, string(SameHost), both.Class)
}

// TestSharedAddressOff: without sockets, or on no node, nothing is asked and nothing is counted.
func TestSharedAddressOff(t *testing.T) {
	_, l := shared()
	for _, by := range []Asker{{Node: "n"}, {Node: "m", Sockets: socketsOf{1: {"uid-proxy", SharedPod}}},
		{Sockets: socketsOf{1: {"uid-proxy", SharedPod}}}} {
		r := between9("10.9.0.1", "192.0.2.1", 1, 80)
		l.LabelRecord(r, by)
		require.Equal(t, flow.KindNode, r.SrcLabels.Kind)
	}
	require.Nil(t, l.Stats().Shared)
}

// TestFormerHostPod: what a pod has sent is its own when it is gone by the time of the record, as long as owners are
// remembered; and then it is forgotten.
func TestFormerHostPod(t *testing.T) {
	c, l := shared()
	by := Asker{Node: "n", Sockets: socketsOf{2: {"hash", SharedPod}}}
	c.DeletePod("uid-scheduler", 30*second)
	r := between9("10.9.0.1", "192.0.2.1", 2, 80)
	l.LabelRecord(r, by)
	require.Equal(t, "scheduler", r.SrcLabels.Pod)
	c.SetPod(pod("other", "10.0.0.9", 1, 0), 129*second)
	require.Len(t, c.hosted, 2)
	c.SetPod(pod("other", "10.0.0.9", 1, 0), 131*second)
	require.Len(t, c.hosted, 1)
	require.Empty(t, c.left)
	l.LabelRecord(r, by)
	require.Equal(t, flow.KindNode, r.SrcLabels.Kind)

	// Another pod under its UID stays.
	again := pod("again", "10.9.0.1", 1, 0)
	again.HostNetwork, again.GroupUID = true, "uid-proxy"
	c.DeletePod("uid-proxy", 140*second)
	c.SetPod(again, 141*second)
	c.SetPod(pod("other", "10.0.0.9", 1, 0), 300*second)
	require.Equal(t, "again", c.hosted["uid-proxy"].name)
}

func TestSharingNames(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Sharings() {
		require.NotEmpty(t, s.String())
		require.False(t, seen[s.String()])
		seen[s.String()] = true
	}
	require.Equal(t, "sharing-99", Sharing(99).String())
}
