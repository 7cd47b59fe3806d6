package labeler

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/flow"
)

// LabelerInterface labels flows.
type LabelerInterface interface {
	LabelFlow(node string, f *Flow) (FlowData, error)
}

// Options are what a Labeler works with.
type Options struct {
	// Clusters are asked in their order: the first one in which an address has an owner wins.
	Clusters []*Cluster
	// Cluster is the one of which the nodes are that ask, by its name: others may have nodes of the same names. Empty:
	// a node that asks is whichever has its name.
	Cluster string
	// Remote knows what is outside the clusters; nil: nothing.
	Remote *RemoteLabeler
	// Strict makes LabelFlow behave like kubenetmon's.
	Strict bool
	// IgnoreUDP leaves UDP out, in Strict mode.
	IgnoreUDP bool
}

// Labeler labels flows. It is safe for concurrent use.
type Labeler struct {
	clusters  []*Cluster
	cluster   string
	remote    *RemoteLabeler
	strict    bool
	ignoreUDP bool
	ledger    ledger
}

var _ LabelerInterface = (*Labeler)(nil)

// NewLabeler creates a Labeler.
func NewLabeler(o Options) *Labeler {
	if o.Remote == nil {
		o.Remote = NewRemoteLabeler(RemoteOptions{Strict: o.Strict})
	}
	return &Labeler{clusters: o.Clusters, cluster: o.Cluster, remote: o.Remote, strict: o.Strict, ignoreUDP: o.IgnoreUDP}
}

// LabelFlow tells who the ends of a flow are, and which of them is local, seen from a node: the
// end on that node; of two, the initiator; of none, the end that a cluster knows, and of two of
// these again the initiator.
//
// It gives an error in Strict mode only. Else what cannot be told is Unknown, and counted.
func (l *Labeler) LabelFlow(node string, f *Flow) (data FlowData, err error) {
	if l.strict {
		return l.strictLabel(node, f)
	}
	q := query{protocol: f.Protocol, zone: f.Zone, start: f.Start, end: f.End, srcUID: f.SrcUID, dstUID: f.DstUID}
	q.src, q.via = unmap(f.Original.Src), unmap(f.Original.Dst)
	q.dst = q.via
	if f.Reply.Src.Addr().IsValid() { // the true destination
		q.dst = unmap(f.Reply.Src)
	}
	var p pair
	l.pair(&q, &p)
	by := l.asker(node)
	p.mirror(by)
	data.Proto, data.Service, data.Unlabelled = protocolName(f.Protocol), p.service, p.reason
	data.ConnectionClass, data.ConnectionFlags = p.class, connectionFlags(p.flags)
	local, remote, out, in := &data.Local, &data.Remote, &f.Original, &f.Reply
	if p.dst.nearness(by) > p.src.nearness(by) {
		local, remote, out, in = remote, local, in, out
	}
	local.Labels, local.IP, local.Port = p.src.labels, q.src.Addr(), q.src.Port()
	remote.Labels, remote.IP, remote.Port = p.dst.labels, q.dst.Addr(), q.dst.Port()
	data.PacketsOut, data.BytesOut = out.Packets, out.Bytes
	data.PacketsIn, data.BytesIn = in.Packets, in.Bytes
	l.count(p.reason, f.Original.Packets+f.Reply.Packets, f.Original.Bytes+f.Reply.Bytes)
	return data, nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// asker is a node that asks. A name alone is a node's of any cluster.
type asker struct{ cluster, node string }

func (l *Labeler) asker(node string) asker { return asker{l.cluster, node} }

// on tells whether an end is on a node.
func (e *end) on(n asker) bool {
	return n.node != "" && e.node == n.node && (n.cluster == "" || e.cluster == n.cluster)
}

// nearness tells how good an end is as the local one.
func (e *end) nearness(by asker) int {
	switch {
	case e.on(by):
		return 2
	case e.inCluster():
		return 1
	}
	return 0
}

// inCluster tells whether a cluster knows who it is.
func (e *end) inCluster() bool {
	return e.kind == flow.KindPod || e.kind == flow.KindNode || e.kind == flow.KindService
}

func (l *Labeler) count(r Reason, packets, bytes uint64) {
	l.ledger.in.add(packets, bytes)
	l.ledger.byReason[r].add(packets, bytes)
}

// GetPodsByIP lists the pods that have an address now, by UID. In Strict mode these are all whose
// objects exist, also those that have ended and those in their node's network namespace; else
// those that own it. There is no error but that of an address that cannot be read.
func (l *Labeler) GetPodsByIP(ip string) ([]*Pod, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, fmt.Errorf("pods by IP: %w: %q", ErrInvalidIP, ip)
	}
	which := owningPods
	if l.strict {
		which = allPods
	}
	return l.podsByIP(a.Unmap(), which), nil
}

// which pods of an address are meant.
type which bool

const (
	owningPods which = false
	allPods    which = true
)

// podsByIP asks the clusters in their order; the first that has any wins.
func (l *Labeler) podsByIP(a netip.Addr, w which) []*Pod {
	for _, c := range l.clusters {
		if found := c.podsByIP(a, w); len(found) > 0 {
			return found
		}
	}
	return nil
}

func (c *Cluster) podsByIP(a netip.Addr, w which) (found []*Pod) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	known := c.addrs.get(keyOf(a))
	if known == nil {
		return nil
	}
	for _, s := range known.spans() {
		if s.owner.isPod && !s.owner.gone && (w == allPods || s.to == never) &&
			slices.Contains(s.owner.addrs, a) {
			found = append(found, s.owner.snapshot())
		}
	}
	if w == allPods && known.more != nil {
		for _, o := range known.more.hosts {
			found = append(found, o.snapshot())
		}
	}
	slices.SortFunc(found, func(a, b *Pod) int { return cmp.Compare(a.UID, b.UID) })
	return slices.CompactFunc(found, func(a, b *Pod) bool { return a.UID == b.UID })
}

// GetNodeByName finds a node; nil when no cluster has one of that name. Of several that have one, the labeler's own
// cluster comes first, then the others in their order.
func (l *Labeler) GetNodeByName(name string) (*Node, error) { return l.nodeByName(name), nil }

func (l *Labeler) nodeByName(name string) (found *Node) {
	for _, c := range l.clusters {
		if found != nil && c.name != l.cluster {
			continue
		}
		c.mu.RLock()
		if n := c.nodes[name].snapshot(); n != nil {
			found = n
		}
		c.mu.RUnlock()
	}
	return found
}

// GetNodeByInternalIP finds the node that has an internal address; nil when there is none. When
// several have it, the error is ErrNodesShareInternalIP.
func (l *Labeler) GetNodeByInternalIP(ip string) (*Node, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, fmt.Errorf("node by internal IP: %w: %q", ErrInvalidIP, ip)
	}
	return l.nodeByInternalIP(a.Unmap())
}

func (l *Labeler) nodeByInternalIP(a netip.Addr) (*Node, error) {
	for _, c := range l.clusters {
		n, err := c.nodeByInternalIP(a)
		if n != nil || err != nil {
			return n, err
		}
	}
	return nil, nil
}

func (c *Cluster) nodeByInternalIP(a netip.Addr) (*Node, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := c.internalNodes(a)
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0].snapshot(), nil
	}
	return nil, fmt.Errorf("%w: %v: %s and %s", ErrNodesShareInternalIP, a, all[0].place.node, all[1].place.node)
}

// snapshot gives back what was told of a node; nil when nothing was.
func (n *node) snapshot() *Node {
	if n == nil || n.self == nil {
		return nil
	}
	var others []netip.Addr
	for _, a := range n.self.addrs {
		if !slices.Contains(n.internal, a) {
			others = append(others, a)
		}
	}
	return &Node{UID: n.self.uid, Name: n.place.node, Internal: slices.Clone(n.internal), Others: others,
		Zone: n.zone, Region: n.region, Cloud: n.cloud, From: n.from}
}
