package labeler

import (
	"net/netip"
	"slices"
	"unique"
)

// SetNode tells that a node is there, or has changed.
func (c *Cluster) SetNode(n Node, now int64) {
	internal := unmapped(n.Internal)
	addrs := unmapped(slices.Concat(n.Internal, n.Others))
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.node(n.Name)
	if at.self != nil && at.self.uid != n.UID {
		c.forgetNode(at, now)
	}
	from := now
	if at.self == nil {
		at.self = &owner{uid: n.UID, name: n.Name, parts: parts{node: at}}
		from = n.From
	}
	if at.zone != n.Zone || at.region != n.Region || at.cloud != n.Cloud {
		// Texts that many nodes have are kept once: equal ones are then quick to compare.
		at.zone, at.region = unique.Make(n.Zone).Value(), unique.Make(n.Region).Value()
		at.cloud = n.Cloud
		c.outdate(at.pods + len(at.self.addrs))
		at.self.made.Store(nil)
	}
	at.internal, at.from = internal, n.From
	for _, a := range at.self.addrs {
		if !slices.Contains(addrs, a) {
			c.release(at.self, a, now)
		}
	}
	for _, a := range addrs {
		if !slices.Contains(at.self.addrs, a) {
			c.address(a).open(at.self, from)
		}
	}
	at.self.addrs = addrs
}

// DeleteNode tells that a node was deleted. Another one of its name stays.
func (c *Cluster) DeleteNode(name, uid string, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[name]; n != nil && n.self != nil && n.self.uid == uid {
		c.forgetNode(n, now)
		c.dropUnused(n, nil, nil)
	}
}

func (c *Cluster) forgetNode(n *node, now int64) {
	for _, a := range n.self.addrs {
		c.release(n.self, a, now)
	}
	n.self.gone = true
	n.self, n.internal = nil, nil
}

// KeepNodes deletes all nodes but those of the given UIDs.
func (c *Cluster) KeepNodes(keep map[string]bool, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.self != nil && !keep[n.self.uid] {
			c.forgetNode(n, now)
			c.dropUnused(n, nil, nil)
		}
	}
}

// SetNamespace tells of a namespace. app is the value of its app label, for pods without one.
func (c *Cluster) SetNamespace(name, app string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.namespace(name)
	if n.app != app {
		n.app = app
		c.outdate(n.pods)
	}
	c.dropUnused(nil, n, nil)
}

// SetOwner tells that an object has a controller of its own, e.g. a ReplicaSet a Deployment.
func (c *Cluster) SetOwner(namespace string, of, controller Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.workload(workloadKey{namespace, of})
	w.told = true
	if w.owner != controller {
		w.owner = controller
		c.outdate(w.pods)
	}
}

// DeleteOwner tells that such an object was deleted. Its pods, and so what is known of them, may
// outlive it.
func (c *Cluster) DeleteOwner(namespace string, of Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.workloads[workloadKey{namespace, of}]; w != nil {
		w.told = false
		c.dropUnused(nil, nil, w)
	}
}

// outdate has labels made again when there are owners that refer to what has changed.
func (c *Cluster) outdate(owners int) {
	if owners == 0 {
		return
	}
	c.version++
	if c.version == 0 { // as at the beginning
		c.version = 1
		c.forgetLabels()
	}
}

// forgetLabels has all labels made again.
func (c *Cluster) forgetLabels() {
	for a := range c.addrs.all {
		a.version.Store(0)
		for _, s := range a.spans() {
			s.owner.made.Store(nil)
		}
	}
	for _, o := range c.pods {
		o.made.Store(nil)
	}
}

// node, namespace and workload find or make what pods refer to.
func (c *Cluster) node(name string) *node {
	n := c.nodes[name]
	if n == nil {
		n = &node{place: place{cluster: c.name, node: name}}
		n.number = c.numbered.add(n)
		c.nodes[name] = n
	}
	return n
}

func (c *Cluster) namespace(name string) *namespace {
	n := c.namespaces[name]
	if n == nil {
		n = &namespace{name: name}
		c.namespaces[name] = n
	}
	return n
}

func (c *Cluster) workload(k workloadKey) *workload {
	w := c.workloads[k]
	if w == nil {
		w = &workload{key: k}
		c.workloads[k] = w
	}
	return w
}

// dropUnused forgets what no pod refers to and nothing is told of.
func (c *Cluster) dropUnused(n *node, ns *namespace, w *workload) {
	if n != nil && n.pods == 0 && n.self == nil {
		delete(c.nodes, n.place.node)
		c.numbered.remove(n.number)
	}
	if ns != nil && ns.pods == 0 && ns.app == "" {
		delete(c.namespaces, ns.name)
	}
	if w != nil && w.pods == 0 && !w.told {
		delete(c.workloads, w.key)
	}
}

// internalNodes lists the nodes that have an internal address.
func (c *Cluster) internalNodes(a netip.Addr) (found []*node) {
	known := c.addrs.get(keyOf(a))
	if known == nil {
		return nil
	}
	for _, s := range known.spans() {
		if n := s.owner.node; !s.owner.isPod && !s.owner.gone && slices.Contains(n.internal, a) {
			found = append(found, n)
		}
	}
	return found
}

// KeepOwners deletes all objects of a kind told of by SetOwner but those of the given names,
// "namespace/name".
func (c *Cluster) KeepOwners(kind string, keep map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, w := range c.workloads {
		if k.Kind == kind && !keep[k.namespace+"/"+k.Name] {
			w.told = false
			c.dropUnused(nil, nil, w)
		}
	}
}
