package labeler

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultHistory is for how long a Cluster remembers former owners. It must be longer than the
// time from a packet to its record.
const DefaultHistory = 10 * time.Minute

// ClusterOptions describe a cluster.
type ClusterOptions struct {
	Name string
	// Zone keeps clusters apart that use the same addresses: it is the one of the records that
	// they own, see agent.Interface.
	Zone uint16
	// History is for how long former owners are remembered; 0 is DefaultHistory.
	History time.Duration
}

// Cluster knows who owns the addresses of a cluster, now and for some time past. Sources tell it
// what changes; it is safe for concurrent use, and a change holds up lookups for microseconds.
type Cluster struct {
	name    string
	zone    uint16
	history int64
	synced  atomic.Bool

	mu sync.RWMutex
	// version grows when labels that were made before may be outdated. That is rare: what a pod
	// refers to is mostly told before the pod, and hardly ever changes. 0 is of no labels.
	version    uint32
	addrs      *index
	pods       map[string]*owner // by UID
	hosted     map[string]*owner // pods in their node's network namespace, by groupUID; also former ones
	nodes      map[string]*node  // by name
	numbered   numbers[*node]
	namespaces map[string]*namespace
	workloads  map[workloadKey]*workload
	services   services
	released   []released // in the order of time
	left       []left     // likewise
}

// released is when an address was given back.
type released struct {
	addr netip.Addr
	at   int64
}

// left is when a pod in its node's network namespace was deleted.
type left struct {
	pod *owner
	at  int64
}

// NewCluster creates a cluster of which nothing is known.
func NewCluster(o ClusterOptions) *Cluster {
	if o.History == 0 {
		o.History = DefaultHistory
	}
	return &Cluster{name: o.Name, zone: o.Zone, history: int64(o.History), version: 1,
		addrs: newIndex(), pods: map[string]*owner{}, hosted: map[string]*owner{}, nodes: map[string]*node{},
		namespaces: map[string]*namespace{}, workloads: map[workloadKey]*workload{},
		services: newServices()}
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// SetSynced tells that all there is has been told once: from here on, an address without an owner
// has none.
func (c *Cluster) SetSynced() { c.synced.Store(true) }

// Synced tells whether SetSynced was called.
func (c *Cluster) Synced() bool { return c.synced.Load() }

// address finds or makes what is known of an address.
func (c *Cluster) address(a netip.Addr) *address {
	k := keyOf(a)
	found := c.addrs.get(k)
	if found == nil {
		found = c.addrs.add(k)
	}
	return found
}

// dropEmpty forgets an address of which nothing is known.
func (c *Cluster) dropEmpty(a *address) {
	if a.empty() {
		c.addrs.remove(a.key)
	}
}

// release closes an owner's span.
func (c *Cluster) release(o *owner, a netip.Addr, at int64) {
	if found := c.addrs.get(keyOf(a)); found != nil {
		found.close(o, at)
		found.unhost(o)
		c.released = append(c.released, released{a, at})
	}
}

// prune forgets owners that are gone for longer than the history. Every change calls it: without
// changes there is nothing to forget.
func (c *Cluster) prune(now int64) {
	before := now - c.history
	for len(c.released) > 0 && c.released[0].at <= before {
		a := c.released[0].addr
		c.released = c.released[1:]
		if known := c.addrs.get(keyOf(a)); known != nil {
			known.prune(before)
			c.dropEmpty(known)
		}
	}
	for len(c.left) > 0 && c.left[0].at <= before {
		o := c.left[0].pod
		c.left = c.left[1:]
		if c.hosted[o.groupUID] == o {
			delete(c.hosted, o.groupUID)
		}
	}
}

// unmapped brings addresses to the form in which they are looked up, without repeats.
func unmapped(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if a = a.Unmap().WithZone(""); a.IsValid() && !a.IsUnspecified() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return slices.Clone(out) // there are many such lists: no room is left in them
}
