package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weirnet/weir/agent/conntrack"
)

// choice is the flags of `weir ct` that choose connections.
type choice struct {
	flags    *pflag.FlagSet
	zone     uint16
	family   int
	protocol string
	states   []string
	networks []string
	src, dst string
	ports    []uint
	expired  bool
	idle     time.Duration
	ids      []string
}

func (c *choice) on(cmd *cobra.Command) {
	f := cmd.Flags()
	c.flags = f
	f.Uint16Var(&c.zone, "zone", 0, "those in this zone")
	f.IntVar(&c.family, "family", 0, "those of IPv4 (4) or IPv6 (6)")
	f.StringVar(&c.protocol, "protocol", "", "tcp, udp, icmp, icmpv6, sctp, or a number")
	f.StringSliceVar(&c.states, "state", nil, "those in one of these states, like established,closing")
	f.StringSliceVar(&c.networks, "address", nil, "those with an end in one of these addresses or prefixes")
	f.StringVar(&c.src, "src", "", "those whose initiator has this address or lies in this prefix")
	f.StringVar(&c.dst, "dst", "", "likewise the other end")
	f.UintSliceVar(&c.ports, "port", nil, "those with one of these ports at an end")
	f.BoolVar(&c.expired, "expired", false, "those that have expired; =false: those that have not")
	f.DurationVar(&c.idle, "idle", 0, "those that have been idle for so long at least")
	f.StringSliceVar(&c.ids, "flow", nil, "those with one of these flow ids")
}

// any tells whether one of the flags is set.
func (c *choice) any() bool {
	set := false
	for _, name := range []string{"zone", "family", "protocol", "state", "address", "src", "dst", "port", "expired",
		"idle", "flow"} {
		set = set || c.flags.Changed(name)
	}
	return set
}

// filter is what the flags say.
func (c *choice) filter() (conntrack.Filter, error) {
	f := conntrack.Filter{Family: c.family, Idle: c.idle}
	if c.flags.Changed("zone") {
		f.Zone = &c.zone
	}
	if c.flags.Changed("expired") {
		f.Expired = &c.expired
	}
	for _, step := range []func(*conntrack.Filter) error{c.readProtocol, c.readStates, c.readNetworks, c.readPorts, c.readFlows} {
		if err := step(&f); err != nil {
			return f, err
		}
	}
	return f, f.Check()
}

func (c *choice) readProtocol(f *conntrack.Filter) error {
	if c.protocol == "" {
		return nil
	}
	number, wrong := protocolNumber(c.protocol)
	if wrong != nil {
		wrong.Key = "--protocol"
		return wrong
	}
	f.Protocol = &number
	return nil
}

func (c *choice) readStates(f *conntrack.Filter) error {
	for _, name := range c.states {
		var s conntrack.State
		if err := s.UnmarshalText([]byte(name)); err != nil {
			return fmt.Errorf("--state: %q is no state; there are %s", name, stateNames())
		}
		f.States = append(f.States, s)
	}
	return nil
}

func (c *choice) readNetworks(f *conntrack.Filter) error {
	for _, text := range c.networks {
		var p netip.Prefix
		if wrong := readPrefix(text, &p); wrong != nil {
			wrong.Key = "--address"
			return wrong
		}
		f.Networks = append(f.Networks, p)
	}
	for _, end := range []struct {
		flag, text string
		to         *netip.Prefix
	}{{"--src", c.src, &f.Src}, {"--dst", c.dst, &f.Dst}} {
		if end.text == "" {
			continue
		}
		if wrong := readPrefix(end.text, end.to); wrong != nil {
			wrong.Key = end.flag
			return wrong
		}
	}
	return nil
}

func (c *choice) readPorts(f *conntrack.Filter) error {
	for _, p := range c.ports {
		if p == 0 || p > 65535 {
			return fmt.Errorf("--port: %d; want 1 to 65535", p)
		}
		f.Ports = append(f.Ports, uint16(p))
	}
	return nil
}

func (c *choice) readFlows(f *conntrack.Filter) error {
	for _, text := range c.ids {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil || id == 0 {
			return fmt.Errorf("--flow: %q; want a number above 0, as in records", text)
		}
		f.Flows = append(f.Flows, id)
	}
	return nil
}

// naming is the arguments and flags of `weir ct` that name one connection.
type naming struct {
	zone     uint16
	icmpID   uint16
	icmpType string
	cites    string
}

const namingUsage = "PROTOCOL SOURCE DESTINATION"

const namingHelp = `Ends are written like 10.0.0.1:443 or [2001:db8::1]:443, without a port where the protocol has
none; which of them comes first does not matter. ICMP queries are named by the type of the request and
the identifier too, ICMP errors by the protocol that they are about and the ends of that connection.`

func (n *naming) on(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint16Var(&n.zone, "zone", 0, "the zone")
	f.Uint16Var(&n.icmpID, "icmp-id", 0, "the identifier of an ICMP query")
	f.StringVar(&n.icmpType, "icmp-type", "", "the type of an ICMP request, and the code after a slash; default: echo")
	f.StringVar(&n.cites, "cites", "", "the protocol that an ICMP error is about")
}

// tuple is the connection that is named.
func (n *naming) tuple(args []string) (conntrack.Tuple, error) {
	t := conntrack.Tuple{Zone: n.zone, ICMPID: n.icmpID}
	var wrong *RuleError
	if t.Protocol, wrong = protocolNumber(args[0]); wrong != nil {
		wrong.Key = "PROTOCOL"
		return t, wrong
	}
	if n.cites != "" {
		if t.Cites, wrong = protocolNumber(n.cites); wrong != nil {
			wrong.Key = "--cites"
			return t, wrong
		}
	}
	var err error
	if t.Src, t.SrcPort, err = parseEnd(args[1]); err != nil {
		return t, fmt.Errorf("SOURCE: %w", err)
	}
	if t.Dst, t.DstPort, err = parseEnd(args[2]); err != nil {
		return t, fmt.Errorf("DESTINATION: %w", err)
	}
	if err := n.icmp(&t); err != nil {
		return t, err
	}
	return t, t.Check()
}

// Types of echo requests (RFC 792, RFC 4443).
const (
	echoRequest   = 8
	echoRequestV6 = 128
)

func (n *naming) icmp(t *conntrack.Tuple) error {
	key := t.Key()
	if !key.IsICMP() {
		if n.icmpType != "" || n.icmpID != 0 {
			return errors.New("--icmp-type, --icmp-id: only connections of ICMP have them")
		}
		return nil
	}
	t.ICMPType = echoRequest
	if !t.Src.Is4() {
		t.ICMPType = echoRequestV6
	}
	if n.icmpType == "" {
		return nil
	}
	kind, code, _ := strings.Cut(n.icmpType+"/0", "/")
	code, _, _ = strings.Cut(code, "/")
	k, err := strconv.ParseUint(kind, 10, 8)
	c, err2 := strconv.ParseUint(code, 10, 8)
	if err != nil || err2 != nil {
		return fmt.Errorf("--icmp-type: %q; want TYPE or TYPE/CODE, each from 0 to 255", n.icmpType)
	}
	t.ICMPType, t.ICMPCode = uint8(k), uint8(c)
	return nil
}

func parseEnd(s string) (netip.Addr, uint16, error) {
	if end, err := netip.ParseAddrPort(s); err == nil {
		return end.Addr(), end.Port(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return addr, 0, fmt.Errorf("%q; want an address, or with a port 10.0.0.1:443 or [2001:db8::1]:443", s)
	}
	return addr, 0, nil
}
