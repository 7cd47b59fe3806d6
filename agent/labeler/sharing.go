package labeler

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/flow"
)

// Sockets know whose sockets the packets of this machine come from.
type Sockets interface {
	// Pod finds the pod whose socket sends the packets of a record, or those of the other direction. The UID is as
	// control groups have it, see Pod.GroupUID; it is "" unless the answer is SharedPod.
	Pod(r *flow.Record, reply bool) (uid string, how Sharing)
}

// Sharing says whose an end is that has an address of the agent's node, which the node shares with pods in its
// network namespace. It is a text in files.
type Sharing uint8

// Whose it is, or why that is not known; then it is labelled as the node.
const (
	notShared    Sharing = iota
	SharedPod            // a pod's socket
	SharedNode           // a socket of no pod
	NoSocket             // no socket was seen to send
	NoGroup              // a socket was, but its control group had gone before it was looked at
	NoPod                // a pod's socket, but no cluster knows that pod
	sharingCount = iota
)

var sharingNames = [sharingCount]string{"", "pod", "node", "no-socket", "no-group", "no-pod"}

// Sharings lists all of them.
func Sharings() []Sharing { return []Sharing{SharedPod, SharedNode, NoSocket, NoGroup, NoPod} }

// String returns its name.
func (s Sharing) String() string {
	if int(s) < len(sharingNames) {
		return sharingNames[s]
	}
	return fmt.Sprintf("sharing-%d", uint8(s))
}

// askSockets asks for the pods at those ends that have addresses of the asking node. reversed tells that the query's
// source is the record's destination.
func (l *Labeler) askSockets(q *query, r *flow.Record, by Asker, reversed bool) {
	if by.Sockets == nil || by.Node == "" {
		return
	}
	node := l.asker(by.Node)
	if l.isOf(q.src.Addr(), q, node) {
		q.srcUID, q.shared[0] = by.Sockets.Pod(r, reversed)
	}
	if l.isOf(q.dst.Addr(), q, node) {
		q.dstUID, q.shared[1] = by.Sockets.Pod(r, !reversed)
	}
}

// isOf tells whether an address was a node's at the time of a query.
func (l *Labeler) isOf(a netip.Addr, q *query, node asker) bool {
	return slices.ContainsFunc(l.clusters, func(c *Cluster) bool {
		return c.zone == q.zone && (node.cluster == "" || node.cluster == c.name) && c.isOf(a, q, node.node)
	})
}

func (c *Cluster) isOf(a netip.Addr, q *query, node string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	known := c.addrs.get(keyOf(a))
	if known == nil {
		return false
	}
	found := known.at(q.start, q.end).owner
	return found != nil && !found.isPod && found.node.place.node == node
}

// share tells how shared addresses were told apart, once all clusters were asked. A pod that none knows may yet be told
// of.
func (p *pair) share(q *query) {
	p.shared = q.shared
	for i, s := range p.shared {
		if s == SharedPod && !p.byUID[i] {
			p.shared[i], p.pending = NoPod, true
		}
	}
}
