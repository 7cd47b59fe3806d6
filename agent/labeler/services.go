package labeler

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/flow"
)

// services knows the services of a cluster. Where they can be reached, and who serves them, is
// with the addresses.
type services struct {
	byName    map[string]*service // "namespace/name"
	nodePorts map[portKey]*service
	slices    map[string]*endpointSlice // "namespace/name" of the slice
}

// service is shared by those that refer to it, also before it is told of itself.
type service struct {
	namespace, name string
	full            string // "namespace/name"
	told            Service
	slices          int // endpoint slices that refer to it
	labels          *flow.Labels
}

type portKey struct {
	protocol uint8
	port     uint16
}

// ports are the services at an address: those that are reached there, and those that it serves,
// each list in the order of their names.
type ports struct {
	fronts, backs []servicePort
}

type servicePort struct {
	portKey
	service *service
}

type endpointSlice struct {
	service *service
	addrs   []netip.Addr
	ports   []EndpointPort
}

func newServices() services {
	return services{byName: map[string]*service{}, nodePorts: map[portKey]*service{},
		slices: map[string]*endpointSlice{}}
}

// SetService tells that a service is there, or has changed.
func (c *Cluster) SetService(s Service) {
	s.Addrs = unmapped(s.Addrs)
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.service(s.Namespace, s.Name)
	c.unlink(at)
	at.told = s
	for _, a := range s.Addrs {
		p := c.ports(a)
		for _, port := range s.Ports {
			p.fronts = with(p.fronts, servicePort{portKey{port.Protocol, port.Port}, at})
		}
	}
	for _, p := range s.Ports {
		if p.NodePort != 0 {
			c.services.nodePorts[portKey{p.Protocol, p.NodePort}] = at
		}
	}
}

// DeleteService tells that a service was deleted.
func (c *Cluster) DeleteService(namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.services.byName[namespace+"/"+name]; s != nil {
		c.forgetService(s)
	}
}

// KeepServices deletes all services but those of the given names, "namespace/name".
func (c *Cluster) KeepServices(keep map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for full, s := range c.services.byName {
		if !keep[full] {
			c.forgetService(s)
		}
	}
}

func (c *Cluster) forgetService(s *service) {
	c.unlink(s)
	s.told = Service{}
	c.services.dropUnused(s)
}

// SetEndpoints tells of a slice of a service's backends.
func (c *Cluster) SetEndpoints(e Endpoints) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := e.Namespace + "/" + e.Name
	c.dropSlice(name)
	s := &endpointSlice{c.service(e.Namespace, e.Service), unmapped(e.Addrs), slices.Clone(e.Ports)}
	s.service.slices++
	for _, a := range s.addrs {
		p := c.ports(a)
		for _, port := range s.ports {
			p.backs = with(p.backs, servicePort{portKey{port.Protocol, port.Port}, s.service})
		}
	}
	c.services.slices[name] = s
}

// DeleteEndpoints tells that a slice was deleted.
func (c *Cluster) DeleteEndpoints(namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropSlice(namespace + "/" + name)
}

// KeepEndpoints deletes all slices but those of the given names, "namespace/name".
func (c *Cluster) KeepEndpoints(keep map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.services.slices {
		if !keep[name] {
			c.dropSlice(name)
		}
	}
}

// service finds or makes a service.
func (c *Cluster) service(namespace, name string) *service {
	full := namespace + "/" + name
	s := c.services.byName[full]
	if s == nil {
		s = &service{namespace: namespace, name: name, full: full,
			labels: &flow.Labels{Kind: flow.KindService, Cluster: c.name, Namespace: namespace,
				Service: name}}
		c.services.byName[full] = s
	}
	return s
}

// ports finds or makes the services at an address.
func (c *Cluster) ports(a netip.Addr) *ports {
	known := c.address(a)
	if known.ports == nil {
		known.ports = &ports{}
	}
	return known.ports
}

// dropPorts forgets the services at an address when there are none.
func (c *Cluster) dropPorts(a netip.Addr) {
	known := c.addrs[a]
	if len(known.ports.fronts) == 0 && len(known.ports.backs) == 0 {
		known.ports = nil
	}
	if known.empty() {
		delete(c.addrs, a)
	}
}

// unlink takes away where a service can be reached, as far as that is still its own.
func (c *Cluster) unlink(at *service) {
	for _, a := range at.told.Addrs {
		p := c.ports(a)
		for _, port := range at.told.Ports {
			p.fronts = without(p.fronts, servicePort{portKey{port.Protocol, port.Port}, at})
		}
		c.dropPorts(a)
	}
	for _, p := range at.told.Ports {
		if k := (portKey{p.Protocol, p.NodePort}); c.services.nodePorts[k] == at {
			delete(c.services.nodePorts, k)
		}
	}
}

func (c *Cluster) dropSlice(name string) {
	gone := c.services.slices[name]
	if gone == nil {
		return
	}
	delete(c.services.slices, name)
	for _, a := range gone.addrs {
		p := c.ports(a)
		for _, port := range gone.ports {
			p.backs = without(p.backs, servicePort{portKey{port.Protocol, port.Port}, gone.service})
		}
		c.dropPorts(a)
	}
	gone.service.slices--
	c.services.dropUnused(gone.service)
}

func (s *services) dropUnused(at *service) {
	if at.slices == 0 && at.told.Name == "" {
		delete(s.byName, at.full)
	}
}

// with adds to a list. A service that has a backend in several slices is there as often.
func with(all []servicePort, p servicePort) []servicePort {
	i, _ := slices.BinarySearchFunc(all, p.service.full, func(k servicePort, full string) int {
		return cmp.Compare(k.service.full, full)
	})
	return slices.Insert(slices.Clip(all), i, p)
}

func without(all []servicePort, p servicePort) []servicePort {
	if i := slices.Index(all, p); i >= 0 {
		return slices.Delete(all, i, i+1)
	}
	return all
}

// front finds the service that is reached at an address by a port. Several may share an address,
// each with ports of its own; by a port of none, it is the first one's.
func (p *ports) front(k portKey) *service {
	if p == nil || len(p.fronts) == 0 {
		return nil
	}
	for _, f := range p.fronts {
		if f.portKey == k {
			return f.service
		}
	}
	return p.fronts[0].service
}

// back finds the service that an address serves at a port. Of several, those with an address of
// their own come first (a headless service selects what another one balances), then the first by
// name.
func (p *ports) back(k portKey) (found *service, ambiguous bool) {
	if p == nil {
		return nil, false
	}
	for _, b := range p.backs {
		if b.portKey != k || b.service == found {
			continue
		}
		if found == nil {
			found = b.service
			continue
		}
		own, other := len(found.told.Addrs) > 0, len(b.service.told.Addrs) > 0
		if own == other {
			ambiguous = true
		} else if other {
			found, ambiguous = b.service, false
		}
	}
	return found, ambiguous
}
