package labeler

import (
	"net/netip"
	"sync/atomic"

	"github.com/weirnet/weir/agent/flow"
)

// owner is a pod or a node.
type owner struct {
	uid, name string
	addrs     []netip.Addr
	// node is where a pod runs, or the node that the owner is.
	node *node
	pod  *podParts // nil for a node
	gone bool      // its object has been deleted

	made atomic.Pointer[madeLabels]
}

// podParts are what only pods have.
type podParts struct {
	namespace     *namespace
	workload      *workload
	app, instance string
	from, until   int64
	host          bool // it has its node's addresses
}

// node, namespace and workload are shared by the pods that refer to them, also before they are
// told of themselves. version grows with each change: labels that were made before are outdated.
type node struct {
	self         *owner // nil while only pods tell of it
	name         string
	zone, region string
	cloud        Cloud
	internal     []netip.Addr
	from         int64
	version      uint64
	pods         int
}

type namespace struct {
	name    string
	app     string
	version uint64
	pods    int
}

type workload struct {
	key     workloadKey
	owner   Ref  // its controller, if it has one: Deployment of a ReplicaSet
	told    bool // it is there
	version uint64
	pods    int
}

type workloadKey struct {
	namespace string
	Ref
}

// top is the end of the chain of owners. Kubernetes' own chains have two links (ReplicaSet and
// Deployment, Job and CronJob).
func (w *workload) top() Ref {
	if w.owner != (Ref{}) {
		return w.owner
	}
	return w.key.Ref
}

type madeLabels struct {
	version uint64
	labels  *flow.Labels
}

// labels gives the owner's labels. They are made when they are first asked for, and again after
// a change: owners without traffic need none.
func (o *owner) labels(cluster string) *flow.Labels {
	version := o.version()
	if m := o.made.Load(); m != nil && m.version == version {
		return m.labels
	}
	m := &madeLabels{version, o.make(cluster)}
	o.made.Store(m)
	return m.labels
}

// version grows with each change of what labels are made of.
func (o *owner) version() uint64 {
	v := o.node.version
	if o.pod != nil {
		v += o.pod.namespace.version + o.pod.workload.version
	}
	return v
}

func (o *owner) make(cluster string) *flow.Labels {
	l := &flow.Labels{Kind: flow.KindNode, Cluster: cluster, Node: o.node.name, Zone: o.node.zone,
		Region: o.node.region, Cloud: string(o.node.cloud)}
	if p := o.pod; p != nil {
		top := p.workload.top()
		l.Kind, l.Namespace, l.Pod = flow.KindPod, p.namespace.name, o.name
		l.Workload, l.WorkloadKind = top.Name, top.Kind
		l.App, l.Instance = p.app, p.instance
		if l.App == "" {
			l.App = p.namespace.app
		}
	}
	return l
}
