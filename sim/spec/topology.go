package spec

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Bounds on the topology.
const (
	MaxHosts      = 64
	MaxInterfaces = 64 // of one host
	MaxLinks      = 1024
	maxAddresses  = 64 // of one interface
	maxRoutes     = 256
	maxIndex      = 1 << 20
)

// Names in the topology. An interface's name ends in a digit, which keeps it apart from the
// keys of a host; 15 characters are the kernel's limit.
const (
	hostName      = `[a-z][a-z0-9-]{0,19}`
	interfaceName = `[a-z]{1,10}[0-9]{1,4}(\.[0-9]{1,4}){0,2}`
	portName      = hostName + `/` + interfaceName
)

// rawTopology is the topology as the file has it.
type rawTopology struct {
	at    *node
	hosts []*rawHost
	links []placed[Link]
}

// rawHost is a host as the file has it.
type rawHost struct {
	at      *node
	name    string
	forward bool
	stack   placed[string] // "kernel", "none" or ""
	routes  []placed[Route]
	// routesGiven is set when the file has the key, even with nothing behind it.
	routesGiven bool
	nat         []placed[NAT]
	sysctls     []Sysctl
	interfaces  []*rawInterface
}

// rawInterface is an interface as the file has it.
type rawInterface struct {
	at        *node
	name      string
	addresses []placed[netip.Prefix]
	mtu       int
	mtuGiven  bool
	mac       [6]byte
	macGiven  bool
	index     placed[int]
	isBridge  bool
	bridge    []placed[string]
	device    rawDevice
	master    string // the bond that it is a member of
}

var topologyObject = object[rawTopology]{
	what: "the topology",
	doc:  "The network: hosts by name, and the links that join their interfaces.",
	fields: []field[rawTopology]{
		put("links", `Cables between two interfaces: "client/eth0 - server/eth0".`,
			listOf("links", keepPlace(linkValue), 0, MaxLinks),
			func(t *rawTopology, v []placed[Link]) { t.links = v }),
	},
	rest: &rest[rawTopology]{
		pattern: regexp.MustCompile(`^` + hostName + `$`),
		doc:     "any other key is a host: lower-case letters, digits and -",
		schema:  hostObject.schema(), most: MaxHosts,
		read: func(l *list, key, n *node, t *rawTopology) {
			h := &rawHost{at: key, name: key.text}
			hostObject.read(l, n, h)
			t.hosts = append(t.hosts, h)
		},
	},
}

var hostObject = object[rawHost]{
	what: "a host",
	doc:  "A host with a network namespace of its own.",
	fields: []field[rawHost]{
		put("forward", "Makes the host a router of both families.", boolean(),
			func(h *rawHost, v bool) { h.forward = v }),
		put("stack", "Whether the kernel's IP stack answers on this host. By default it does on "+
			"routers and where real sockets are used, and is silent elsewhere.",
			keepPlace(choice("kernel", "none")),
			func(h *rawHost, v placed[string]) { h.stack = v }),
		put("routes", `Static routes: "10.9.0.0/16 via 10.0.0.254", "default via fd00::1". `+
			"Without them the routes through the topology's routers are derived.",
			listOf("routes", keepPlace(routeValue), 0, maxRoutes),
			func(h *rawHost, v []placed[Route]) { h.routes, h.routesGiven = v, true }),
		put("nat", `Address translation on a router: "masquerade out eth1", `+
			`"dnat tcp 192.0.2.1:8080 to 10.0.0.2:80".`,
			listOf("translations", keepPlace(natValue), 1, maxNAT),
			func(h *rawHost, v []placed[NAT]) { h.nat = v }),
		put("sysctls", "Settings of the namespace, once its interfaces are there: "+
			"{net.ipv4.conf.eth0.rp_filter: 1}.", sysctlsObject.value(),
			func(h *rawHost, v []Sysctl) { h.sysctls = v }),
	},
	rest: &rest[rawHost]{
		pattern: regexp.MustCompile(`^` + interfaceName + `$`),
		doc: "an interface is a word and a number, like eth0; eth0.7 is VLAN 7 on eth0; " +
			"it has a list of addresses, or a mapping",
		schema: schema{"oneOf": []schema{addressList.schema, interfaceObject.schema()}},
		most:   MaxInterfaces,
		read:   readInterface,
	},
}

// sysctlName is a setting below net: others are not of a namespace.
const sysctlName = `^net(\.[a-zA-Z0-9_-]+){1,6}$`

var sysctlsObject = object[[]Sysctl]{
	what: "the settings",
	rest: &rest[[]Sysctl]{
		pattern: regexp.MustCompile(sysctlName),
		doc:     "settings begin with net., like net.ipv4.conf.eth0.rp_filter",
		schema:  schema{"type": []string{"integer", "string"}}, most: 64,
		read: func(l *list, key, n *node, s *[]Sysctl) {
			if scalar(l, n, "a value") {
				*s = append(*s, Sysctl{Name: key.text, Value: n.text})
			}
		},
	},
}

var addressList = listOf("addresses", keepPlace(prefixValue), 0, maxAddresses)

var interfaceObject = object[rawInterface]{
	what: "an interface",
	doc:  "The long form of an interface.",
	fields: append([]field[rawInterface]{
		put("addresses", "Addresses with their prefix lengths.", addressList,
			func(i *rawInterface, v []placed[netip.Prefix]) { i.addresses = v }),
		put("mtu", "Largest IP packet in bytes, 1500 by default.", number[int](68, 65535),
			func(i *rawInterface, v int) { i.mtu, i.mtuGiven = v, true }),
		put("mac", "Hardware address; by default 02:00:00:00:HH:II of host and interface number.",
			match("a unicast MAC address", "02:00:00:00:00:07", `^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$`,
				parseUnicastMAC),
			func(i *rawInterface, v [6]byte) { i.mac, i.macGiven = v, true }),
		put("index", "The interface index; by default unique in the scenario, from 10 on.",
			keepPlace(number[int](2, maxIndex)),
			func(i *rawInterface, v placed[int]) { i.index = v }),
		put("bridge", "Makes this interface a bridge over these interfaces of the host. Those "+
			"that the host does not list are made.",
			listOf("ports", keepPlace(nameValue), 0, MaxInterfaces),
			func(i *rawInterface, v []placed[string]) { i.bridge, i.isBridge = v, true }),
	}, deviceFields()...),
}

func readInterface(l *list, key, n *node, h *rawHost) {
	i := &rawInterface{at: key, name: key.text}
	h.interfaces = append(h.interfaces, i)
	switch n.kind {
	case listKind:
		i.addresses, _ = addressList.read(l, n)
	case mapKind:
		interfaceObject.read(l, n, i)
	default:
		l.add(n, fmt.Sprintf("want a list of addresses, got %s", n.what()),
			"write ["+n.text+"], or { addresses: [...], mtu: ... }")
	}
}

var nameValue = match("an interface", "eth0", `^`+interfaceName+`$`,
	func(s string) (string, error) { return s, nil })

var portValue = match("an interface of a host", "server/eth0", `^`+portName+`$`, parsePort)

var linkValue = match("a link", "client/eth0 - server/eth0", `^`+portName+` +- +`+portName+`$`,
	func(s string) (Link, error) {
		a, b, _ := strings.Cut(s, " - ")
		left, _ := parsePort(strings.TrimSpace(a))
		right, _ := parsePort(strings.TrimSpace(b))
		return Link{A: left, B: right}, nil
	})

func parsePort(s string) (Port, error) {
	host, name, ok := strings.Cut(s, "/")
	if !ok {
		return Port{}, errors.New("it has no interface")
	}
	return Port{host, name}, nil
}

const addressPattern = `[0-9a-fA-F:.]+`

var prefixValue = match("an address with its prefix length", "10.0.0.1/24",
	`^`+addressPattern+`/[0-9]{1,3}$`, parsePrefix)

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, explainAddress(s)
	}
	if err := checkHostAddress(p.Addr()); err != nil {
		return p, err
	}
	wide := p.Addr().BitLen() - p.Bits()
	if wide > 1 && p.Masked().Addr() == p.Addr() && p.Addr().Is4() {
		return p, fmt.Errorf("that is the network's own address, %s is a host's", p.Addr().Next())
	}
	if wide > 1 && p.Addr().Is4() && !p.Contains(p.Addr().Next()) {
		return p, fmt.Errorf("that is the network's broadcast address")
	}
	if p.Bits() == 0 {
		return p, fmt.Errorf("the prefix is the whole Internet")
	}
	return p, nil
}

// explainAddress says what is wrong with an address or prefix, in words of the file.
func explainAddress(s string) error {
	address, bits, _ := strings.Cut(s, "/")
	if _, err := netip.ParseAddr(address); err != nil {
		return fmt.Errorf("%s is no address", address)
	}
	return fmt.Errorf("/%s is no prefix length of it", bits)
}

// broadcast is the limited broadcast address.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// checkHostAddress refuses what no interface can have.
func checkHostAddress(a netip.Addr) error {
	switch {
	case a.Is4In6():
		return errors.New("write it as an IPv4 address")
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == broadcast:
		return errors.New("it is not an address of one host")
	}
	return nil
}

func parseUnicastMAC(s string) ([6]byte, error) {
	m, err := parseMAC(s)
	if err == nil && (m[0]&1 == 1 || m == [6]byte{}) {
		err = errors.New("it is not of one interface")
	}
	return m, err
}

func parseMAC(s string) (m [6]byte, err error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(m) {
		return m, errors.New("it has not six bytes")
	}
	copy(m[:], hw)
	return m, nil
}

var routeValue = match("a route", "10.9.0.0/16 via 10.0.0.254",
	`^(default|`+addressPattern+`/[0-9]{1,3}) +via +`+addressPattern+`$`, parseRoute)

func parseRoute(s string) (Route, error) {
	words := strings.Fields(s)
	via, err := netip.ParseAddr(words[2])
	if err != nil {
		return Route{}, fmt.Errorf("%s is no address", words[2])
	}
	if err := checkHostAddress(via); err != nil {
		return Route{}, fmt.Errorf("%s: %w", words[2], err)
	}
	if words[0] == "default" {
		words[0] = netip.PrefixFrom(unspecified(via), 0).String()
	}
	to, err := netip.ParsePrefix(words[0])
	switch {
	case err != nil:
		return Route{}, explainAddress(words[0])
	case to.Addr().Is4() != via.Is4():
		return Route{}, errors.New("its two addresses are of different families")
	case to.Masked() != to:
		return Route{}, fmt.Errorf("the network is %s", to.Masked())
	}
	return Route{To: to, Via: via}, nil
}

// unspecified is 0.0.0.0 or ::, of the address's family.
func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// vlanName splits the name of a VLAN interface: "eth0.7" is eth0 and 7, "eth0.7.9" eth0.7 and 9.
func vlanName(name string) (parent string, id uint16, ok bool) {
	point := strings.LastIndexByte(name, '.')
	if point < 0 {
		return "", 0, false
	}
	v, err := strconv.ParseUint(name[point+1:], 10, 16)
	return name[:point], uint16(v), err == nil && v >= 1 && v <= 4094
}
