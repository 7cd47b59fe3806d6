package labeler

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/flow"
)

// services knows where services can be reached, and who serves them.
type services struct {
	byName    map[string]*service // "namespace/name"
	addrs     map[netip.Addr]*service
	fronts    map[socketKey]*service
	nodePorts map[portKey]*service
	// backends are the services of an address and port.
	backends map[socketKey][]*service
	slices   map[string]*endpointSlice // "namespace/name" of the slice
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

// socketKey is an address and a port.
type socketKey struct {
	addr netip.Addr
	portKey
}

type endpointSlice struct {
	service *service
	keys    []socketKey
}

func newServices() services {
	return services{byName: map[string]*service{}, addrs: map[netip.Addr]*service{},
		fronts: map[socketKey]*service{}, nodePorts: map[portKey]*service{}, backends: map[socketKey][]*service{},
		slices: map[string]*endpointSlice{}}
}

// SetService tells that a service is there, or has changed.
func (c *Cluster) SetService(s Service) {
	s.Addrs = unmapped(s.Addrs)
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.service(s.Namespace, s.Name)
	c.services.unlink(at)
	at.told = s
	for _, a := range s.Addrs {
		c.services.addrs[a] = at
		for _, p := range s.Ports {
			c.services.fronts[socketKey{a, portKey{p.Protocol, p.Port}}] = at
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
		c.services.unlink(s)
		s.told = Service{}
		c.services.dropUnused(s)
	}
}

// KeepServices deletes all services but those of the given names, "namespace/name".
func (c *Cluster) KeepServices(keep map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for full, s := range c.services.byName {
		if !keep[full] {
			c.services.unlink(s)
			s.told = Service{}
			c.services.dropUnused(s)
		}
	}
}

// SetEndpoints tells of a slice of a service's backends.
func (c *Cluster) SetEndpoints(e Endpoints) {
	addrs := unmapped(e.Addrs)
	c.mu.Lock()
	defer c.mu.Unlock()
	name := e.Namespace + "/" + e.Name
	c.services.dropSlice(name)
	s := &endpointSlice{service: c.service(e.Namespace, e.Service)}
	s.service.slices++
	for _, a := range addrs {
		for _, p := range e.Ports {
			k := socketKey{a, portKey{p.Protocol, p.Port}}
			s.keys = append(s.keys, k)
			c.services.serve(k, s.service)
		}
	}
	c.services.slices[name] = s
}

// DeleteEndpoints tells that a slice was deleted.
func (c *Cluster) DeleteEndpoints(namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services.dropSlice(namespace + "/" + name)
}

// KeepEndpoints deletes all slices but those of the given names, "namespace/name".
func (c *Cluster) KeepEndpoints(keep map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.services.slices {
		if !keep[name] {
			c.services.dropSlice(name)
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

// unlink takes away where a service can be reached, as far as that is still its own.
func (s *services) unlink(at *service) {
	for _, a := range at.told.Addrs {
		if s.addrs[a] == at {
			delete(s.addrs, a)
		}
		for _, p := range at.told.Ports {
			if k := (socketKey{a, portKey{p.Protocol, p.Port}}); s.fronts[k] == at {
				delete(s.fronts, k)
			}
		}
	}
	for _, p := range at.told.Ports {
		if k := (portKey{p.Protocol, p.NodePort}); s.nodePorts[k] == at {
			delete(s.nodePorts, k)
		}
	}
}

func (s *services) dropUnused(at *service) {
	if at.slices == 0 && at.told.Name == "" {
		delete(s.byName, at.full)
	}
}

// serve adds a service to those of a backend, in their order. A service that has the backend in
// several slices is there as often.
func (s *services) serve(k socketKey, at *service) {
	all := append(slices.Clip(s.backends[k]), at)
	slices.SortStableFunc(all, func(a, b *service) int { return cmp.Compare(a.full, b.full) })
	s.backends[k] = all
}

func (s *services) dropSlice(name string) {
	gone := s.slices[name]
	if gone == nil {
		return
	}
	delete(s.slices, name)
	for _, k := range gone.keys {
		all := s.backends[k]
		if i := slices.Index(all, gone.service); i >= 0 {
			all = slices.Delete(slices.Clone(all), i, i+1)
		}
		if s.backends[k] = all; len(all) == 0 {
			delete(s.backends, k)
		}
	}
	gone.service.slices--
	s.dropUnused(gone.service)
}

// at finds the service that is reached at an address and port. Several may share an address, each
// with ports of its own; without a port of theirs it is the last one's.
func (s *services) at(k socketKey) *service {
	if found := s.fronts[k]; found != nil {
		return found
	}
	return s.addrs[k.addr]
}

// of finds the service that an address serves at a port. Of several, those with an address of
// their own come first (a headless service selects what another one balances), then the first by
// name.
func (s *services) of(k socketKey) (found *service, ambiguous bool) {
	for _, candidate := range s.backends[k] {
		if found == nil {
			found = candidate
			continue
		}
		if candidate == found {
			continue
		}
		own, other := len(found.told.Addrs) > 0, len(candidate.told.Addrs) > 0
		if own == other {
			ambiguous = true
		} else if other {
			found, ambiguous = candidate, false
		}
	}
	return found, ambiguous
}
