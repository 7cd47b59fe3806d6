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
	numbered  numbers[named]
}

// service is shared by those that refer to it, also before it is told of itself.
type service struct {
	namespace, name string
	full            string // "namespace/name"
	told            Service
	slices          int // endpoint slices that refer to it
	labels          *flow.Labels
	number          uint32
	place
}

// named is a service with its name, for which nobody needs to look into the service.
type named struct {
	full string
	*service
}

type portKey struct {
	protocol uint8
	port     uint16
}

// servicePort is a port of a service where it is reached, or of a backend.
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
		known := c.address(a)
		fronts, backs := c.servicesOf(known)
		for _, port := range s.Ports {
			fronts = with(fronts, servicePort{portKey{port.Protocol, port.Port}, at})
		}
		known.setServices(fronts, backs)
		c.dropEmpty(known) // a service without ports
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
		known := c.address(a)
		fronts, backs := c.servicesOf(known)
		for _, port := range s.ports {
			backs = with(backs, servicePort{portKey{port.Protocol, port.Port}, s.service})
		}
		known.setServices(fronts, backs)
		c.dropEmpty(known) // a slice without ports
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
		s = &service{namespace: namespace, name: name, full: full, place: place{cluster: c.name},
			labels: &flow.Labels{Kind: flow.KindService, Cluster: c.name, Namespace: namespace,
				Service: name}}
		s.number = c.services.numbered.add(named{full, s})
		c.services.byName[full] = s
	}
	return s
}

// unlink takes away where a service can be reached, as far as that is still its own.
func (c *Cluster) unlink(at *service) {
	for _, a := range at.told.Addrs {
		known := c.address(a)
		fronts, backs := c.servicesOf(known)
		for _, port := range at.told.Ports {
			fronts = without(fronts, servicePort{portKey{port.Protocol, port.Port}, at})
		}
		known.setServices(fronts, backs)
		c.dropEmpty(known)
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
		known := c.address(a)
		fronts, backs := c.servicesOf(known)
		for _, port := range gone.ports {
			backs = without(backs, servicePort{portKey{port.Protocol, port.Port}, gone.service})
		}
		known.setServices(fronts, backs)
		c.dropEmpty(known)
	}
	gone.service.slices--
	c.services.dropUnused(gone.service)
}

func (s *services) dropUnused(at *service) {
	if at.slices == 0 && at.told.Name == "" {
		delete(s.byName, at.full)
		s.numbered.remove(at.number)
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

// servicesOf lists the services that are reached at an address, and those that it serves, by name.
func (c *Cluster) servicesOf(a *address) (fronts, backs []servicePort) {
	if a.service != 0 {
		first := servicePort{portKey{a.port.protocol, a.port.number}, c.services.numbered.all[a.service].service}
		if a.port.front {
			fronts = append(fronts, first)
		} else {
			backs = append(backs, first)
		}
	}
	if a.more != nil {
		fronts, backs = append(fronts, a.more.fronts...), append(backs, a.more.backs...)
	}
	return fronts, backs
}

// setServices replaces them.
func (a *address) setServices(fronts, backs []servicePort) {
	a.service, a.port.front = 0, len(fronts) > 0
	from := &backs
	if a.port.front {
		from = &fronts
	}
	if len(*from) > 0 {
		first := (*from)[0]
		*from = (*from)[1:]
		a.service, a.port.protocol, a.port.number = first.service.number, first.protocol, first.port
	}
	if len(fronts)+len(backs) > 0 || a.more != nil {
		d := a.details()
		d.fronts, d.backs = slices.Clone(fronts), slices.Clone(backs)
		a.trim()
	}
}

// frontOf finds the service that is reached at an address by a port. Several may share an address,
// each with ports of its own; by a port of none, it is the first one's.
func (c *Cluster) frontOf(a *address, k portKey) (number uint32) {
	if a.service == 0 || !a.port.front {
		return 0
	}
	if a.more != nil && k != (portKey{a.port.protocol, a.port.number}) {
		for _, f := range a.more.fronts {
			if f.portKey == k {
				return f.service.number
			}
		}
	}
	return a.service
}

// serves finds the service that an address serves at a port. Of several, those with an address of
// their own come first (a headless service selects what another one balances), then the first by
// name.
func (c *Cluster) serves(a *address, k portKey) (number uint32, ambiguous bool) {
	if a.service != 0 && !a.port.front && k == (portKey{a.port.protocol, a.port.number}) {
		number = a.service
	}
	if a.more == nil || len(a.more.backs) == 0 {
		return number, false
	}
	found := c.services.numbered.all[number].service
	for _, b := range a.more.backs {
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
	if found != nil {
		number = found.number
	}
	return number, ambiguous
}
