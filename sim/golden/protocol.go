package golden

import (
	"fmt"
	"strconv"
	"strings"
)

// The protocols that are more than a name here.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

var protocolNames = map[uint8]string{
	protoICMP: "icmp", 2: "igmp", 4: "ipip", protoTCP: "tcp", protoUDP: "udp", 41: "ipv6",
	47: "gre", 50: "esp", 51: "ah", protoICMPv6: "icmpv6", 59: "no-next-header", 89: "ospf",
	103: "pim", 112: "vrrp", 115: "l2tp", 132: "sctp", 136: "udplite",
}

var protocolNumbers = invert(protocolNames)

func invert(m map[uint8]string) map[string]uint8 {
	inverse := make(map[string]uint8, len(m))
	for k, v := range m {
		inverse[v] = k
	}
	return inverse
}

// Protocol returns the name of an IANA protocol number, or the number itself in decimal.
func Protocol(number uint8) string {
	if name, ok := protocolNames[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}

// parseProtocol is the inverse of Protocol; it refuses numbers that have a name.
func parseProtocol(s string) (uint8, error) {
	if n, ok := protocolNumbers[s]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || Protocol(uint8(n)) != s {
		return 0, fmt.Errorf("%q is no protocol", s)
	}
	return uint8(n), nil
}

// hasPorts tells whether a tuple has ports: of its protocol, or of the one that it cites.
func hasPorts(protocol, cites string) bool {
	if cites != "" {
		protocol = cites
	}
	return protocol == "tcp" || protocol == "udp" || protocol == "sctp"
}

// The requests of ICMP and ICMPv6 queries.
var (
	icmpQueries = map[uint8]string{8: "echo-request", 13: "timestamp-request",
		15: "information-request", 17: "address-mask-request"}
	icmpv6Queries = map[uint8]string{128: "echo-request"}
)

// queries returns the query types of a protocol, nil if it is not a kind of ICMP.
func queries(protocol uint8) map[uint8]string {
	switch protocol {
	case protoICMP:
		return icmpQueries
	case protoICMPv6:
		return icmpv6Queries
	}
	return nil
}

// icmpForm is the ICMP part of a tuple: "echo-request id=1" for queries and "type/code" for the
// rest, "" if the tuple has none.
func icmpForm(protocol, cites, typ, code uint8, id uint16) string {
	if cites != 0 {
		protocol = cites
	}
	known := queries(protocol)
	if known == nil {
		return ""
	}
	if name, ok := known[typ]; ok && code == 0 {
		return fmt.Sprintf("%s id=%d", name, id)
	}
	if id != 0 { // no rule makes such a tuple; it must not look like another one
		return fmt.Sprintf("%d/%d id=%d", typ, code, id)
	}
	return fmt.Sprintf("%d/%d", typ, code)
}

// checkICMP tells what is wrong with the ICMP part of a tuple in a file.
func checkICMP(proto, cites, s string) error {
	if cites != "" {
		proto = cites
	}
	number, err := parseProtocol(proto)
	if err != nil {
		return err
	}
	known := queries(number)
	switch {
	case known == nil && s != "":
		return fmt.Errorf("icmp does not go with protocol %s", proto)
	case known != nil && s == "":
		return fmt.Errorf("protocol %s needs icmp", proto)
	case known == nil:
		return nil
	}
	kind, id, isQuery := strings.Cut(s, " id=")
	if isQuery {
		if n, err := strconv.ParseUint(id, 10, 16); err != nil || strconv.Itoa(int(n)) != id {
			return fmt.Errorf("icmp %q has no identifier from 0 to 65535", s)
		}
		for _, name := range known {
			if name == kind {
				return nil
			}
		}
	}
	return checkTypeCode(kind)
}

// checkTypeCode tells whether s is "type/code".
func checkTypeCode(s string) error {
	typ, code, _ := strings.Cut(s, "/")
	for _, part := range []string{typ, code} {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || strconv.Itoa(int(n)) != part {
			return fmt.Errorf("%q is no ICMP type/code", s)
		}
	}
	return nil
}
