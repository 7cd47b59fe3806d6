package model

import "encoding/binary"

// icmpClass sorts the types of ICMP and ICMPv6 by what their tuple is made of.
type icmpClass uint8

const (
	icmpOther   icmpClass = iota // type and code
	icmpRequest                  // identifier and the request's type
	icmpReply                    // the same, so that it meets its request
	icmpError                    // the tuple of the packet it cites
)

// classify returns a type's class, and for a query the type of its request.
func classify(protocol, typ uint8) (class icmpClass, request uint8) {
	if protocol == protoICMPv6 {
		switch typ {
		case 1, 2, 3, 4:
			return icmpError, 0
		case 128:
			return icmpRequest, typ
		case 129:
			return icmpReply, 128
		}
		return icmpOther, 0
	}
	switch typ {
	case 3, 4, 5, 11, 12:
		return icmpError, 0
	case 8, 13, 15, 17:
		return icmpRequest, typ
	case 0:
		return icmpReply, 8
	case 14, 16, 18:
		return icmpReply, typ - 1
	}
	return icmpOther, 0
}

// icmp reads a message of ICMP or ICMPv6.
func (p *packet) icmp(b []byte) Reason {
	if len(b) < 8 {
		return ReasonICMPHeader
	}
	p.message = typeCode{b[0], b[1], true}
	if class, _ := classify(p.protocol, b[0]); class == icmpError {
		return p.icmpErr(b)
	}
	p.icmpTuple(b)
	return ""
}

// icmpTuple reads what makes up the tuple of a message that is no error. It returns false if
// there are fewer than 8 bytes.
func (p *packet) icmpTuple(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	class, request := classify(p.protocol, b[0])
	if class != icmpRequest && class != icmpReply {
		p.icmpType, p.icmpCode = b[0], b[1]
		return true
	}
	p.icmpType, p.icmpID = request, binary.BigEndian.Uint16(b[4:])
	p.reply = class == icmpReply
	return true
}

// icmpErr reads an error: it takes the place of its cited packet's reply, from the cited
// destination to the cited source, whoever sent it.
func (p *packet) icmpErr(b []byte) Reason {
	cited, ok := readCited(b[8:], p.src.addr.Is4())
	if !ok {
		return ReasonICMPCited
	}
	p.isError, p.cited, p.cites = true, cited, cited.protocol
	p.src, p.dst = cited.dst, cited.src
	p.icmpType, p.icmpCode, p.icmpID = cited.icmpType, cited.icmpCode, cited.icmpID
	return ""
}

// readCited reads the packet inside an ICMP error as far as its ports. It is cut short by its
// nature, so its length fields are not judged.
func readCited(b []byte, v4 bool) (*packet, bool) {
	c, ok := &packet{}, false
	if v4 {
		b, ok = c.citedIPv4(b)
	} else {
		b, ok = c.citedIPv6(b)
	}
	if !ok {
		return nil, false
	}
	switch {
	case c.protocol == 0:
		return nil, false // reserved: in keys it stands for no error
	case c.isICMP():
		return c, c.icmpTuple(b)
	case !c.hasPorts():
		return c, true
	case len(b) < 4:
		return nil, false
	}
	c.ports(b)
	return c, true
}

func (p *packet) citedIPv4(b []byte) ([]byte, bool) {
	size, ok := p.ipv4Header(b)
	if !ok || p.frag.later {
		return nil, false
	}
	return b[size:], true
}

func (p *packet) citedIPv6(b []byte) ([]byte, bool) {
	if !p.ipv6Header(b) {
		return nil, false
	}
	size, reason := p.extensions(b[40:])
	if reason != "" || p.frag.later {
		return nil, false
	}
	return b[40+size:], true
}
