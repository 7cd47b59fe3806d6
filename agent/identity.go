package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Identity is how records name this agent.
type Identity struct {
	// Address is an address, or where one comes from when the agent starts: external (the one that this host
	// has for others), local (the first that is not for this host alone), or name:eth0 (of an interface).
	// Empty: records have none.
	Address string `yaml:"address"`
	// Family is any, ipv4 or ipv6; any prefers IPv4. Empty: any.
	Family string `yaml:"family"`
}

// Where an address comes from.
const (
	fromExternal = "external"
	fromLocal    = "local"
	fromName     = "name:"
)

// families are those that an identity may have, in order of preference.
var families = map[string][]string{"": {"4", "6"}, "any": {"4", "6"}, "ipv4": {"4"}, "ipv6": {"6"}}

// elsewhere are addresses of no host (RFC 5737, RFC 3849): the way to them is the way to all that is far away.
var elsewhere = map[string]string{"4": "192.0.2.1:9", "6": "[2001:db8::1]:9"}

// check tells what is wrong with it. Errors begin with the key.
func (i *Identity) check() error {
	if _, known := families[i.Family]; !known {
		return fmt.Errorf("family: %q; want any, ipv4 or ipv6", i.Family)
	}
	if i.Address == "" || i.Address == fromExternal || i.Address == fromLocal ||
		strings.HasPrefix(i.Address, fromName) && i.Address != fromName {
		return nil
	}
	a, err := netip.ParseAddr(i.Address)
	if err != nil {
		return fmt.Errorf("address: %q; want an address, external, local, or name: and an interface, like name:eth0", i.Address)
	}
	if !slices.Contains(families[i.Family], kindOf(a)) {
		return fmt.Errorf("address: %s is not of the family %s", a, i.Family)
	}
	return nil
}

func kindOf(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "4"
	}
	return "6"
}

// find finds the address, which is none where the configuration has none.
func (i *Identity) find() (netip.Addr, error) {
	if a, err := netip.ParseAddr(i.Address); err == nil || i.Address == "" {
		return a.Unmap(), nil
	}
	all, err := i.candidates()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("identity.address: %s: %w", i.Address, err)
	}
	for _, family := range families[i.Family] {
		for _, a := range all {
			if kindOf(a) == family {
				return a, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("identity.address: %s: no address of the family is there, among %v", i.Address, all)
}

func (i *Identity) candidates() ([]netip.Addr, error) {
	if i.Address == fromExternal {
		return external(families[i.Family])
	}
	addresses, err := net.InterfaceAddrs()
	if name, ok := strings.CutPrefix(i.Address, fromName); ok {
		var n *net.Interface
		if n, err = net.InterfaceByName(name); err != nil {
			return nil, err
		}
		addresses, err = n.Addrs()
	}
	var all []netip.Addr
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all, err
}

// external asks the kernel from which addresses packets to far away would be sent. None is.
func external(of []string) (all []netip.Addr, err error) {
	var errs []error
	for _, family := range of {
		c, err := net.Dial("udp"+family, elsewhere[family])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			all = append(all, a.AddrPort().Addr().Unmap())
		}
		errs = append(errs, c.Close())
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, errors.Join(errs...)
}
