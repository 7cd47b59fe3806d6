// Package golden holds what a scenario must emit, in a canonical form that people can read:
// golden files, and their comparison with what an agent or the reference model reported.
//
// Everything is an exact multiset: one record too many, too few, or with one field different is
// a difference. Values that real sockets decide are written "*" where the scenario allows it.
// Nothing in the form depends on the order in which an agent reports.
package golden

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Golden is everything that a scenario emits.
type Golden struct {
	Flows       []Flow
	Connections []Connection
	// FlowDigest and ConnectionDigest stand for a section that is too long to be written out;
	// Flows or Connections is empty then. Only Decode sets them.
	FlowDigest       *Digest
	ConnectionDigest *Digest
	// Labels are the labels of each name that occurs in addresses.
	Labels   map[string]map[string]string
	Counters []HookCounters
	// DNS and Drops are of the optional features.
	DNS   []DNS
	Drops []Drop
}

// Who the initiator of a flow is, seen from the flow.
const (
	InitiatorSrc     = "src"
	InitiatorDst     = "dst"
	InitiatorUnknown = "unknown"
)

// Flow is all that is reported of one direction of one connection.
type Flow struct {
	Src, Dst  Endpoint
	Proto     string // by name, see Protocol
	ICMP      string // "echo-request id=1", or "type/code"
	Cites     string // protocol of the connection that an ICMP error is about
	Packets   Number
	Bytes     Number
	Flags     string // "SYN|ACK"
	End       string // the last record's reason
	State     string // the last record's state
	Initiator string // src, dst or unknown
	ICMPError string // "type/code" of the last ICMP error that cited the flow
	// NATBefore and NATAfter are how the flow is called before and after address translation.
	NATBefore, NATAfter Ends
	Who                 Who
	Seen                []string
	Zone                uint16
	// RTT, Handshake and Lookups are what the features of these names tell, in words; "" if nothing.
	RTT, Handshake, Lookups string
}

// Who is what the labels of a flow's last record say; the zero value is that there are none.
type Who struct {
	From, To   string // who is at the two ends, by the names of the section of labels
	Service    string
	Class      string
	Unlabelled string // why there is no class
	Remarks    string
}

// Ends are the two ends of a flow; the zero value is none.
type Ends struct{ Src, Dst Endpoint }

// between stands between the two ends.
const between = " > "

// String is "src > dst", or "".
func (e Ends) String() string {
	if e == (Ends{}) {
		return ""
	}
	return e.Src.String() + between + e.Dst.String()
}

// Connection is an entry of the connection table.
type Connection struct {
	// Client and Server are the initiator and the other side. When Known is false they are the
	// lower and the higher endpoint.
	Client, Server   Endpoint
	Known            bool
	Proto            string
	ICMP             string
	Cites            string
	State            string
	Forward, Reverse Number // packets from and to the client
	Left             string // of the lifetime; "" if expired
	Expired          bool
	ICMPError        string
	Zone             uint16
}

// HookCounters are the counters of one hook.
type HookCounters struct {
	Hook                      string
	Seen, Accounted, Observed Traffic
	LeftOut                   map[string]Traffic // by reason, no zero entries
	Lost                      map[string]Traffic // likewise
}

// Traffic is packets and bytes; files write it "packets/bytes".
type Traffic struct{ Packets, Bytes Number }

// String is "packets/bytes".
func (t Traffic) String() string { return t.Packets.String() + "/" + t.Bytes.String() }

// Endpoint is one end of a flow. Host is a host's name or a literal address; Port is "" for
// protocols without ports and "*" if it is free.
type Endpoint struct{ Host, Port string }

// String is host:port, with brackets around a literal IPv6 address.
func (e Endpoint) String() string {
	if e.Port == "" {
		return e.Host
	}
	if strings.Contains(e.Host, ":") && !strings.Contains(e.Host, "(") {
		return "[" + e.Host + "]:" + e.Port
	}
	return e.Host + ":" + e.Port
}

// Number is a count, or free.
type Number struct {
	Value uint64
	Free  bool
}

// N returns the number v.
func N(v uint64) Number { return Number{Value: v} }

// String is the decimal number, or "*".
func (n Number) String() string {
	if n.Free {
		return star
	}
	return strconv.FormatUint(n.Value, 10)
}

// star is how a free value is written.
const star = "*"

// FreeNames lists the names that may be given to Free and Decode. client_port and server_port
// are the ports of the initiator and of the other side in both directions; src_port and dst_port
// are those of each flow as it travels (in connections, client and server).
func FreeNames() []string {
	return []string{"packets", "bytes", "flags", "end", "state", "left",
		"src_port", "dst_port", "client_port", "server_port"}
}

// Free makes the named values of all records free. An unknown name is an error.
func (g *Golden) Free(names ...string) error {
	for _, name := range names {
		if !slices.Contains(FreeNames(), name) {
			return fmt.Errorf("free value %q: known are %s", name,
				strings.Join(FreeNames(), ", "))
		}
	}
	for i := range g.Flows {
		g.Flows[i].free(names)
	}
	for i := range g.Connections {
		g.Connections[i].free(names)
	}
	for i := range g.Counters {
		g.Counters[i].free(names)
	}
	for i := range g.DNS {
		g.DNS[i].free(names)
	}
	for i := range g.Drops {
		g.Drops[i].free(names)
	}
	return nil
}

func (f *Flow) free(names []string) {
	own := Ends{f.Src, f.Dst}
	for _, e := range []*Ends{&own, &f.NATBefore, &f.NATAfter} {
		e.free(names, f.Initiator == InitiatorDst)
	}
	f.Src, f.Dst = own.Src, own.Dst
	for _, name := range names {
		switch name {
		case "packets":
			f.Packets = Number{Free: true}
		case "bytes":
			f.Bytes = Number{Free: true}
		case "flags":
			if f.Proto == "tcp" {
				f.Flags = star
			}
		case "end":
			f.End = star
		case "state":
			f.State = star
		}
	}
}

// free frees ports; backward are the ends of what the server sends.
func (e *Ends) free(names []string, backward bool) {
	client, server := &e.Src, &e.Dst
	if backward {
		client, server = server, client
	}
	for _, name := range names {
		switch name {
		case "src_port":
			e.Src.free()
		case "dst_port":
			e.Dst.free()
		case "client_port":
			client.free()
		case "server_port":
			server.free()
		}
	}
}

func (c *Connection) free(names []string) {
	for _, name := range names {
		switch name {
		case "packets":
			c.Forward, c.Reverse = Number{Free: true}, Number{Free: true}
		case "state":
			c.State = star
		case "left":
			if !c.Expired {
				c.Left = star
			}
		case "src_port", "client_port":
			c.Client.free()
		case "dst_port", "server_port":
			c.Server.free()
		}
	}
}

func (c *HookCounters) free(names []string) {
	for _, t := range []*Traffic{&c.Seen, &c.Accounted, &c.Observed} {
		if *t != (Traffic{}) { // that there was nothing is not left free
			t.free(names)
		}
	}
	for _, by := range []map[string]Traffic{c.LeftOut, c.Lost} {
		for reason, t := range by {
			t.free(names)
			by[reason] = t
		}
	}
}

func (t *Traffic) free(names []string) {
	if slices.Contains(names, "packets") {
		t.Packets = Number{Free: true}
	}
	if slices.Contains(names, "bytes") {
		t.Bytes = Number{Free: true}
	}
}

// free frees the port, if there is one.
func (e *Endpoint) free() {
	if e.Port != "" {
		e.Port = star
	}
}
