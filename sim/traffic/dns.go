package traffic

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	dnsTypes = map[string]uint64{"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15,
		"TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65, "ANY": 255}
	rcodes = map[string]uint64{"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3,
		"NOTIMP": 4, "REFUSED": 5}
)

// dns is a DNS message with one question, behind its length when it is in a TCP segment.
type dns struct {
	opaque
	layers.DNS
	stream bool
}

// maxName is the longest name as text: 255 bytes on the wire (RFC 1035, section 3.1).
const maxName = 253

// dnsName reads a name that can be sent: labels of 1 to 63 bytes. A dot at the end is left out.
func dnsName(x any) (any, error) {
	s, _ := x.(string)
	name := strings.TrimSuffix(s, ".")
	if s == "" || len(name) > maxName {
		return nil, fmt.Errorf("%v is no name of 1 to %d bytes", x, maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if name != "" && (label == "" || len(label) > 63) {
			return nil, fmt.Errorf("%q has the label %q, which does not have 1 to 63 bytes", s, label)
		}
	}
	return name, nil
}

// newDNS makes a query for the address of example.com, unless the fields say other.
func newDNS(v values, stream bool) *dns {
	kind := layers.DNSType(number(v, "type", uint16(layers.DNSTypeA)))
	name := []byte(get(v, "name", "example.com"))
	response := get(v, "response", false)
	h := &dns{stream: stream, DNS: layers.DNS{ID: number(v, "id", uint16(1)), QR: response,
		OpCode: layers.DNSOpCode(number(v, "opcode", uint8(0))), TC: get(v, "truncated", false), RD: true,
		RA: response, ResponseCode: layers.DNSResponseCode(number(v, "rcode", uint8(0))),
		Questions: []layers.DNSQuestion{{Name: name, Type: kind, Class: layers.DNSClassIN}}}}
	for i := range number(v, "answers", 0) {
		h.Answers = append(h.Answers, answer(name, byte(i+1), kind == layers.DNSTypeAAAA))
	}
	return h
}

// answer is an address of the block for documentation (RFC 5737, RFC 3849).
func answer(name []byte, n byte, v6 bool) layers.DNSResourceRecord {
	r := layers.DNSResourceRecord{Name: name, Type: layers.DNSTypeA, Class: layers.DNSClassIN,
		TTL: 300, IP: net.IPv4(192, 0, 2, n).To4()}
	if v6 {
		r.Type, r.IP = layers.DNSTypeAAAA, net.ParseIP("2001:db8::")
		r.IP[15] = n
	}
	return r
}

func (h *dns) prepend(b gopacket.SerializeBuffer, _ place) error {
	behind := len(b.Bytes())
	if err := h.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	if !h.stream {
		return nil
	}
	return prependBytes(b, binary.BigEndian.AppendUint16(nil, uint16(len(b.Bytes())-behind)))
}
