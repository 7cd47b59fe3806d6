package collector

import (
	"fmt"
	"strings"
)

// element is an information element of IANA's registry of IPFIX Entities, which NetFlow 9 shares
// up to number 127.
type element struct {
	name string
	form form
}

// elements are those that tell flows apart, and count them.
var elements = map[uint16]element{
	1: {"octetDeltaCount", number}, 2: {"packetDeltaCount", number},
	3: {"deltaFlowCount", number}, 4: {"protocolIdentifier", number},
	5: {"ipClassOfService", number}, 6: {"tcpControlBits", number},
	7: {"sourceTransportPort", number}, 8: {"sourceIPv4Address", address},
	9: {"sourceIPv4PrefixLength", number}, 10: {"ingressInterface", number},
	11: {"destinationTransportPort", number}, 12: {"destinationIPv4Address", address},
	13: {"destinationIPv4PrefixLength", number}, 14: {"egressInterface", number},
	21: {"flowEndSysUpTime", number}, 22: {"flowStartSysUpTime", number},
	23: {"postOctetDeltaCount", number}, 24: {"postPacketDeltaCount", number},
	27: {"sourceIPv6Address", address}, 28: {"destinationIPv6Address", address},
	31: {"flowLabelIPv6", number}, 32: {"icmpTypeCodeIPv4", number},
	52: {"minimumTTL", number}, 53: {"maximumTTL", number},
	56: {"sourceMacAddress", opaque}, 58: {"vlanId", number}, 59: {"postVlanId", number},
	60: {"ipVersion", number}, 61: {"flowDirection", number},
	70: {"mplsTopLabelStackSection", opaque}, 80: {"destinationMacAddress", opaque},
	82: {"interfaceName", text},
	85: {"octetTotalCount", number}, 86: {"packetTotalCount", number},
	136: {"flowEndReason", number}, 139: {"icmpTypeCodeIPv6", number},
	148: {"flowId", number}, 150: {"flowStartSeconds", number}, 151: {"flowEndSeconds", number},
	152: {"flowStartMilliseconds", number}, 153: {"flowEndMilliseconds", number},
	154: {"flowStartMicroseconds", number}, 155: {"flowEndMicroseconds", number},
	156: {"flowStartNanoseconds", number}, 157: {"flowEndNanoseconds", number},
	176: {"icmpTypeIPv4", number}, 177: {"icmpCodeIPv4", number},
	178: {"icmpTypeIPv6", number}, 179: {"icmpCodeIPv6", number},
	225: {"postNATSourceIPv4Address", address}, 226: {"postNATDestinationIPv4Address", address},
	227: {"postNAPTSourceTransportPort", number}, 228: {"postNAPTDestinationTransportPort", number},
	239: {"biflowDirection", number}, 243: {"dot1qVlanId", number}, 245: {"dot1qCustomerVlanId", number},
	281: {"postNATSourceIPv6Address", address}, 282: {"postNATDestinationIPv6Address", address},
	352: {"layer2OctetDeltaCount", number},
	396: {"samplingFlowInterval", number}, 397: {"samplingFlowSpacing", number},
}

// reverseEnterprise is the enterprise whose elements are those of the registry for the other direction
// of a biflow (RFC 5103, section 6.1).
const reverseEnterprise = 29305

// lookUp gives the element of a number, with the name that an unknown one has; enterprise is 0 for the
// registry's.
func lookUp(enterprise uint32, id uint16) element {
	known, ok := elements[id]
	switch {
	case enterprise == 0 && ok:
		return known
	case enterprise == reverseEnterprise && ok:
		return element{"reverse" + strings.ToUpper(known.name[:1]) + known.name[1:], known.form}
	case enterprise == 0:
		return element{name: fmt.Sprintf("element-%d", id)}
	}
	return element{name: fmt.Sprintf("element-%d-%d", enterprise, id)}
}
