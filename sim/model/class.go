package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/flow"
)

// The classes and reasons, as files have them.
const (
	sameHost, intraZone, interZone     = "SAME_HOST", "INTRA_ZONE", "INTER_ZONE"
	intraVPC, intraRegion, interRegion = "INTRA_VPC", "INTRA_REGION", "INTER_REGION"
	privateOther, internet, unknownWay = "PRIVATE_OTHER", "PUBLIC_INTERNET", "UNKNOWN"
	pastOwner, noPlace, noRegion       = "past-owner", "no-place", "no-region"
)

// class tells what lies between two parties.
func (c *Cluster) class(a, b *party) (class, why string) {
	for _, p := range []*party{a, b} {
		if p.labels.Kind == flow.KindUnknown {
			return unknownWay, pastOwner
		}
	}
	for _, p := range []*party{a, b} {
		if p.rng != nil && p.rng.Class != "" {
			return strings.ToUpper(p.rng.Class), ""
		}
	}
	is := func(k flow.Kind) bool { return a.labels.Kind == k || b.labels.Kind == k }
	far := func(p *party) bool { return p.rng != nil || p.labels.Kind == flow.KindInternet }
	if far(a) && !far(b) {
		a, b = b, a
	}
	switch {
	case b.labels.Kind == flow.KindInternet:
		return internet, ""
	case b.rng != nil && b.rng.provided:
		return c.toCloud(a, b)
	case b.rng != nil:
		if way := c.way(a, b); way != unknownWay {
			return way, ""
		}
		if unrouted(b.rng.prefix.Addr()) {
			return privateOther, ""
		}
		return internet, ""
	case is(flow.KindPrivate):
		return privateOther, ""
	}
	if way := c.way(a, b); way != unknownWay {
		return way, ""
	}
	return unknownWay, noPlace
}

// toCloud is the class of a way to a provider's range.
func (c *Cluster) toCloud(a, b *party) (class, why string) {
	here, there := c.place(a), b.labels
	switch {
	case here.Cloud != there.Cloud:
		return internet, ""
	case there.Region == "global" || there.Region != "" && there.Region == here.Region:
		return intraRegion, ""
	case there.Region == "" || here.Region == "":
		return unknownWay, noRegion
	}
	return interRegion, ""
}

// way is what lies between two places.
func (c *Cluster) way(x, y *party) string {
	a, b := c.place(x), c.place(y)
	apart := func(x, y string) bool { return x != "" && y != "" && x != y }
	both := func(x, y string) bool { return x != "" && y != "" }
	switch {
	case apart(a.Cloud, b.Cloud):
		return internet
	case a.Node != "" && a.Node == b.Node && a.Cluster == b.Cluster:
		return sameHost
	case apart(a.Region, b.Region) && a.Region != "global" && b.Region != "global":
		return interRegion
	case both(a.Zone, b.Zone) && a.Zone == b.Zone:
		return intraZone
	case both(a.Zone, b.Zone):
		return interZone
	case both(a.Region, b.Region):
		return intraRegion
	case x.known && y.known && a.Cluster == b.Cluster:
		return intraVPC
	}
	return unknownWay
}

// place is where a party is; the cluster's and private addresses are where the agent is if they do not
// tell.
func (c *Cluster) place(p *party) flow.Labels {
	l := p.labels
	if l.Kind != flow.KindPod && l.Kind != flow.KindNode && l.Kind != flow.KindPrivate {
		return l
	}
	l.Cloud = cmp.Or(l.Cloud, c.cfg.Cloud)
	if l.Cloud == c.cfg.Cloud {
		l.Region = cmp.Or(l.Region, c.cfg.Region)
	}
	return l
}

// unroutedPrefixes are those of IANA's registries of special-purpose addresses that the Internet does
// not route, and multicast.
var unroutedPrefixes = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

func unrouted(a netip.Addr) bool {
	return slices.ContainsFunc(unroutedPrefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
