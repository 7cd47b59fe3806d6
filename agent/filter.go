package agent

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// Filters say which packets are counted: the first rule that matches a packet decides, and the
// default where none does. What a rule compares is told in bpf/README.md section 3.
type Filters struct {
	// Default is "accept", also when it is empty, or "reject".
	Default string `yaml:"default,omitempty"`
	// Rules are gone through in this order.
	Rules []FilterRule `yaml:"rules,omitempty"`
}

// FilterRule is one rule, as the file has it. It matches a packet that has all that it names.
type FilterRule struct {
	Action string `yaml:"action"` // accept or reject
	// Family is 4 or 6; a prefix says it, too.
	Family uint8 `yaml:"family,omitempty"`
	// Protocol is tcp, udp, icmp, icmpv6, sctp, or IANA's number.
	Protocol string `yaml:"protocol,omitempty"`
	// Src and Dst are prefixes; an address alone is one host.
	Src string `yaml:"src,omitempty"`
	Dst string `yaml:"dst,omitempty"`
	// SrcPort and DstPort are ports like "53" or ranges like "8000-9000", both ends included.
	SrcPort string `yaml:"src_port,omitempty"`
	DstPort string `yaml:"dst_port,omitempty"`
	// TCPFlags is "match/mask": of the flags in the mask, exactly those of the match are set.
	// "SYN/SYN|ACK" is a SYN without ACK, "none/SYN|ACK" neither.
	TCPFlags string `yaml:"tcp_flags,omitempty"`
	// ICMP is a type like "3", or a type and a code like "3/1", of ICMP or ICMPv6.
	ICMP string `yaml:"icmp,omitempty"`
	// Either lets the rule match with source and destination exchanged as well.
	Either bool `yaml:"either,omitempty"`
}

// RuleError is what is wrong with one key of a rule.
type RuleError struct {
	Key  string // of the rule, as the file has it
	Msg  string // what is wrong
	Hint string // what would be right, or ""
}

// Error is "key: what is wrong; what would be right".
func (e *RuleError) Error() string {
	if e.Hint == "" {
		return e.Key + ": " + e.Msg
	}
	return e.Key + ": " + e.Msg + "; " + e.Hint
}

// IANA's numbers of the protocols that rules know more of than the number.
const (
	icmp4 = 1
	tcp   = 6
	udp   = 17
	icmp6 = 58
	sctp  = 132
)

// filterProtocols are the protocols that rules call by name.
var filterProtocols = map[string]uint8{
	"icmp": icmp4, "tcp": tcp, "udp": udp, "icmpv6": icmp6, "sctp": sctp,
}

const wantAction = "want accept or reject"

// Compile makes the filters what the datapath takes. Errors begin with the path below filters.
func (f *Filters) Compile() (bpf.Filter, error) {
	out := bpf.Filter{Reject: f.Default == "reject"}
	if f.Default != "" && f.Default != "accept" && f.Default != "reject" {
		return out, fmt.Errorf("default: %q; %s", f.Default, wantAction)
	}
	if len(f.Rules) > bpf.MaxRules {
		return out, fmt.Errorf("rules: %d of them; at most %d are taken", len(f.Rules), bpf.MaxRules)
	}
	for i := range f.Rules {
		rule, err := f.Rules[i].Compile()
		if err != nil {
			return out, fmt.Errorf("rules[%d].%w", i, err)
		}
		out.Rules = append(out.Rules, rule)
	}
	return out, nil
}

// Compile makes the rule what the datapath takes. What no packet could match is an error. Errors
// are of type *RuleError.
func (r *FilterRule) Compile() (bpf.Rule, error) {
	out := bpf.Rule{Family: r.Family, Either: r.Either}
	for _, f := range []struct {
		key, text string
		read      func(string, *bpf.Rule) *RuleError
	}{
		{"action", r.Action, readAction},
		{"protocol", r.Protocol, readProtocol},
		{"src", r.Src, func(s string, out *bpf.Rule) *RuleError { return readPrefix(s, &out.Src) }},
		{"dst", r.Dst, func(s string, out *bpf.Rule) *RuleError { return readPrefix(s, &out.Dst) }},
		{"src_port", r.SrcPort,
			func(s string, out *bpf.Rule) *RuleError { return readPorts(s, &out.SrcPort) }},
		{"dst_port", r.DstPort,
			func(s string, out *bpf.Rule) *RuleError { return readPorts(s, &out.DstPort) }},
		{"tcp_flags", r.TCPFlags, readFlags},
		{"icmp", r.ICMP, readICMP},
	} {
		if f.text == "" && f.key != "action" {
			continue
		}
		if err := f.read(f.text, &out); err != nil {
			err.Key = f.key
			return out, err
		}
	}
	if err := r.contradiction(&out); err != nil {
		return out, err
	}
	return out, nil
}

// wrong is a mistake in a key that the caller fills in.
func wrong(hint, format string, args ...any) *RuleError {
	return &RuleError{Msg: fmt.Sprintf(format, args...), Hint: hint}
}

func readAction(s string, out *bpf.Rule) *RuleError {
	if s == "" {
		return wrong(wantAction, "is missing")
	}
	if s != "accept" && s != "reject" {
		return wrong(wantAction, "%q", s)
	}
	out.Reject = s == "reject"
	return nil
}

func readProtocol(s string, out *bpf.Rule) *RuleError {
	number, err := protocolNumber(s)
	if err == nil {
		out.Protocol = uint16(number) + 1
	}
	return err
}

// protocolNumber reads a protocol's name or number.
func protocolNumber(s string) (uint8, *RuleError) {
	if number, known := filterProtocols[s]; known {
		return number, nil
	}
	v, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, wrong("want tcp, udp, icmp, icmpv6, sctp, or a number from 0 to 255", "%q is no protocol", s)
	}
	return uint8(v), nil
}

// readPrefix reads a prefix, or an address that stands for itself alone.
func readPrefix(s string, to *netip.Prefix) *RuleError {
	const want = "want a prefix like 10.0.0.0/8 or 2001:db8::/32, or an address"
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		*to = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return wrong(want, "%q is no prefix", s)
	}
	if p.Masked() != p {
		return wrong("the prefix is "+p.Masked().String(), "%q has bits behind its length", s)
	}
	*to = p
	return nil
}

// readPorts reads a port or a range.
func readPorts(s string, to *bpf.PortRange) *RuleError {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	from, err := strconv.ParseUint(low, 10, 16)
	last, err2 := strconv.ParseUint(high, 10, 16)
	if err != nil || err2 != nil || from == 0 || from > last {
		return wrong("want a port from 1 to 65535, or a range like 8000-9000", "%q are no ports", s)
	}
	*to = bpf.PortRange{From: uint16(from), To: uint16(last)}
	return nil
}

func readFlags(s string, out *bpf.Rule) *RuleError {
	const want = "want match/mask, like SYN/SYN|ACK for a SYN without ACK"
	left, right, ok := strings.Cut(s, "/")
	if !ok {
		return wrong(want, "%q has no mask", s)
	}
	match, err := flow.TCPFlags(0), error(nil)
	if left != "none" {
		match, err = flow.ParseTCPFlags(left)
	}
	if err == nil && match == 0 && left != "none" {
		return wrong(want, "%q has no match", s)
	}
	if err != nil {
		return wrong(want, "%v", err)
	}
	mask, err := flow.ParseTCPFlags(right)
	if err != nil {
		return wrong(want, "%v", err)
	}
	if mask == 0 {
		return wrong(want, "%q looks at no flag", s)
	}
	if beyond := match &^ mask; beyond != 0 {
		return wrong("the mask names every flag that is looked at", "%s is not in the mask", beyond)
	}
	out.FlagsMatch, out.FlagsMask = uint8(match), uint8(mask)
	return nil
}

func readICMP(s string, out *bpf.Rule) *RuleError {
	kind, code, hasCode := strings.Cut(s, "/")
	v, err := strconv.ParseUint(kind, 10, 8)
	out.ICMPType = uint16(v) + 1
	if hasCode && err == nil {
		v, err = strconv.ParseUint(code, 10, 8)
		out.ICMPCode = uint16(v) + 1
	}
	if err != nil {
		return wrong("want a type like 3, or a type and a code like 3/1, each from 0 to 255",
			"%q is no type or type/code", s)
	}
	return nil
}

// contradiction finds what keeps every packet from matching.
func (r *FilterRule) contradiction(out *bpf.Rule) *RuleError {
	if err := r.families(out); err != nil {
		return err
	}
	port := "src_port"
	if r.SrcPort == "" {
		port = "dst_port"
	}
	ports := r.SrcPort != "" || r.DstPort != ""
	given := out.Protocol != 0
	is := func(protocols ...uint16) bool {
		for _, p := range protocols {
			if out.Protocol == p+1 {
				return true
			}
		}
		return false
	}
	switch {
	case ports && given && !is(tcp, udp, sctp):
		return &RuleError{port, "protocol " + r.Protocol + " has no ports", "tcp, udp and sctp have"}
	case r.TCPFlags != "" && given && !is(tcp, sctp):
		return &RuleError{"tcp_flags", "protocol " + r.Protocol + " has no flags", "tcp and sctp have"}
	case r.ICMP != "" && given && !is(icmp4, icmp6):
		return &RuleError{"icmp", "protocol " + r.Protocol + " has no ICMP type", "icmp and icmpv6 have"}
	case r.ICMP != "" && (ports || r.TCPFlags != ""):
		return &RuleError{"icmp", "no packet has an ICMP type and ports or TCP flags", "split the rule"}
	}
	return nil
}

// families checks that all that tells the family tells the same.
func (r *FilterRule) families(out *bpf.Rule) *RuleError {
	if r.Family != 0 && r.Family != 4 && r.Family != 6 {
		return &RuleError{"family", strconv.Itoa(int(r.Family)), "want 4 or 6"}
	}
	family, from := r.Family, "family"
	for _, p := range []struct {
		key    string
		prefix netip.Prefix
	}{{"src", out.Src}, {"dst", out.Dst}} {
		of := familyOf(p.prefix)
		if of == 0 {
			continue
		}
		if family != 0 && of != family {
			return &RuleError{p.key, fmt.Sprintf("%s is IPv%d, but %s says IPv%d", p.prefix, of, from,
				family), "a rule is of one family"}
		}
		family, from = of, p.key
	}
	icmp := map[uint16]uint8{icmp4 + 1: 4, icmp6 + 1: 6}[out.Protocol]
	if r.ICMP != "" && icmp != 0 && family != 0 && icmp != family {
		return &RuleError{"icmp", fmt.Sprintf("IPv%d has no types of %s", family, r.Protocol),
			"icmp goes with IPv4 and icmpv6 with IPv6"}
	}
	return nil
}

// familyOf is 4 or 6, or 0 where there is no prefix.
func familyOf(p netip.Prefix) uint8 {
	switch {
	case !p.IsValid():
		return 0
	case p.Addr().Is4():
		return 4
	}
	return 6
}
