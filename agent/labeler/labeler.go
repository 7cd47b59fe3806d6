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
	return &Labeler{clusters: o.Clusters, remote: o.Remote, strict: o.Strict, ignoreUDP: o.IgnoreUDP}
}

// LabelFlow tells who the ends of a flow are, and which of them is local, seen from a node: the
// end on that node; of two, the initiator; of none, the end that a cluster knows, and of two of
// these again the initiator.
//
// It gives an error in Strict mode only. Else what cannot be told is Unknown, and counted.
func (l *Labeler) LabelFlow(node string, f *Flow) (FlowData, error) {
	if l.strict {
		return l.strictLabel(node, f)
	}
	src, dst, via := f.sockets()
	p := l.pair(&query{src: src, dst: dst, via: via, protocol: f.Protocol, zone: f.Zone,
		start: f.Start, end: f.End, srcUID: f.SrcUID, dstUID: f.DstUID})
	p.mirror(node)
	data := FlowData{Proto: protocolName(f.Protocol), Service: p.service, ConnectionClass: p.class,
		ConnectionFlags: connectionFlags(p.flags), Unlabelled: p.reason}
	local, remote := p.src, p.dst
	localAt, remoteAt, out, in := src, dst, &f.Original, &f.Reply
	if nearer(p.dst.labels, p.src.labels, node) {
		local, remote = remote, local
		localAt, remoteAt, out, in = dst, src, &f.Reply, &f.Original
	}
	data.Local = End{local.labels, localAt.Addr(), localAt.Port()}
	data.Remote = End{remote.labels, remoteAt.Addr(), remoteAt.Port()}
	data.PacketsOut, data.BytesOut = out.Packets, out.Bytes
	data.PacketsIn, data.BytesIn = in.Packets, in.Bytes
	l.count(p.reason, f.Original.Packets+f.Reply.Packets, f.Original.Bytes+f.Reply.Bytes)
	return data, nil
}

// sockets are the initiator, the true destination, and the address through which it was reached.
func (f *Flow) sockets() (src, dst, via netip.AddrPort) {
	src, via = unmap(f.Original.Src), unmap(f.Original.Dst)
	dst = via
	if f.Reply.Src.Addr().IsValid() {
		dst = unmap(f.Reply.Src)
	}
	return src, dst, via
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// nearer tells whether a is local rather than b.
func nearer(a, b *flow.Labels, node string) bool {
	return nearness(a, node) > nearness(b, node)
}

func nearness(l *flow.Labels, node string) int {
	switch {
	case l.Node != "" && l.Node == node:
		return 2
	case inCluster(l.Kind):
		return 1
	}
	return 0
}

// inCluster tells whether a cluster knows an owner of this kind.
func inCluster(k flow.Kind) bool {
	return k == flow.KindPod || k == flow.KindNode || k == flow.KindService
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
	known := c.addrs[a]
	if known == nil {
		return nil
	}
	for _, s := range known.spans {
		if s.owner.isPod && !s.owner.gone && (w == allPods || s.to == never) &&
			slices.Contains(s.owner.addrs, a) {
			found = append(found, s.owner.snapshot())
		}
	}
	if w == allPods && known.hosts != nil {
		for _, o := range *known.hosts {
			found = append(found, o.snapshot())
		}
	}
	slices.SortFunc(found, func(a, b *Pod) int { return cmp.Compare(a.UID, b.UID) })
	return slices.CompactFunc(found, func(a, b *Pod) bool { return a.UID == b.UID })
}

// GetNodeByName finds a node; nil when no cluster has one of that name.
func (l *Labeler) GetNodeByName(name string) (*Node, error) { return l.nodeByName(name), nil }

func (l *Labeler) nodeByName(name string) *Node {
	for _, c := range l.clusters {
		c.mu.RLock()
		n := c.nodes[name].snapshot()
		c.mu.RUnlock()
		if n != nil {
			return n
		}
	}
	return nil
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
	return nil, fmt.Errorf("%w: %v: %s and %s", ErrNodesShareInternalIP, a, all[0].name, all[1].name)
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
	return &Node{UID: n.self.uid, Name: n.name, Internal: slices.Clone(n.internal), Others: others,
		Zone: n.zone, Region: n.region, Cloud: n.cloud, From: n.from}
}
