package spec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/flow"
)

// The layers of packet steps. Fields keep the shape that the file gave them: uint64 for
// numbers, bool, and text for words, addresses, flags and hexadecimal digits.

// layerFields are the fields of a layer while it is read.
type layerFields map[string]any

// layerField is a field of a layer that keeps the type V of its value.
func layerField[V any](name, doc string, v value[V]) field[layerFields] {
	return put(name, doc, v, func(f *layerFields, x V) { (*f)[name] = x })
}

// bits is a number of so many bits; it can be given by one of the words, too.
func bits(n int, words ...string) value[any] {
	num := number[uint64](0, 1<<n-1)
	if len(words) == 0 {
		return anyValue(num)
	}
	word := choice(words...)
	return value[any]{
		schema: schema{"oneOf": []schema{num.schema, word.schema}},
		read: func(l *list, node *node) (any, bool) {
			if _, isNumber := wholeNumber(node); isNumber {
				return anyValue(num).read(l, node)
			}
			return anyValue(word).read(l, node)
		}}
}

func anyValue[V any](v value[V]) value[any] {
	return value[any]{schema: v.schema, read: func(l *list, n *node) (any, bool) {
		return v.read(l, n)
	}}
}

// checked is text that a function finds good or not.
func checked(what, example, pattern string, check func(string) error) value[string] {
	return match(what, example, pattern, func(s string) (string, error) { return s, check(s) })
}

var (
	etherTypes = []string{"ipv4", "arp", "ethernet", "vlan", "ipv6", "qinq", "lldp", "mpls"}
	protocols  = []string{"icmp", "igmp", "ipip", "tcp", "udp", "ipv6", "gre", "esp", "icmpv6",
		"none", "ospf", "sctp"}
	extensions = []string{"hop-by-hop", "routing", "fragment", "authentication", "destination",
		"mobility", "hip", "shim6"}
	icmpTypes = []string{"echo-reply", "unreachable", "source-quench", "redirect",
		"echo-request", "time-exceeded", "parameter-problem", "timestamp", "timestamp-reply"}
	icmpv6Types = []string{"unreachable", "too-big", "time-exceeded", "parameter-problem",
		"echo-request", "echo-reply", "router-solicitation", "router-advertisement",
		"neighbor-solicitation", "neighbor-advertisement"}
	chunkTypes = []string{"data", "init", "init-ack", "sack", "heartbeat", "heartbeat-ack",
		"abort", "shutdown", "shutdown-ack", "error", "cookie-echo", "cookie-ack",
		"shutdown-complete"}
	dnsTypes = []string{"A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "HTTPS", "ANY"}
	rcodes   = []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}
)

// dnsNameValue is a name that a DNS message can carry.
var dnsNameValue = checked("a domain name", "example.com", `^[!-~]{1,254}$`, func(s string) error {
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 {
		return errors.New("it is longer than 253 bytes")
	}
	for label := range strings.SplitSeq(name, ".") {
		if name != "" && (label == "" || len(label) > 63) {
			return fmt.Errorf("the label %q does not have 1 to 63 bytes", label)
		}
	}
	return nil
})

var macValue = checked("a MAC address", "02:00:00:00:00:07", `^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$`,
	func(s string) error { _, err := parseMAC(s); return err })

// hexValue takes digits in pairs; quoted, or YAML would take some of them for numbers.
var hexValue = checked("bytes in hexadecimal digits", `"0a 1b 2c"`, `^[0-9a-fA-F: ]*$`,
	func(s string) error {
		digits := strings.NewReplacer(" ", "", ":", "").Replace(s)
		if _, err := hex.DecodeString(digits); err != nil {
			return errors.New("a digit is missing")
		}
		return nil
	})

func addressValue(v6 bool) value[string] {
	what, example := "an IPv4 address", "192.0.2.1"
	if v6 {
		what, example = "an IPv6 address", "2001:db8::1"
	}
	return checked(what, example, `^`+addressPattern+`$`, func(s string) error {
		if a, err := netip.ParseAddr(s); err != nil || a.Is6() != v6 {
			return errors.New("it is not one")
		}
		return nil
	})
}

// flagsValue is a set of flags by name, or their number.
func flagsValue(width int, example string, check func(string) error) value[any] {
	num, words := number[uint64](0, 1<<width-1), checked("flags", example, `^[A-Za-z,|]+$`, check)
	return value[any]{
		schema: schema{"oneOf": []schema{num.schema, words.schema}},
		read: func(l *list, n *node) (any, bool) {
			if n.typed {
				return anyValue(num).read(l, n)
			}
			return anyValue(words).read(l, n)
		}}
}

var tcpFlagsValue = flagsValue(8, "PSH,ACK", func(s string) error {
	_, err := flow.ParseTCPFlags(s)
	return err
})

var ipFlagsValue = flagsValue(3, "DF", func(s string) error {
	for _, w := range strings.FieldsFunc(s, isFlagSeparator) {
		if !slices.Contains([]string{"DF", "MF", "evil"}, w) {
			return fmt.Errorf("%q is none of DF, MF, evil", w)
		}
	}
	return nil
})

const checksumDoc = "Checksum; derived when left out."

// layerKinds lists every kind of layer with its fields.
var layerKinds = map[string][]field[layerFields]{
	"ethernet": {
		layerField("src", "Source MAC address.", macValue),
		layerField("dst", "Destination MAC address.", macValue),
		layerField("type", "EtherType.", bits(16, etherTypes...)),
		layerField("interface", "The sender's interface that the frame leaves by.", nameValue),
	},
	"vlan": {
		layerField("id", "VLAN id.", bits(12)),
		layerField("priority", "Priority code point.", bits(3)),
		layerField("dei", "Drop eligible indicator.", boolean()),
		layerField("tpid", "EtherType of the tag itself.", bits(16, etherTypes...)),
		layerField("type", "EtherType of what follows.", bits(16, etherTypes...)),
	},
	"arp": {
		layerField("operation", "What is asked or answered.", bits(16, "request", "reply")),
		layerField("sender_mac", "Sender's MAC address.", macValue),
		layerField("sender_ip", "Sender's IPv4 address.", addressValue(false)),
		layerField("target_mac", "Target's MAC address.", macValue),
		layerField("target_ip", "Target's IPv4 address.", addressValue(false)),
	},
	"ipv4": {
		layerField("version", "Version.", bits(4)),
		layerField("ihl", "Header length in words of 4 bytes.", bits(4)),
		layerField("tos", "Type of service.", bits(8)),
		layerField("length", "Total length.", bits(16)),
		layerField("id", "Identification.", bits(16)),
		layerField("flags", "DF, MF, evil.", ipFlagsValue),
		layerField("fragment_offset", "Fragment offset in units of 8 bytes.", bits(13)),
		layerField("ttl", "Time to live.", bits(8)),
		layerField("protocol", "Protocol of what follows.", bits(8, protocols...)),
		layerField("checksum", checksumDoc, bits(16)),
		layerField("src", "Source address.", addressValue(false)),
		layerField("dst", "Destination address.", addressValue(false)),
		layerField("options", "Options.", hexValue),
	},
	"ipv6": {
		layerField("version", "Version.", bits(4)),
		layerField("traffic_class", "Traffic class.", bits(8)),
		layerField("flow_label", "Flow label.", bits(20)),
		layerField("length", "Payload length.", bits(16)),
		layerField("next_header", "Protocol of what follows.", bits(8, protocols...)),
		layerField("hop_limit", "Hop limit.", bits(8)),
		layerField("src", "Source address.", addressValue(true)),
		layerField("dst", "Destination address.", addressValue(true)),
	},
	"ipv6ext": {
		layerField("type", "Which extension header.", bits(8, extensions...)),
		layerField("next_header", "Protocol of what follows.", bits(8, protocols...)),
		layerField("length", "Length in the header's own units.", bits(8)),
		layerField("data", "What follows the first two bytes.", hexValue),
		layerField("fragment_offset", "Fragment offset in units of 8 bytes.", bits(13)),
		layerField("more", "More fragments follow.", boolean()),
		layerField("id", "Identification of a fragment.", bits(32)),
	},
	"tcp": {
		layerField("src", "Source port.", bits(16)),
		layerField("dst", "Destination port.", bits(16)),
		layerField("seq", "Sequence number.", bits(32)),
		layerField("ack", "Acknowledgement number.", bits(32)),
		layerField("data_offset", "Header length in words of 4 bytes.", bits(4)),
		layerField("flags", `Flags: "PSH,ACK", or their number.`, tcpFlagsValue),
		layerField("window", "Window.", bits(16)),
		layerField("checksum", checksumDoc, bits(16)),
		layerField("urgent", "Urgent pointer.", bits(16)),
		layerField("options", "Options.", hexValue),
	},
	"udp": {
		layerField("src", "Source port.", bits(16)),
		layerField("dst", "Destination port.", bits(16)),
		layerField("length", "Length of header and payload.", bits(16)),
		layerField("checksum", checksumDoc, bits(16)),
	},
	"sctp": {
		layerField("src", "Source port.", bits(16)),
		layerField("dst", "Destination port.", bits(16)),
		layerField("tag", "Verification tag.", bits(32)),
		layerField("checksum", checksumDoc, bits(32)),
	},
	"chunk": {
		layerField("type", "Which chunk of SCTP.", bits(8, chunkTypes...)),
		layerField("flags", "Flags.", bits(8)),
		layerField("length", "Length with header and payload.", bits(16)),
		layerField("tag", "Initiate tag of init and init-ack.", bits(32)),
		layerField("data", "What follows the first four bytes.", hexValue),
	},
	"gre": {
		layerField("checksum", "Whether there is a checksum.", boolean()),
		layerField("key", "Key; none when left out.", bits(32)),
		layerField("seq", "Sequence number; none when left out.", bits(32)),
		layerField("flags", "The first two bytes: flags and version.", bits(16)),
		layerField("protocol", "EtherType of what follows.", bits(16, etherTypes...)),
	},
	"vxlan": {
		layerField("vni", "Network identifier.", bits(24)),
		layerField("flags", "Flags.", bits(8)),
	},
	"geneve": {
		layerField("vni", "Network identifier.", bits(24)),
		layerField("version", "Version.", bits(2)),
		layerField("length", "Length of the options in words of 4 bytes.", bits(6)),
		layerField("options", "Options.", hexValue),
		layerField("protocol", "EtherType of what follows.", bits(16, etherTypes...)),
	},
	"dns": {
		layerField("id", "Identifier of query and response.", bits(16)),
		layerField("response", "Whether it is a response.", boolean()),
		layerField("opcode", "Kind of query.", bits(4)),
		layerField("truncated", "Whether the response says that it is truncated.", boolean()),
		layerField("rcode", "Response code.", bits(4, rcodes...)),
		layerField("name", "What is asked for; example.com when left out.", dnsNameValue),
		layerField("type", "Type that is asked for; A when left out.", bits(16, dnsTypes...)),
		layerField("answers", "Number of addresses in the answer.", bits(8)),
	},
	"icmp":    icmpFields(icmpTypes),
	"icmpv6":  icmpFields(icmpv6Types),
	"payload": {layerField("length", "Number of bytes.", number[uint64](0, maxPayload))},
	"raw":     {layerField("hex", "Bytes in hexadecimal digits.", hexValue)},
}

func icmpFields(types []string) []field[layerFields] {
	return []field[layerFields]{
		layerField("type", "Type.", bits(8, types...)),
		layerField("code", "Code.", bits(8)),
		layerField("checksum", checksumDoc, bits(16)),
		layerField("id", "Identifier.", bits(16)),
		layerField("seq", "Sequence number.", bits(16)),
		layerField("mtu", "MTU that a too-big message tells.", bits(32)),
		layerField("rest", "The second word of the header.", bits(32)),
	}
}

// truncateField is a field of every layer.
var truncateField = layerField("truncate",
	"The frame ends so many bytes behind the layer's begin.", bits(16))

// shortField is the field that a layer's short form sets: `payload: 100`, `raw: "dead"`,
// `chunk: abort`.
var shortField = map[string]string{"payload": "length", "raw": "hex", "chunk": "type"}

// layerObject is the mapping with a kind's fields.
func layerObject(kind string) object[layerFields] {
	fields := append(slices.Clone(layerKinds[kind]), truncateField)
	return object[layerFields]{what: "the layer " + kind, fields: fields}
}

// layerNames lists the kinds, sorted.
func layerNames() []string { return slices.Sorted(maps.Keys(layerKinds)) }

// bareLayers lists the kinds that say enough without a field.
func bareLayers() []string {
	return slices.DeleteFunc(layerNames(), func(k string) bool { return shortField[k] != "" })
}

// layerValue is a layer: `{ipv4: {ttl: 1}}`, `{payload: 100}`, or `udp` alone.
var layerValue = value[Layer]{schema: layerSchema(), read: readLayer}

func layerSchema() schema {
	properties := schema{}
	for _, kind := range layerNames() {
		s := layerObject(kind).schema()
		if short := shortField[kind]; short != "" {
			s = schema{"oneOf": []schema{layerKinds[kind][0].schema, s}}
		}
		properties[kind] = s
	}
	return schema{"oneOf": []schema{
		{"enum": bareLayers()},
		{"type": "object", "minProperties": 1, "maxProperties": 1, "properties": properties,
			"additionalProperties": false},
	}}
}

func readLayer(l *list, n *node) (Layer, bool) {
	out := Layer{Line: n.line, Fields: map[string]any{}}
	if n.kind == scalarKind && n.text != "" {
		kind, ok := choice(bareLayers()...).read(l, n)
		out.Kind = kind
		return out, ok
	}
	if n.kind != mapKind || len(n.pairs) != 1 {
		l.add(n, fmt.Sprintf("want one layer, got %s", n.what()), "write - ipv4: {ttl: 1}")
		return out, false
	}
	key, fields := n.pairs[0].key, n.pairs[0].value
	out.Kind = key.text
	if _, known := layerKinds[out.Kind]; !known {
		l.add(key, "unknown layer", suggest(out.Kind, layerNames()))
		return out, false
	}
	into := layerFields(out.Fields)
	before := len(l.errs)
	if shortField[out.Kind] != "" && fields.kind == scalarKind {
		layerKinds[out.Kind][0].read(l, fields, &into)
	} else {
		layerObject(out.Kind).read(l, fields, &into)
	}
	return out, len(l.errs) == before
}
