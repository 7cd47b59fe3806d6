package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// rawEnd is an endpoint as the file has it: a host, one interface of it, or an address.
type rawEnd struct {
	at      *node
	host    string
	name    string // of the interface; "" lets weir choose
	addr    netip.Addr
	port    uint16
	hasPort bool
}

// rawPair is "from > to".
type rawPair struct{ from, to rawEnd }

var hostRef = regexp.MustCompile(`^` + hostName + `(/` + interfaceName + `)?$`)

const endpointHint = "write client, client:40000, client/eth1:40000, 192.0.2.1:80 or " +
	"[2001:db8::1]:80"

var pairValue = value[rawPair]{
	schema: schema{"type": "string", "pattern": `^\S+ +> +\S+$`,
		"examples": []string{"client:40000 > server:80"}},
	read: func(l *list, n *node) (p rawPair, ok bool) {
		if !text(l, n, "two endpoints", "") {
			return p, false
		}
		left, right, found := strings.Cut(n.text, " > ")
		if !found {
			l.add(n, fmt.Sprintf("%s are not two endpoints", n.what()), "write client:40000 > server:80")
			return p, false
		}
		gap := len(right) - len(strings.TrimLeft(right, " "))
		p.from, ok = parseEnd(l, n.at(0, strings.TrimRight(left, " ")))
		if !ok {
			return p, false
		}
		p.to, ok = parseEnd(l, n.at(len(left)+3+gap, right[gap:]))
		return p, ok
	},
}

var endValue = value[rawEnd]{
	schema: schema{"type": "string", "pattern": `^\S+$`, "examples": []string{"server:80"}},
	read: func(l *list, n *node) (rawEnd, bool) {
		if !text(l, n, "an endpoint", "") {
			return rawEnd{}, false
		}
		return parseEnd(l, n)
	},
}

// parseEnd reads one endpoint. The node's text is the endpoint alone.
func parseEnd(l *list, n *node) (rawEnd, bool) {
	e := rawEnd{at: n}
	place, port := splitPort(n.text)
	if port != "" {
		v, err := strconv.ParseUint(port, 10, 16)
		if err != nil || v == 0 || port[0] == '0' {
			l.add(n, fmt.Sprintf("port %q is not a number from 1 to 65535", shorten(port)), "")
			return e, false
		}
		e.port, e.hasPort = uint16(v), true
	}
	if hostRef.MatchString(place) {
		e.host, e.name, _ = strings.Cut(place, "/")
		return e, true
	}
	addr, err := netip.ParseAddr(strings.Trim(place, "[]"))
	if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified() {
		l.add(n, fmt.Sprintf("%q is neither a host nor an address", shorten(n.text)), endpointHint)
		return e, false
	}
	e.addr = addr
	return e, true
}

// splitPort cuts ":port" off. An IPv6 address is in brackets when a port follows.
func splitPort(s string) (place, port string) {
	i := strings.LastIndexByte(s, ':')
	switch {
	case i < 0, strings.HasSuffix(s, "]"):
		return s, ""
	case strings.Count(s, ":") > 1 && s[0] != '[':
		return s, ""
	case i == len(s)-1:
		return s[:i], "0" // refused as a port, with its place
	}
	return s[:i], s[i+1:]
}
