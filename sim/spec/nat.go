package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// The kinds of address translation on a router.
const (
	NATMasquerade = "masquerade" // what leaves by an interface gets the interface's address as source
	NATSource     = "snat"       // what leaves by an interface gets a given address as source
	NATTarget     = "dnat"       // what comes for one address and port goes to another
	NATNodePort   = "nodeport"   // what comes for a port of any address of the host goes to another
)

// maxNAT is how many translations one host can have.
const maxNAT = 64

// NAT is an address translation on a router.
type NAT struct {
	Kind string
	Out  string // masquerade, snat: the interface that packets leave by
	// Protocol, tcp or udp, and Match are what dnat and nodeport take; the address of a
	// nodeport's Match is not valid.
	Protocol string
	Match    netip.AddrPort
	To       netip.AddrPort // snat: without a port
}

// Pair is the two ends of a conversation.
type Pair struct{ Client, Server Endpoint }

// natForms are how the kinds are written, by pattern and by example.
var natForms = map[string]struct{ pattern, example string }{
	NATMasquerade: {`masquerade +out +` + interfaceName, "masquerade out eth1"},
	NATSource:     {`snat +out +` + interfaceName + ` +to +\S+`, "snat out eth1 to 192.0.2.1"},
	NATTarget:     {`dnat +(tcp|udp) +\S+ +to +\S+`, "dnat tcp 192.0.2.1:8080 to 10.0.0.2:80"},
	NATNodePort:   {`nodeport +(tcp|udp) +[0-9]+ +to +\S+`, "nodeport tcp 30080 to 10.0.0.2:80"},
}

var natKinds = []string{NATMasquerade, NATSource, NATTarget, NATNodePort}

// natValue is one translation.
var natValue = value[NAT]{schema: natSchema(), read: func(l *list, n *node) (NAT, bool) {
	const hint = "write it like masquerade out eth1"
	if !text(l, n, "an address translation", hint) {
		return NAT{}, false
	}
	kind, _, _ := strings.Cut(n.text, " ")
	form, ok := natForms[kind]
	if !ok {
		l.add(n, fmt.Sprintf("%q is no kind of address translation", shorten(kind)), suggest(kind, natKinds))
		return NAT{}, false
	}
	if !regexp.MustCompile(`^` + form.pattern + `$`).MatchString(n.text) {
		l.add(n, fmt.Sprintf("%q is not how %s is written", shorten(n.text), kind),
			"write it like "+form.example)
		return NAT{}, false
	}
	nat, err := parseNAT(kind, strings.Fields(n.text)[1:])
	if err != nil {
		l.add(n, fmt.Sprintf("%q: %v", shorten(n.text), err), "")
	}
	return nat, err == nil
}}

func natSchema() schema {
	var patterns, examples []string
	for _, k := range natKinds {
		patterns = append(patterns, natForms[k].pattern)
		examples = append(examples, natForms[k].example)
	}
	return schema{"type": "string", "pattern": `^(` + strings.Join(patterns, "|") + `)$`,
		"examples": examples}
}

// parseNAT reads the words behind the kind, which are as many as the form has.
func parseNAT(kind string, words []string) (nat NAT, err error) {
	nat.Kind = kind
	switch kind {
	case NATMasquerade:
		nat.Out = words[1]
		return nat, nil
	case NATSource:
		nat.Out = words[1]
		addr, err := natAddress(words[3])
		nat.To = netip.AddrPortFrom(addr, 0)
		return nat, err
	}
	nat.Protocol = words[0]
	match := words[1]
	if kind == NATNodePort {
		match = "0.0.0.0:" + match
	}
	if nat.Match, err = natEnd(match); err != nil {
		return nat, err
	}
	if nat.To, err = natEnd(words[3]); err != nil {
		return nat, err
	}
	if kind == NATNodePort {
		nat.Match = netip.AddrPortFrom(netip.Addr{}, nat.Match.Port())
	} else if nat.Match.Addr().Is4() != nat.To.Addr().Is4() {
		return nat, errors.New("its two addresses are of different families")
	}
	return nat, nil
}

func natEnd(s string) (netip.AddrPort, error) {
	place, port := splitPort(s)
	if port == "" {
		return netip.AddrPort{}, fmt.Errorf("%s has no port", s)
	}
	end, err := netip.ParseAddrPort(s)
	switch {
	case err != nil && !validPort(port):
		return end, fmt.Errorf("port %s is not a number from 1 to 65535", port)
	case err != nil:
		return end, fmt.Errorf("%s is no address", place)
	case end.Port() == 0:
		return end, errors.New("port 0 is not a number from 1 to 65535")
	case end.Addr().IsUnspecified(): // that of a nodeport
		return end, nil
	}
	return end, checkHostAddress(end.Addr())
}

func validPort(s string) bool {
	_, err := netip.ParseAddrPort("0.0.0.0:" + s)
	return err == nil
}

func natAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("%s is no address", s)
	}
	return a, checkHostAddress(a)
}

// nat checks the address translations of all hosts.
func (b *builder) nat() {
	for i, h := range b.raw.hosts {
		for _, n := range h.nat {
			if !h.forward {
				b.add(n.at, fmt.Sprintf("host %q is no router", h.name),
					"packets are translated where they are forwarded: add forward: true")
				break
			}
			b.checkNAT(h, &b.out.Hosts[i], n)
			b.out.Hosts[i].NAT = append(b.out.Hosts[i].NAT, n.v)
		}
	}
}

func (b *builder) checkNAT(raw *rawHost, h *Host, n placed[NAT]) {
	if n.v.Out == "" {
		return
	}
	out := h.Interface(n.v.Out)
	switch {
	case out == nil:
		b.add(n.at, fmt.Sprintf("host %q has no interface %q", h.Name, n.v.Out),
			suggest(n.v.Out, raw.interfaceNames()))
	case len(out.Addresses) == 0:
		b.add(n.at, fmt.Sprintf("%s/%s has no address to send from", h.Name, n.v.Out), "")
	case n.v.Kind == NATSource && !out.has(n.v.To.Addr()):
		b.add(n.at, fmt.Sprintf("%s/%s has not the address %s, so replies would not come back", h.Name,
			n.v.Out, n.v.To.Addr()), "add it to the interface")
	}
}

func (i *Interface) has(a netip.Addr) bool {
	for _, p := range i.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// translatedField is the key of a scripted step whose packets are translated on the way.
var translatedField = put("translated", `What the server sees when addresses are translated on the way: `+
	`"router:40000 > server:80". It answers from there to there.`, pairValue,
	func(s *rawStep, p rawPair) { s.translated = &p })

// translatedPair resolves what the server sees.
func (r *resolver) translatedPair(raw *rawStep, from Endpoint) (*Pair, bool) {
	family := "ipv4"
	if from.Addr.Is6() {
		family = "ipv6"
	}
	client, server, ok := r.endpoints(raw.translated, family)
	if !ok || !r.ports(raw, raw.translated) {
		return nil, false
	}
	if server.Host == "" {
		r.add(raw.translated.to.at, fmt.Sprintf("no host has the address %s, so none can answer",
			server.Addr), "name the host that does")
		return nil, false
	}
	return &Pair{client, server}, true
}
