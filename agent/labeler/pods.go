package labeler

import (
	"cmp"
	"net/netip"
	"slices"
	"unique"
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
		o = &owner{uid: p.UID, isPod: true, from: now}
		c.pods[p.UID] = o
	}
	c.fill(o, &p)
	for _, a := range o.addrs {
		if !slices.Contains(addrs, a) {
			c.release(o, a, now)
		}
	}
	o.addrs = addrs
	if o.host {
		c.hosted[o.groupUID] = o
	}
	for _, a := range addrs {
		c.give(o, a)
	}
}

// give lets a pod have an address for its time.
func (c *Cluster) give(o *owner, a netip.Addr) {
	known := c.address(a)
	if o.host {
		known.host(o)
		return
	}
	if o.until == 0 {
		known.open(o, o.from)
		return
	}
	if !slices.ContainsFunc(known.spans(), func(s span) bool { return s.owner == o }) {
		known.open(o, o.from)
	}
	known.close(o, o.until)
}

// fill brings what is told of a pod into its owner.
func (c *Cluster) fill(o *owner, p *Pod) {
	old := o.parts
	o.parts = parts{c.node(p.Node), c.namespace(p.Namespace),
		c.workload(workloadKey{p.Namespace, p.Controller})}
	o.node.pods++
	o.namespace.pods++
	o.workload.pods++
	c.unref(old)
	if p.From != 0 {
		o.from = p.From
	}
	o.name, o.until, o.host, o.groupUID = p.Name, p.Until, p.HostNetwork, cmp.Or(p.GroupUID, p.UID)
	o.app, o.instance = unique.Make(p.App).Value(), unique.Make(p.Instance).Value() // many have the same
	o.made.Store(nil)
}

// unref lets go of what a pod referred to.
func (c *Cluster) unref(p parts) {
	if p.node == nil {
		return
	}
	p.node.pods--
	p.namespace.pods--
	p.workload.pods--
	c.dropUnused(p.node, p.namespace, p.workload)
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
	if o.host { // what it has sent may not have been told yet
		c.left = append(c.left, left{o, now})
	}
	delete(c.pods, uid)
	c.unref(o.parts)
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
	return &Pod{UID: o.uid, Namespace: o.namespace.name, Name: o.name, Node: o.node.place.node,
		Addrs: slices.Clone(o.addrs), HostNetwork: o.host, Controller: o.workload.key.Ref,
		App: o.app, Instance: o.instance, From: o.from, Until: o.until}
}
