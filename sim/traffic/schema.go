package traffic

import (
	"fmt"
	"sort"

	"github.com/weirnet/weir/sim/spec"
)

var (
	etherTypes = map[string]uint64{"ipv4": 0x0800, "arp": 0x0806, "ethernet": etherTypeBridged,
		"vlan": 0x8100, "ipv6": 0x86dd, "qinq": 0x88a8, "lldp": 0x88cc, "mpls": 0x8847}
	protocols = map[string]uint64{"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17,
		"ipv6": 41, "gre": 47, "esp": 50, "icmpv6": 58, "none": 59, "ospf": 89, "sctp": 132}
	extensions = map[string]uint64{"hop-by-hop": 0, "routing": 43, "fragment": 44,
		"authentication": 51, "destination": 60, "mobility": 135, "hip": 139, "shim6": 140}
	icmpTypes = map[string]uint64{"echo-reply": 0, "unreachable": 3, "source-quench": 4,
		"redirect": 5, "echo-request": 8, "time-exceeded": 11, "parameter-problem": 12,
		"timestamp": 13, "timestamp-reply": 14}
	icmpv6Types = map[string]uint64{"unreachable": 1, "too-big": 2, "time-exceeded": 3,
		"parameter-problem": 4, "echo-request": 128, "echo-reply": 129,
		"router-solicitation": 133, "router-advertisement": 134,
		"neighbor-solicitation": 135, "neighbor-advertisement": 136}
	chunkTypes = map[string]uint64{"data": chunkData, "init": chunkInit, "init-ack": chunkInitAck,
		"sack": chunkSack, "heartbeat": 4, "heartbeat-ack": 5, "abort": 6,
		"shutdown": chunkShutdown, "shutdown-ack": 8, "error": 9, "cookie-echo": chunkCookieEcho,
		"cookie-ack": 11, "shutdown-complete": 14}
	arpOperations = map[string]uint64{"request": 1, "reply": 2}
)

func u(n int) convert { return bits(n, nil) }

// schema lists the fields of every layer kind. Every kind has "truncate" as well: the frame
// ends that many bytes behind the layer's begin, with all lengths as if it did not.
var schema = map[string]map[string]convert{
	"ethernet": {"src": hardware, "dst": hardware, "type": bits(16, etherTypes),
		"interface": text},
	"vlan": {"id": u(12), "priority": u(3), "dei": boolean, "tpid": bits(16, etherTypes),
		"type": bits(16, etherTypes)},
	"arp": {"operation": bits(16, arpOperations), "sender_mac": hardware,
		"sender_ip": address(false), "target_mac": hardware, "target_ip": address(false)},
	"ipv4": {"version": u(4), "ihl": u(4), "tos": u(8), "length": u(16), "id": u(16),
		"flags": ipFlags, "fragment_offset": u(13), "ttl": u(8),
		"protocol": bits(8, protocols), "checksum": u(16), "src": address(false),
		"dst": address(false), "options": hexBytes},
	"ipv6": {"version": u(4), "traffic_class": u(8), "flow_label": u(20), "length": u(16),
		"next_header": bits(8, protocols), "hop_limit": u(8), "src": address(true),
		"dst": address(true)},
	"ipv6ext": {"type": bits(8, extensions), "next_header": bits(8, protocols), "length": u(8),
		"data": hexBytes, "fragment_offset": u(13), "more": boolean, "id": u(32)},
	"tcp": {"src": u(16), "dst": u(16), "seq": u(32), "ack": u(32), "data_offset": u(4),
		"flags": tcpFlags, "window": u(16), "checksum": u(16), "urgent": u(16),
		"options": hexBytes},
	"udp":  {"src": u(16), "dst": u(16), "length": u(16), "checksum": u(16)},
	"sctp": {"src": u(16), "dst": u(16), "tag": u(32), "checksum": u(32)},
	"chunk": {"type": bits(8, chunkTypes), "flags": u(8), "length": u(16), "tag": u(32),
		"data": hexBytes},
	"gre": {"checksum": boolean, "key": u(32), "seq": u(32), "flags": u(16),
		"protocol": bits(16, etherTypes)},
	"vxlan": {"vni": u(24), "flags": u(8)},
	"geneve": {"vni": u(24), "version": u(2), "length": u(6), "options": hexBytes,
		"protocol": bits(16, etherTypes)},
	"dns": {"id": u(16), "response": boolean, "opcode": u(4), "truncated": boolean,
		"rcode": bits(4, rcodes), "name": dnsName, "type": bits(16, dnsTypes), "answers": u(8)},
	"icmp":   icmpFields(icmpTypes),
	"icmpv6": icmpFields(icmpv6Types),
	"payload": {"length": func(x any) (any, error) {
		v, err := bits(32, nil)(x)
		if err == nil && v.(uint64) > maxBytes {
			return nil, fmt.Errorf("%v bytes are more than a frame can hold", v)
		}
		return v, err
	}},
	"raw": {"hex": hexBytes},
}

func icmpFields(types map[string]uint64) map[string]convert {
	return map[string]convert{"type": bits(8, types), "code": u(8), "checksum": u(16),
		"id": u(16), "seq": u(16), "mtu": u(32), "rest": u(32)}
}

// LayerKinds lists the kinds of layers that a packet may have, sorted.
func LayerKinds() []string { return sortedKeys(schema) }

// LayerFields lists the fields that layers of the kind may have, sorted; nil for unknown kinds.
func LayerFields(kind string) []string {
	fields, ok := schema[kind]
	if !ok {
		return nil
	}
	names := append(sortedKeys(fields), "truncate")
	sort.Strings(names)
	return names
}

// parseLayer reads a layer's fields.
func parseLayer(l spec.Layer) (values, error) {
	fields, ok := schema[l.Kind]
	if !ok {
		return nil, atLine(l.Line, fmt.Errorf("unknown layer %q%s", l.Kind,
			suggest(l.Kind, LayerKinds())))
	}
	v := values{}
	for _, name := range sortedKeys(l.Fields) {
		conv := fields[name]
		if name == "truncate" {
			conv = u(16)
		}
		if conv == nil {
			return nil, atLine(l.Line, fmt.Errorf("unknown field %q of layer %s%s", name, l.Kind,
				suggest(name, LayerFields(l.Kind))))
		}
		x, err := conv(l.Fields[name])
		if err != nil {
			return nil, atLine(l.Line, fmt.Errorf("field %q of layer %s: %w", name, l.Kind, err))
		}
		v[name] = x
	}
	return v, nil
}
