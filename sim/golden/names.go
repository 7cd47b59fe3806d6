package golden

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Names gives addresses the names of the hosts that have them. The zero value knows no host.
type Names struct {
	hosts map[netip.Addr]string
	all   []string
}

// NewNames names the addresses of hosts. A host's only address of a family is called after the
// host: "client" for IPv4, "client/v6" for IPv6. Of several, each is "client(address)". An
// address that several hosts have keeps its literal form.
func NewNames(hosts map[string][]netip.Addr) *Names {
	n := &Names{hosts: map[netip.Addr]string{}}
	for host, addrs := range hosts {
		n.all = append(n.all, host)
		n.add(host, addrs)
	}
	slices.Sort(n.all)
	return n
}

func (n *Names) add(host string, addrs []netip.Addr) {
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	families := map[bool]int{}
	for _, a := range addrs {
		families[a.Is4()]++
	}
	for _, a := range addrs {
		name := host
		switch {
		case families[a.Is4()] > 1:
			name = fmt.Sprintf("%s(%s)", host, a)
		case !a.Is4():
			name = host + "/v6"
		}
		if _, taken := n.hosts[a]; taken {
			name = a.String()
		}
		n.hosts[a] = name
	}
}

// Of returns the name of an address, or its literal form.
func (n *Names) Of(a netip.Addr) string {
	if name, ok := n.hosts[a]; ok {
		return name
	}
	return a.String()
}

// Labels are the labels of all hosts: their names, until there is a labeler that knows more.
func (n *Names) Labels() map[string]map[string]string {
	labels := map[string]map[string]string{}
	for _, host := range n.all {
		labels[host] = map[string]string{"host": host}
	}
	return labels
}

// endpoint is the canonical form of one end of a tuple.
func (n *Names) endpoint(a netip.Addr, port uint16, hasPort bool) Endpoint {
	e := Endpoint{Host: n.Of(a)}
	if hasPort {
		e.Port = strconv.Itoa(int(port))
	}
	return e
}

// parseEndpoint is the inverse of Endpoint.String.
func parseEndpoint(s string, hasPort bool) (Endpoint, error) {
	if !hasPort {
		if s == "" || strings.ContainsAny(s, "[]*") {
			return Endpoint{}, fmt.Errorf("%q is no host or address", s)
		}
		return Endpoint{Host: s}, nil
	}
	at := strings.LastIndexByte(s, ':')
	if at <= 0 {
		return Endpoint{}, fmt.Errorf("%q has no port", s)
	}
	e := Endpoint{Host: s[:at], Port: s[at+1:]}
	if h := e.Host; strings.HasPrefix(h, "[") && strings.HasSuffix(h, "]") {
		e.Host = h[1 : len(h)-1]
	}
	if e.Port != star {
		v, err := strconv.ParseUint(e.Port, 10, 16)
		if err != nil || strconv.FormatUint(v, 10) != e.Port {
			return Endpoint{}, fmt.Errorf("%q has no port from 0 to 65535", s)
		}
	}
	if strings.ContainsAny(e.Host, "[]*") || e.String() != s {
		return Endpoint{}, fmt.Errorf("%q is no endpoint", s)
	}
	return e, nil
}
