package labeler

import (
	"net/netip"
	"sync/atomic"

	"github.com/weirnet/weir/agent/flow"
)

// owner is a pod or a node.
type owner struct {
	made atomic.Pointer[madeLabels]
	parts
	uid, name string
	addrs     []netip.Addr
	isPod     bool
	gone      bool // its object has been deleted

	// What only pods have.
	host          bool   // it has its node's addresses
	groupUID      string // of host pods: as their control groups are called
	app, instance string
	from, until   int64
}

// parts are what an owner refers to. They are shared, and there also before they are told of
// themselves. Only pods have a namespace and a workload; a node refers to itself.
type parts struct {
	node      *node
	namespace *namespace
	workload  *workload
}

type node struct {
	self *owner // nil while only pods tell of it
	place
	number   uint32
	internal []netip.Addr
	from     int64
	pods     int
}

type namespace struct {
	name string
	app  string
	pods int
}

type workload struct {
	key   workloadKey
	owner Ref  // its controller, if it has one: Deployment of a ReplicaSet
	told  bool // it is there
	pods  int
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

// madeLabels are the labels of an owner as they were at a version of its cluster.
type madeLabels struct {
	version uint32
	flow.Labels
}

// labels gives the owner's labels. They are made when they are first asked for, and again after
// a change: owners without traffic need none.
func (o *owner) labels(c *Cluster) *flow.Labels {
	m := o.made.Load()
	if m == nil || m.version != c.version {
		m = &madeLabels{c.version, o.make()}
		o.made.Store(m)
	}
	return &m.Labels
}

// end is the owner with labels.
func (o *owner) end(l *flow.Labels) end {
	return end{labels: l, kind: l.Kind, place: &o.node.place}
}

func (o *owner) make() flow.Labels {
	at := &o.node.place
	l := flow.Labels{Kind: flow.KindNode, Cluster: at.cluster, Node: at.node, Zone: at.zone,
		Region: at.region, Cloud: string(at.cloud)}
	if o.isPod {
		top := o.workload.top()
		l.Kind, l.Namespace, l.Pod = flow.KindPod, o.namespace.name, o.name
		l.Workload, l.WorkloadKind = top.Name, top.Kind
		l.App, l.Instance = o.app, o.instance
		if l.App == "" {
			l.App = o.namespace.app
		}
	}
	return l
}
