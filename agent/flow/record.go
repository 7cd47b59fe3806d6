// Package flow holds the flow record, the unit in which weir reports traffic.
//
// The package is pure: it has no clock, no goroutine and makes no system calls.
package flow

import (
	"fmt"
	"net/netip"
	"strings"
)

// EndReason says why a record was emitted: the flowEndReason codes of IPFIX
// (IANA registry "IPFIX Information Elements", element 136).
type EndReason uint8

// The reasons, with IANA's numbers.
const (
	EndIdle     EndReason = 1 // no packet for the lifetime of the connection's state
	EndActive   EndReason = 2 // the flow goes on; this is an interim report
	EndDetected EndReason = 3 // FIN from both sides, RST, or a new connection on the same tuple
	EndForced   EndReason = 4 // the agent stopped, or somebody had the flow removed
	EndResource EndReason = 5 // the connection table had no room for the flow, or it was evicted
)

var endNames = map[EndReason]string{
	EndIdle: "idle", EndActive: "active", EndDetected: "end-detected",
	EndForced: "forced", EndResource: "lack-of-resources",
}

// String returns the reason's name as files and golden files write it.
func (r EndReason) String() string {
	if s, ok := endNames[r]; ok {
		return s
	}
	return fmt.Sprintf("end-reason-%d", uint8(r))
}

// MarshalText implements encoding.TextMarshaler.
func (r EndReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses unknown names.
func (r *EndReason) UnmarshalText(b []byte) error {
	for k, v := range endNames {
		if v == string(b) {
			*r = k
			return nil
		}
	}
	return fmt.Errorf("unknown end reason %q", b)
}

// TCPFlags is the set of TCP flags, in the bit order of the TCP header (RFC 9293, section 3.1).
type TCPFlags uint8

// The eight flags.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

var flagNames = [8]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

// String joins the names of the flags that are set with "|", lowest bit first; no flag is "".
func (f TCPFlags) String() string {
	var names []string
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, "|")
}

// ParseTCPFlags reads flag names separated by "|" or ",": the inverse of String.
func ParseTCPFlags(s string) (TCPFlags, error) {
	var f TCPFlags
	if s == "" {
		return 0, nil
	}
next:
	for _, n := range strings.FieldsFunc(s, func(r rune) bool { return r == '|' || r == ',' }) {
		for i, known := range flagNames {
			if strings.TrimSpace(n) == known {
				f |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("unknown TCP flag %q: known are %s", n, strings.Join(flagNames[:], " "))
	}
	return f, nil
}

// MarshalText implements encoding.TextMarshaler.
func (f TCPFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *TCPFlags) UnmarshalText(b []byte) error {
	v, err := ParseTCPFlags(string(b))
	if err == nil {
		*f = v
	}
	return err
}

// Role says which part the source of a record plays in its connection.
type Role string

// The roles. RoleUnknown is the honest answer for a connection picked up in mid-stream.
const (
	RoleInitiator Role = "initiator"
	RoleResponder Role = "responder"
	RoleUnknown   Role = "unknown"
)

// Direction is the side of an interface on which a packet was seen.
type Direction string

// The directions, as seen from the host that owns the interface.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// Hook is a place where packets are seen: one direction of one interface of one network namespace.
type Hook struct {
	Namespace string    `json:"namespace,omitempty"` // name or path; "" is the agent's own
	Interface string    `json:"interface"`
	Direction Direction `json:"direction"`
}

// String is "namespace/interface direction", without the namespace when that is the agent's own.
func (h Hook) String() string {
	s := h.Interface + " " + string(h.Direction)
	if h.Namespace != "" {
		s = h.Namespace + "/" + s
	}
	return s
}

// Record reports the packets of one direction of one connection since the record before it.
type Record struct {
	// Boot and Sequence identify the record: Boot is drawn when the agent starts, Sequence
	// counts its records from 1. A receiver that sees a pair again drops the repeat.
	Boot     string `json:"boot"`
	Sequence uint64 `json:"sequence"`
	// AgentIP is the address by which the agent is known; none unless that is configured.
	AgentIP netip.Addr `json:"agent_ip,omitzero"`
	// Flow is the same in all records of both directions of one connection, and in no other's.
	Flow     uint64     `json:"flow"`
	Zone     uint16     `json:"zone,omitempty"`
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	SrcPort  uint16     `json:"src_port"` // 0 when the protocol has no ports
	DstPort  uint16     `json:"dst_port"`
	Protocol uint8      `json:"protocol"` // IANA protocol number
	// Cites is the protocol of the connection that an ICMP error is about; Src, Dst and the
	// ports are then that connection's, in the direction in which the error travels. Else 0.
	Cites    uint8  `json:"cites,omitempty"`
	ICMPType uint8  `json:"icmp_type,omitempty"` // request's type for a query and its reply
	ICMPCode uint8  `json:"icmp_code,omitempty"`
	ICMPID   uint16 `json:"icmp_id,omitempty"` // identifier of a query
	// Packets and Bytes are what this record adds. Bytes are of the frame on the wire: link
	// header and VLAN tags included, frame check sequence not.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// PacketsBefore is what earlier records of this flow and direction added up to.
	PacketsBefore uint64    `json:"packets_before,omitempty"`
	BytesBefore   uint64    `json:"bytes_before,omitempty"` // likewise
	Flags         TCPFlags  `json:"flags,omitempty"`        // all flags seen since the flow began
	Start         int64     `json:"start_ns"`               // first packet, ns of the agent's clock
	End           int64     `json:"end_ns"`                 // last packet, ns of the agent's clock
	Role          Role      `json:"role"`
	State         string    `json:"state"`
	Reason        EndReason `json:"end"`
	// ICMPError is "type/code" of the last ICMP error that cited this flow, or "".
	ICMPError string `json:"icmp_error,omitempty"`
	// Seen lists where packets of this direction were seen; the first one owns the count.
	Seen []Hook `json:"seen"`
	// Duplicate says that another record tells of the same packets: a sum leaves this one out. Only a
	// receiver that hears several agents can tell.
	Duplicate bool `json:"duplicate,omitempty"`
	// Sampling is N when 1 in N connections is counted, all packets of it; 0 when all are.
	Sampling uint32 `json:"sampling,omitempty"`
	// RTTMin, RTTLast and RTTMax are the smoothed round-trip times, in microseconds, that the
	// TCP socket at Src knew since the record before; RTTSamples is at how many packets it was
	// asked. All are 0 when there is no such socket here, or the feature is off.
	RTTMin     uint32 `json:"rtt_us_min,omitempty"`
	RTTLast    uint32 `json:"rtt_us_last,omitempty"`
	RTTMax     uint32 `json:"rtt_us_max,omitempty"`
	RTTSamples uint32 `json:"rtt_samples,omitempty"`
	// Handshake is in one record of the client's direction of a TCP connection, at most.
	Handshake *Handshake `json:"handshake,omitempty"`
	// Lookups is in records of the client's direction; nil when there was no DNS transaction.
	Lookups *Lookups `json:"lookups,omitempty"`
	// NATBefore is how the connection is called on the initiator's side of an address translation,
	// NATAfter on the responder's side, both in this record's direction: of replies, NATBefore is
	// what they become. Between two translations both are set; neither is where there is none, or
	// the feature is off.
	NATBefore NAT `json:"nat_before,omitzero"`
	NATAfter  NAT `json:"nat_after,omitzero"`
	// SrcLabels and DstLabels say who is at Src and Dst; nil without a labeler.
	SrcLabels *Labels `json:"src_labels,omitempty"`
	DstLabels *Labels `json:"dst_labels,omitempty"`
	// Service is the service that the connection went through, "namespace/name".
	Service string `json:"service,omitempty"`
	// Class says what kind of way lies between the ends; Unlabelled why it is UNKNOWN.
	Class       string     `json:"class,omitempty"`
	Unlabelled  string     `json:"unlabelled,omitempty"`
	LabelFlags  LabelFlags `json:"label_flags,omitempty"`
	Environment string     `json:"environment,omitempty"` // as the configuration has it
}

// NAT is how a record's connection is called on the other side of an address translation, in the
// record's direction.
type NAT struct {
	// ID is the same in the records of both sides of a connection, and in no other's.
	ID string `json:"id"`
	// Flow is the flow of the other side's records; 0 when the agent has not seen that side.
	Flow    uint64     `json:"flow,omitempty"`
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	SrcPort uint16     `json:"src_port"` // 0 when the protocol has no ports
	DstPort uint16     `json:"dst_port"`
	ICMPID  uint16     `json:"icmp_id,omitempty"` // identifier of a query
}
