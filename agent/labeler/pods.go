package labeler

import (
	"net/netip"
	"slices"
)

// SetPod tells that a pod is there, or has changed. now is when that became known: addresses that
// it has lost since the last call are closed then.
func (c *Cluster) SetPod(p Pod, now int64) {
	addrs := unmapped(p.Addrs)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune(now)
	o := c.pods[p.UID]
	if o == nil {
		o = &owner{uid: p.UID, pod: &podParts{from: now}}
		c.pods[p.UID] = o
	}
	c.fill(o, &p)
	for _, a := range o.addrs {
		if !slices.Contains(addrs, a) {
			c.release(o, a, now)
		}
	}
	o.addrs = addrs
	for _, a := range addrs {
		c.give(o, a)
	}
}

// give lets a pod have an address for its time.
func (c *Cluster) give(o *owner, a netip.Addr) {
	known := c.address(a)
	if o.pod.host {
		if !slices.Contains(known.hosts, o) {
			known.hosts = append(known.hosts, o)
		}
		return
	}
	if o.pod.until == 0 {
		known.open(o, o.pod.from)
		return
	}
	if !slices.ContainsFunc(known.spans, func(s span) bool { return s.owner == o }) {
		known.open(o, o.pod.from)
	}
	known.close(o, o.pod.until)
}

// fill brings what is told of a pod into its owner.
func (c *Cluster) fill(o *owner, p *Pod) {
	old := *o.pod
	oldNode := o.node
	o.name = p.Name
	o.node = c.node(p.Node)
	from := old.from
	if p.From != 0 {
		from = p.From
	}
	o.pod = &podParts{namespace: c.namespace(p.Namespace),
		workload: c.workload(workloadKey{p.Namespace, p.Controller}),
		app:      p.App, instance: p.Instance, from: from, until: p.Until, host: p.HostNetwork}
	o.made.Store(nil)
	o.node.pods++
	o.pod.namespace.pods++
	o.pod.workload.pods++
	if oldNode != nil {
		c.unref(oldNode, &old)
	}
}

// unref lets go of what a pod referred to.
func (c *Cluster) unref(n *node, p *podParts) {
	n.pods--
	p.namespace.pods--
	p.workload.pods--
	c.dropUnused(n, p.namespace, p.workload)
}

// DeletePod tells that a pod was deleted, and became known to be at now. Of its addresses only
// what is still its own ends.
func (c *Cluster) DeletePod(uid string, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deletePod(uid, now)
	c.prune(now)
}

func (c *Cluster) deletePod(uid string, now int64) {
	o := c.pods[uid]
	if o == nil {
		return
	}
	for _, a := range o.addrs {
		c.release(o, a, now)
	}
	o.gone = true
	delete(c.pods, uid)
	c.unref(o.node, o.pod)
}

// KeepPods deletes all pods but those of the given UIDs: the others have gone unseen, while a
// source had lost touch.
func (c *Cluster) KeepPods(keep map[string]bool, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid := range c.pods {
		if !keep[uid] {
			c.deletePod(uid, now)
		}
	}
}

// snapshot gives back what was told of a pod, but for its controller's own controller.
func (o *owner) snapshot() *Pod {
	p := o.pod
	return &Pod{UID: o.uid, Namespace: p.namespace.name, Name: o.name, Node: o.node.name,
		Addrs: slices.Clone(o.addrs), HostNetwork: p.host, Controller: p.workload.key.Ref,
		App: p.app, Instance: p.instance, From: p.from, Until: p.until}
}
