package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// endpoints looks both endpoints up and chooses their addresses.
func (r *resolver) endpoints(pair *rawPair, family string) (from, to Endpoint, ok bool) {
	a, okA := r.candidates(pair.from)
	b, okB := r.candidates(pair.to)
	if !okA || !okB {
		return from, to, false
	}
	from = Endpoint{Port: pair.from.port}
	to = Endpoint{Port: pair.to.port}
	from.Host, okA = r.owner(pair.from, pair.to.host)
	to.Host, okB = r.owner(pair.to, from.Host)
	if !okA || !okB {
		return from, to, false
	}
	if from.Host == "" {
		r.add(pair.from.at, fmt.Sprintf("no host has the address %s, so none can send from it",
			pair.from.addr), "name the host; a packet step can give another source in its ipv4 layer")
		return from, to, false
	}
	if from.Host == to.Host {
		r.add(pair.to.at, fmt.Sprintf("both endpoints are on host %q", to.Host), "")
		return from, to, false
	}
	pa, pb, ok := choose(a, b, family)
	if !ok {
		r.add(pair.to.at, noFamily(pair, family), "give both an address of one family")
		return from, to, false
	}
	from.Addr, to.Addr = r.source(pair.from, pa, pb), pb
	return from, to, true
}

// source is the address that a host sends from when the file names the host alone: that of the
// interface on the way, as the kernel does it.
func (r *resolver) source(e rawEnd, chosen, to netip.Addr) netip.Addr {
	if e.host == "" || e.name != "" {
		return chosen
	}
	out, _ := r.network.walk(r.scenario.Topology.Host(e.host), to)
	if out == nil {
		return chosen
	}
	own := ofFamily(out.Addresses, to.Is6())
	isChosen := func(p netip.Prefix) bool { return p.Addr() == chosen }
	if len(own) == 0 || slices.ContainsFunc(own, isChosen) {
		return chosen
	}
	return own[0].Addr()
}

func noFamily(pair *rawPair, family string) string {
	if family == "" {
		family = "one family"
	}
	return fmt.Sprintf("%q and %q have no addresses of %s", pair.from.at.text, pair.to.at.text, family)
}

// candidates lists the addresses that an endpoint can mean.
func (r *resolver) candidates(e rawEnd) ([]netip.Prefix, bool) {
	if e.host == "" {
		return []netip.Prefix{netip.PrefixFrom(e.addr, e.addr.BitLen())}, true
	}
	h := r.host(e.at, e.host)
	if h == nil {
		return nil, false
	}
	var out []netip.Prefix
	for _, i := range h.Interfaces {
		if e.name == "" || e.name == i.Name {
			out = append(out, i.Addresses...)
		}
	}
	if e.name != "" && r.interfaceOf(e.at, h, e.name) == nil {
		return nil, false
	}
	if len(out) == 0 {
		r.add(e.at, fmt.Sprintf("%q has no address", e.at.text), "")
	}
	return out, len(out) > 0
}

// owner is the host of an endpoint, or "". Of several that have the address it is the one that is joined with
// the host called near; false if that is not said.
func (r *resolver) owner(e rawEnd, near string) (string, bool) {
	if e.host != "" {
		return e.host, true
	}
	t := &r.scenario.Topology
	if h := t.Host(near); h != nil {
		owner, _ := t.Owner(h, e.addr)
		if owner == nil {
			return "", true
		}
		return owner.Name, true
	}
	owners := t.Owners(e.addr)
	switch len(owners) {
	case 0:
		return "", true
	case 1:
		return owners[0].Name, true
	}
	r.add(e.at, fmt.Sprintf("%s and %s have the address %s", owners[0].Name, owners[1].Name, e.addr), "name the host")
	return "", false
}

// choose picks the addresses of two endpoints: of one family, IPv4 first, and of one network
// where both have an address in it; else the first of each.
func choose(a, b []netip.Prefix, family string) (x, y netip.Addr, ok bool) {
	for _, v6 := range []bool{false, true} {
		if family == "ipv4" && v6 || family == "ipv6" && !v6 {
			continue
		}
		if x, y, ok = chooseOf(ofFamily(a, v6), ofFamily(b, v6)); ok {
			return x, y, true
		}
	}
	return x, y, false
}

func chooseOf(a, b []netip.Prefix) (x, y netip.Addr, ok bool) {
	for _, p := range a {
		for _, q := range b {
			if p.Contains(q.Addr()) || q.Contains(p.Addr()) {
				return p.Addr(), q.Addr(), true
			}
		}
	}
	if len(a) == 0 || len(b) == 0 {
		return x, y, false
	}
	return a[0].Addr(), b[0].Addr(), true
}

func ofFamily(list []netip.Prefix, v6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if p.Addr().Is6() == v6 {
			out = append(out, p)
		}
	}
	return out
}
