package testnet

import (
	"net/netip"

	"github.com/weirnet/weir/sim/spec"
)

func iface(name string, index byte, addresses ...string) spec.Interface {
	i := spec.Interface{Name: name, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, index}}
	for _, a := range addresses {
		i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
	}
	return i
}

func route(to, via string) spec.Route {
	return spec.Route{To: netip.MustParsePrefix(to), Via: netip.MustParseAddr(via)}
}

// Port names an interface.
func Port(host, name string) spec.Port { return spec.Port{Host: host, Interface: name} }

// Endpoint names an endpoint.
func Endpoint(host, addr string, p uint16) spec.Endpoint {
	return spec.Endpoint{Host: host, Addr: netip.MustParseAddr(addr), Port: p}
}

// Direct is two hosts on one link.
func Direct() *spec.Topology {
	return &spec.Topology{
		Hosts: []spec.Host{
			{Name: "client", Interfaces: []spec.Interface{
				iface("eth0", 1, "10.0.0.1/24", "fd00::1/64")}},
			{Name: "server", Interfaces: []spec.Interface{
				iface("eth0", 2, "10.0.0.2/24", "fd00::2/64")}},
		},
		Links: []spec.Link{{A: Port("client", "eth0"), B: Port("server", "eth0")}},
	}
}

// Routed is two hosts with two routers between them.
func Routed() *spec.Topology {
	return &spec.Topology{
		Hosts: []spec.Host{
			{Name: "client", Interfaces: []spec.Interface{
				iface("eth0", 1, "10.0.1.2/24", "fd00:1::2/64")},
				Routes: []spec.Route{route("0.0.0.0/0", "10.0.1.1"), route("::/0", "fd00:1::1")}},
			{Name: "r1", Forward: true, Stack: true, Interfaces: []spec.Interface{
				iface("a", 2, "10.0.1.1/24", "fd00:1::1/64"),
				iface("b", 3, "10.0.9.1/24", "fd00:9::1/64")},
				Routes: []spec.Route{route("10.0.2.0/24", "10.0.9.2"),
					route("fd00:2::/64", "fd00:9::2")}},
			{Name: "r2", Forward: true, Stack: true, Interfaces: []spec.Interface{
				iface("a", 4, "10.0.9.2/24", "fd00:9::2/64"),
				iface("b", 5, "10.0.2.1/24", "fd00:2::1/64")},
				Routes: []spec.Route{route("10.0.1.0/24", "10.0.9.1"),
					route("fd00:1::/64", "fd00:9::1")}},
			{Name: "server", Interfaces: []spec.Interface{
				iface("eth0", 6, "10.0.2.2/24", "fd00:2::2/64")},
				Routes: []spec.Route{route("0.0.0.0/0", "10.0.2.1"), route("::/0", "fd00:2::1")}},
		},
		Links: []spec.Link{
			{A: Port("client", "eth0"), B: Port("r1", "a")},
			{A: Port("r1", "b"), B: Port("r2", "a")},
			{A: Port("r2", "b"), B: Port("server", "eth0")},
		},
	}
}

// Bridged is three hosts on a bridge in a fourth.
func Bridged() *spec.Topology {
	return &spec.Topology{
		Hosts: []spec.Host{
			{Name: "a", Interfaces: []spec.Interface{iface("eth0", 1, "10.0.0.1/24")}},
			{Name: "b", Interfaces: []spec.Interface{iface("eth0", 2, "10.0.0.2/24")}},
			{Name: "c", Interfaces: []spec.Interface{iface("eth0", 3, "10.0.0.3/24")}},
			{Name: "sw", Interfaces: []spec.Interface{iface("p1", 4), iface("p2", 5), iface("p3", 6)}},
		},
		Bridges: []spec.Bridge{{Host: "sw", Name: "br0", MAC: [6]byte{2, 0, 0, 0, 0, 7},
			Ports: []string{"p1", "p2", "p3"}}},
		Links: []spec.Link{
			{A: Port("a", "eth0"), B: Port("sw", "p1")},
			{A: Port("b", "eth0"), B: Port("sw", "p2")},
			{A: Port("c", "eth0"), B: Port("sw", "p3")},
		},
	}
}
