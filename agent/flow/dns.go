package flow

import (
	"net/netip"
	"strconv"
)

// The outcomes of DNS records.
const (
	DNSAnswered   = "answered"   // a query and its response
	DNSUnanswered = "unanswered" // a query to which no response came in time
	DNSOpen       = "open"       // a query whose response was waited for when the agent stopped
	DNSUnasked    = "unasked"    // a response whose query was not seen
	DNSUnreadable = "unreadable" // so many messages that could not be read, for one reason
	DNSLost       = "lost"       // so many that found no room, for one reason
)

// DNS reports a DNS transaction, or how many messages are not told.
type DNS struct {
	// Boot and Sequence identify the record, as in Record, but DNS records are counted on their
	// own.
	Boot     string `json:"boot"`
	Sequence uint64 `json:"sequence"`
	// AgentIP is as in Record.
	AgentIP netip.Addr `json:"agent_ip,omitzero"`
	Outcome string     `json:"outcome"`
	// Reason and Messages are of the outcomes DNSUnreadable and DNSLost, and all else of the
	// others.
	Reason     string     `json:"reason,omitempty"`
	Messages   uint64     `json:"messages,omitempty"`
	Zone       uint16     `json:"zone,omitempty"`
	Client     netip.Addr `json:"client,omitzero"`
	Server     netip.Addr `json:"server,omitzero"`
	ClientPort uint16     `json:"client_port,omitempty"`
	ServerPort uint16     `json:"server_port,omitempty"`
	Protocol   uint8      `json:"protocol,omitempty"` // IANA protocol number
	ID         uint16     `json:"id,omitempty"`
	// Name and Type are those of the first question: the name as on the wire, in the form of
	// zone files (RFC 1035, section 5.1), with its final dot.
	Name      string `json:"name,omitempty"`
	Type      string `json:"type,omitempty"`
	Rcode     string `json:"rcode,omitempty"` // of the response
	Truncated bool   `json:"truncated,omitempty"`
	// Latency is from the query to the response, in ns; nil without either.
	Latency *int64 `json:"latency_ns,omitempty"`
	Repeats uint32 `json:"repeats,omitempty"`  // how often the query was repeated
	Start   int64  `json:"start_ns,omitempty"` // query, ns of the agent's clock
	End     int64  `json:"end_ns,omitempty"`   // response, likewise
}

// Lookups sums up the DNS transactions of a connection since the record before.
type Lookups struct {
	Answered   uint32 `json:"answered,omitempty"`
	Failed     uint32 `json:"failed,omitempty"` // of those, with another rcode than NOERROR
	Unanswered uint32 `json:"unanswered,omitempty"`
	Rcode      string `json:"rcode,omitempty"` // of the last response
	// Mean and Max are the latencies of those that were answered, in ns.
	Mean int64 `json:"latency_ns_mean"`
	Max  int64 `json:"latency_ns_max"`
}

// dnsTypes and rcodes are IANA's names, of "Domain Name System (DNS) Parameters".
var dnsTypes = map[uint16]string{1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO",
	15: "MX", 16: "TXT", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR", 39: "DNAME", 43: "DS",
	44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 52: "TLSA", 64: "SVCB",
	65: "HTTPS", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA"}

var rcodes = []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN",
	"YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE", "DSOTYPENI"}

// DNSType returns the name of a type, "TYPE65280" for one without (RFC 3597, section 5).
func DNSType(t uint16) string {
	if name, ok := dnsTypes[t]; ok {
		return name
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// Rcode returns the name of a response code, "RCODE15" for one without.
func Rcode(c uint8) string {
	if int(c) < len(rcodes) {
		return rcodes[c]
	}
	return "RCODE" + strconv.Itoa(int(c))
}
