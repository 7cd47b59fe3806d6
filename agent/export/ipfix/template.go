package ipfix

import "encoding/binary"

// Identifiers of sets (RFC 7011, section 3.3.2), and the first one of templates (section 3.4.1).
const (
	templateSet        = 2
	optionsTemplateSet = 3
	firstTemplate      = 256
)

const setHeader = 4

// reverseEnterprise is the number under which elements are of a biflow's other direction (RFC 5103,
// section 6.1), and enterpriseBit says that an element has such a number.
const (
	reverseEnterprise = 29305
	enterpriseBit     = 0x8000
)

// variable is the length of fields that tell their own (RFC 7011, section 7).
const variable = 0xffff

// shape says which fields a data record has. Each shape has a template.
type shape uint16

const (
	shapeV6     shape = 1 << iota // addresses are of IPv6
	shapeNAT                      // with what a translation makes of them
	shapeBiflow                   // with the other direction
	shapes                        // so many there are
)

// template is the identifier of the shape's template.
func (s shape) template() uint16 { return firstTemplate + uint16(s) }

// Options templates: they describe templates, and what was exported.
const (
	flowKeysTemplate = firstTemplate + uint16(shapes) + iota
	exportTemplate
)

// field is an information element of a template. Numbers and types are of IANA's registry "IP Flow
// Information Export (IPFIX) Entities".
type field struct {
	element uint16
	length  uint16 // bytes, or variable
	key     bool   // it tells flows apart
	reverse bool   // it is of the other direction of a biflow
}

// fields are those of a shape's records, in the order of appendTuple and
// appendEachWay.
func (s shape) fields() []field {
	address := []field{
		{element: 8, length: 4, key: true},  // sourceIPv4Address
		{element: 12, length: 4, key: true}, // destinationIPv4Address
		{element: 32, length: 2, key: true}, // icmpTypeCodeIPv4
	}
	translated := []field{
		{element: 225, length: 4}, // postNATSourceIPv4Address
		{element: 226, length: 4}, // postNATDestinationIPv4Address
	}
	if s&shapeV6 != 0 {
		address = []field{
			{element: 27, length: 16, key: true}, // sourceIPv6Address
			{element: 28, length: 16, key: true}, // destinationIPv6Address
			{element: 139, length: 2, key: true}, // icmpTypeCodeIPv6
		}
		translated = []field{
			{element: 281, length: 16}, // postNATSourceIPv6Address
			{element: 282, length: 16}, // postNATDestinationIPv6Address
		}
	}
	all := append(address, []field{
		{element: 7, length: 2, key: true},  // sourceTransportPort
		{element: 11, length: 2, key: true}, // destinationTransportPort
		{element: 4, length: 1, key: true},  // protocolIdentifier
		{element: 148, length: 8},           // flowId
		{element: 396, length: 4},           // samplingFlowInterval
		{element: 397, length: 4},           // samplingFlowSpacing
	}...)
	if s&shapeNAT != 0 {
		all = append(append(all, translated...), []field{
			{element: 227, length: 2}, // postNAPTSourceTransportPort
			{element: 228, length: 2}, // postNAPTDestinationTransportPort
		}...)
	}
	if s&shapeBiflow != 0 {
		// Before the source's own: a collector that takes both for the same keeps the latter.
		all = append(all, field{element: 239, length: 1}) // biflowDirection
		for _, f := range eachWay {
			f.reverse = true
			all = append(all, f)
		}
	}
	return append(all, eachWay...)
}

// eachWay are the fields of one direction, in the order of appendEachWay.
var eachWay = []field{
	{element: 152, length: 8},       // flowStartMilliseconds
	{element: 153, length: 8},       // flowEndMilliseconds
	{element: 156, length: 8},       // flowStartNanoseconds
	{element: 157, length: 8},       // flowEndNanoseconds
	{element: 2, length: 8},         // packetDeltaCount
	{element: 1, length: 8},         // octetDeltaCount
	{element: 352, length: 8},       // layer2OctetDeltaCount
	{element: 6, length: 2},         // tcpControlBits
	{element: 136, length: 1},       // flowEndReason
	{element: 61, length: 1},        // flowDirection
	{element: 82, length: variable}, // interfaceName
}

// announcement is what a collector is told before it can read data records: sets of the templates,
// and of which of their fields are the flows' keys (RFC 7011, section 4.4).
func announcement() []byte {
	var b []byte
	for s := range shapes {
		b = appendTemplate(b, templateSet, s.template(), 0, s.fields())
	}
	b = appendTemplate(b, optionsTemplateSet, flowKeysTemplate, 1, []field{
		{element: 145, length: 2}, // templateId
		{element: 173, length: 8}, // flowKeyIndicator
	})
	b = appendTemplate(b, optionsTemplateSet, exportTemplate, 1, []field{
		{element: 149, length: 4}, // observationDomainId
		{element: 41, length: 8},  // exportedMessageTotalCount
		{element: 42, length: 8},  // exportedFlowRecordTotalCount
		{element: 40, length: 8},  // exportedOctetTotalCount
	})
	for s := range shapes {
		var keys uint64
		for i, f := range s.fields() {
			if f.key {
				keys |= 1 << i
			}
		}
		var at int
		b, at = beginSet(b, flowKeysTemplate)
		b = binary.BigEndian.AppendUint16(b, s.template())
		b = binary.BigEndian.AppendUint64(b, keys)
		endSet(b, at)
	}
	return b
}

// appendTemplate appends a set of one template; scopes is how many of its fields say what an options
// record is about.
func appendTemplate(b []byte, set, id uint16, scopes int, fields []field) []byte {
	b, at := beginSet(b, set)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(len(fields)))
	if scopes > 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(scopes))
	}
	for _, f := range fields {
		element := f.element
		if f.reverse {
			element |= enterpriseBit
		}
		b = binary.BigEndian.AppendUint16(b, element)
		b = binary.BigEndian.AppendUint16(b, f.length)
		if f.reverse {
			b = binary.BigEndian.AppendUint32(b, reverseEnterprise)
		}
	}
	endSet(b, at)
	return b
}

// beginSet begins a set; endSet is given where.
func beginSet(b []byte, id uint16) (_ []byte, at int) {
	at = len(b)
	b = binary.BigEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint16(b, 0), at
}

// endSet writes the length of the set that b ends with.
func endSet(b []byte, at int) {
	binary.BigEndian.PutUint16(b[at+2:], uint16(len(b)-at))
}
