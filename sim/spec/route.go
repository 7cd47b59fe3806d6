package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// routes checks the routes that the file gives and derives those of the hosts for which it
// gives none.
func (b *builder) routes() {
	n := newNetwork(&b.out)
	for i, h := range b.raw.hosts {
		for _, r := range h.routes {
			b.checkRoute(n, &b.out.Hosts[i], r)
		}
	}
	for i, h := range b.raw.hosts {
		if h.routesGiven {
			continue
		}
		host := &b.out.Hosts[i]
		for _, v6 := range []bool{false, true} {
			if host.Forward {
				host.Routes = append(host.Routes, n.routerRoutes(host, v6)...)
			} else {
				host.Routes = append(host.Routes, n.defaultRoute(host, v6)...)
			}
		}
	}
}

func (b *builder) checkRoute(n *network, h *Host, r placed[Route]) {
	out := n.onLink(h, r.v.Via)
	if out == nil {
		b.add(r.at, fmt.Sprintf("%s is in no network of host %q", r.v.Via, h.Name),
			"the next hop must be on one of its links")
		return
	}
	s, ok := n.owner(h, r.v.Via)
	if !ok || !n.same(h, out, s.host, s.iface) {
		b.add(r.at, fmt.Sprintf("no host on the link of %s/%s has the address %s", h.Name,
			out.Name, r.v.Via), "")
	}
}

// defaultRoute is the route through the only router on the host's links, or none.
func (n *network) defaultRoute(h *Host, v6 bool) []Route {
	routers := n.adjacentRouters(h, v6)
	if len(routers) != 1 {
		return nil
	}
	via := routers[0].prefix.Addr()
	return []Route{{To: netip.PrefixFrom(unspecified(via), 0), Via: via}}
}

// adjacentRouters lists the routers on the host's links, each once with its first address.
func (n *network) adjacentRouters(h *Host, v6 bool) []station {
	var out []station
	n.neighbours(h, func(_ *Interface, s station) {
		known := slices.ContainsFunc(out, func(o station) bool { return o.host == s.host })
		if s.host.Forward && s.prefix.Addr().Is6() == v6 && !known {
			out = append(out, s)
		}
	})
	return out
}

// reach is a router on the way from another one.
type reach struct {
	host     *Host
	distance int
	first    map[string]netip.Addr // first hops of all shortest ways, by router
}

// routerRoutes are the routes from a router to the networks of all others, on the shortest
// way. Where two shortest ways begin differently there is none: the file has to decide.
func (n *network) routerRoutes(h *Host, v6 bool) []Route {
	var out []Route
	best := map[netip.Prefix]*reach{}
	var order []netip.Prefix
	for _, r := range n.routersFrom(h, v6) {
		for _, p := range networksOf(r.host, v6) {
			known, ok := best[p]
			switch {
			case !ok:
				best[p] = &reach{distance: r.distance, first: cloneHops(r.first)}
				order = append(order, p)
			case known.distance == r.distance:
				addHops(known.first, r.first)
			}
		}
	}
	own := networksOf(h, v6)
	for _, p := range order {
		if slices.Contains(own, p) || len(best[p].first) != 1 {
			continue
		}
		for _, via := range best[p].first {
			out = append(out, Route{To: p, Via: via})
		}
	}
	return out
}

// routersFrom lists the other routers by growing distance.
func (n *network) routersFrom(h *Host, v6 bool) []*reach {
	var out []*reach
	found := map[string]*reach{h.Name: {host: h}}
	queue := []*reach{found[h.Name]}
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		for _, s := range n.adjacentRouters(r.host, v6) {
			first := r.first
			if r.distance == 0 {
				first = map[string]netip.Addr{s.host.Name: s.prefix.Addr()}
			}
			next, ok := found[s.host.Name]
			switch {
			case !ok:
				next = &reach{host: s.host, distance: r.distance + 1, first: cloneHops(first)}
				found[s.host.Name] = next
				out, queue = append(out, next), append(queue, next)
			case next.distance == r.distance+1:
				addHops(next.first, first)
			}
		}
	}
	return out
}

func cloneHops(from map[string]netip.Addr) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	addHops(out, from)
	return out
}

func addHops(to, from map[string]netip.Addr) {
	for name, via := range from {
		to[name] = via
	}
}

// networksOf lists the networks on a host's interfaces.
func networksOf(h *Host, v6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, i := range h.Interfaces {
		for _, p := range ofFamily(i.Addresses, v6) {
			if !slices.Contains(out, p.Masked()) {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// neighbours fills in what each host would ask for by ARP and neighbour discovery. It comes
// last: it needs the final topology.
func (r *resolver) neighbours() {
	t := &r.scenario.Topology
	for h := range t.Hosts {
		host := &t.Hosts[h]
		r.network.neighbours(host, func(own *Interface, s station) {
			host.Neighbours = append(host.Neighbours,
				Neighbour{Interface: own.Name, Addr: s.prefix.Addr(), MAC: s.iface.MAC})
		})
	}
}

// reachable checks that packets of the step find their way, there and, where the step has an
// answer, back: from what the server sees, if that is something else.
func (r *resolver) reachable(raw *rawStep, from, to Endpoint, far *Pair) bool {
	t := &r.scenario.Topology
	sender := t.Host(from.Host)
	if h := t.Host(to.Host); h != nil && h.Island != sender.Island {
		r.add(raw.pair.to.at, fmt.Sprintf("%q cannot reach %q (%s): no link joins %s with %s", raw.pair.from.at.text,
			raw.pair.to.at.text, to.Addr, from.Host, to.Host), "add a link, or a router between them")
		return false
	}
	if _, why := r.network.walk(sender, to.Addr); why != "" {
		r.add(raw.pair.to.at, fmt.Sprintf("%q cannot reach %q (%s): %s", raw.pair.from.at.text,
			raw.pair.to.at.text, to.Addr, why), "add a link, a route, or a router between them")
		return false
	}
	if !raw.step.answers() {
		return true
	}
	answers := raw.pair
	if far != nil {
		from, to, answers = far.Client, far.Server, raw.translated
	}
	if to.Host == "" {
		r.add(answers.to.at, fmt.Sprintf("no host has the address %s, so none can answer", to.Addr),
			"only > can go there")
		return false
	}
	if _, why := r.network.walk(t.Host(to.Host), from.Addr); why != "" {
		r.add(answers.to.at, fmt.Sprintf("%q cannot answer to %s: %s", answers.to.at.text,
			from.Addr, why), "add a route back")
		return false
	}
	return true
}

// answers tells whether the second endpoint of the step sends, too.
func (s *Step) answers() bool {
	switch {
	case s.TCP != nil:
		return slices.ContainsFunc(s.TCP.Script, func(x Segment) bool { return x.FromServer })
	case s.UDP != nil:
		return slices.ContainsFunc(s.UDP.Script, func(x Datagram) bool { return x.FromServer })
	case s.Ping != nil:
		return s.Ping.Reply
	}
	return s.Burst != nil || s.Socket != nil
}
