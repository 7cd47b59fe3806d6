package runner

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/spec"
)

// translations predicts what the agent is to tell of address translation: from the rules of the
// scenario's routers, and from the packets that came to these and left them. A rule keeps source
// ports and ICMP identifiers: scenarios in which two connections want the same are not predicted.
type translations struct {
	routers map[string]*spec.Host
	passed  *model.Model // what has passed the routers
}

// newTranslations is nil when there is nothing to predict.
func newTranslations(sc *spec.Scenario, cfg model.Config) *translations {
	if !slices.Contains(sc.Agent.Features, agent.FeatureNAT) {
		return nil
	}
	t := &translations{routers: map[string]*spec.Host{},
		passed: model.New(model.Config{Lifetimes: cfg.Lifetimes, TableFull: cfg.TableFull, MidStream: true,
			Sample: 1})}
	for i := range sc.Topology.Hosts {
		if h := &sc.Topology.Hosts[i]; len(h.NAT) > 0 {
			t.routers[h.Name] = h
		}
	}
	return t
}

// ports are the interfaces of all routers that translate.
func (t *translations) ports() []spec.Port {
	if t == nil {
		return nil
	}
	var all []spec.Port
	for _, r := range t.routers {
		for _, i := range r.Interfaces {
			all = append(all, spec.Port{Host: r.Name, Interface: i.Name})
		}
	}
	return all
}

// packet takes a packet that some port has seen.
func (t *translations) packet(hook flow.Hook, now int64, frame []byte) {
	if t != nil && t.routers[hook.Namespace] != nil {
		t.passed.Packet(hook, now, frame)
	}
}

// named is a connection as its initiator's packets name it.
type named struct {
	src, dst netip.AddrPort
	protocol uint8
	icmpType uint8
	icmpID   uint16
}

func nameOf(f *model.Flow) named {
	n := named{netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(f.Dst, f.DstPort), f.Protocol,
		f.ICMPType, f.ICMPID}
	if f.Cites != 0 {
		n.protocol = f.Cites
	}
	return n
}

func (n named) reverse() named {
	n.src, n.dst = n.dst, n.src
	return n
}

// other is the name as records of another side give it.
func (n named) other() flow.NAT {
	return flow.NAT{Src: n.src.Addr(), Dst: n.dst.Addr(), SrcPort: n.src.Port(), DstPort: n.dst.Port(),
		ICMPID: n.icmpID}
}

// translation is a connection's two names at a router.
type translation struct {
	router        string
	before, after named
}

// place is where packets of a name have left a router.
type place struct {
	hook flow.Hook
	name named
}

// all lists the translations.
func (t *translations) all() []translation {
	flows := t.passed.Flows()
	left := map[place]bool{}
	for i := range flows {
		for _, h := range flows[i].Seen {
			left[place{h, nameOf(&flows[i])}] = true
		}
	}
	var all []translation
	for i := range flows {
		f := &flows[i]
		for _, h := range f.Seen {
			if f.Cites != 0 || f.Role != flow.RoleInitiator || h.Direction != flow.Ingress {
				continue
			}
			before := nameOf(f)
			if after := translate(t.routers[h.Namespace], before, left); after != before {
				all = append(all, translation{h.Namespace, before, after})
			}
		}
	}
	return all
}

// translate is what a router makes of a name. By which interface the packets leave it shows where they
// have.
func translate(router *spec.Host, n named, left map[place]bool) named {
	to := n
	for _, rule := range router.NAT {
		if rule.Protocol != "" && takes(router, &rule, n) {
			to.dst = rule.To
			break
		}
	}
	for _, rule := range router.NAT {
		for _, a := range sources(router, &rule) {
			from := to
			from.src = netip.AddrPortFrom(a, n.src.Port())
			if left[place{egress(router, rule.Out), from}] {
				return from
			}
		}
	}
	for _, i := range router.Interfaces {
		if left[place{egress(router, i.Name), to}] {
			return to
		}
	}
	return n
}

func egress(router *spec.Host, name string) flow.Hook {
	return flow.Hook{Namespace: router.Name, Interface: name, Direction: flow.Egress}
}

// takes tells whether dnat or nodeport takes a connection.
func takes(router *spec.Host, rule *spec.NAT, n named) bool {
	protocol := map[string]uint8{"tcp": 6, "udp": 17}[rule.Protocol]
	if n.protocol != protocol || n.dst.Port() != rule.Match.Port() ||
		n.dst.Addr().Is4() != rule.To.Addr().Is4() {
		return false
	}
	if rule.Kind == spec.NATTarget {
		return n.dst.Addr() == rule.Match.Addr()
	}
	return slices.ContainsFunc(router.Interfaces, func(i spec.Interface) bool {
		return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == n.dst.Addr() })
	})
}

// sources are the addresses that a rule gives to what it lets out.
func sources(router *spec.Host, rule *spec.NAT) []netip.Addr {
	switch rule.Kind {
	case spec.NATSource:
		return []netip.Addr{rule.To.Addr()}
	case spec.NATMasquerade:
		var all []netip.Addr
		for _, p := range router.Interface(rule.Out).Addresses {
			all = append(all, p.Addr())
		}
		return all
	}
	return nil
}

// tell adds to flows what the agent is to tell.
func (t *translations) tell(flows []model.Flow) {
	if t == nil {
		return
	}
	all := t.all()
	for i := range flows {
		f := &flows[i]
		for _, tr := range all {
			if slices.ContainsFunc(f.Seen, func(h flow.Hook) bool { return h.Namespace == tr.router }) {
				tr.tell(f)
			}
		}
	}
}

func (tr *translation) tell(f *model.Flow) {
	switch nameOf(f) {
	case tr.before:
		f.NATAfter = tr.after.other()
	case tr.before.reverse():
		f.NATAfter = tr.after.reverse().other()
	case tr.after:
		f.NATBefore = tr.before.other()
	case tr.after.reverse():
		f.NATBefore = tr.before.reverse().other()
	}
}
