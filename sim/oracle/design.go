package oracle

import (
	"slices"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/nat"
)

// Design is a difference that is meant to be.
type Design struct {
	Name   string
	What   string // how the two differ
	Reason string
}

// The designs by which the kernel does not track what weir holds.
const (
	icmpErrors = "icmp-errors"
	strayReset = "stray-reset"
	refused    = "refused"
)

// Designs are all differences that are meant to be: docs/scenarios.md shows them.
var Designs = []Design{
	{"states", "a state of weir's can be one of several of the kernel's",
		"weir names what was seen on the wire; the kernel also tells in which order"},
	{"frames", "weir's bytes are more, by the link header of each packet",
		"weir counts what an interface carries, the kernel what its IP layer gets"},
	{icmpErrors, "ICMP errors are a connection beside the one that they are about; the kernel has none",
		"a node that sends errors must not look like traffic of the connection, nor vanish from the counts"},
	{"no-initiator", "weir does not say who began what was picked up in mid-stream; the kernel says it was the first sender",
		"a guess that is wrong half of the time would turn records round"},
	{strayReset, "a RST that belongs to nothing opens a connection; the kernel ignores it",
		"every packet is counted somewhere"},
	{refused, "a connection whose only answer is a RST is reset; the kernel forgets it at once",
		"that somebody was refused is worth a record"},
	{"crossed-echo", "two hosts that ping each other with one identifier are one connection; the kernel has two",
		"an entry holds both directions of what looks alike from either side"},
	{"uncounted", "the kernel does not count a SYN that comes again, or the other way, before an answer, a SYN,ACK " +
		"that comes again, and what it calls invalid: expect says how many",
		"weir counts every packet, also those that change nothing"},
	{"translations", "a connection whose addresses are translated is two, one for each name; the kernel has one with two tuples",
		"weir counts at interfaces, each of which sees one of the names, and joins the two in records"},
}

// states are the kernel's states that agree with one of weir's. A second one stands where weir does
// not tell what the kernel does.
var states = map[conntrack.State][]nat.TCPState{
	conntrack.StateSynSent:     {nat.TCPSynSent},
	conntrack.StateSynReceived: {nat.TCPSynRecv, nat.TCPSynSent2}, // two SYNs that crossed
	conntrack.StateEstablished: {nat.TCPEstablished},
	conntrack.StateClosing:     {nat.TCPFinWait, nat.TCPCloseWait}, // before and after the FIN's acknowledgement
	conntrack.StateLastAck:     {nat.TCPLastAck, nat.TCPTimeWait},  // the kernel takes any ACK for the last one
	conntrack.StateClosed:      {nat.TCPTimeWait},
	conntrack.StateReset:       {nat.TCPClose},
}

// agree tells whether the states of one connection go together.
func agree(s conntrack.State, c *nat.Connection) bool {
	if c.TCP != nat.TCPNone {
		return slices.Contains(states[s], c.TCP)
	}
	return s == conntrack.StateReplied && c.Replied || s == conntrack.StateUnreplied && !c.Replied
}

// stateOf is the kernel's state in words.
func stateOf(c *nat.Connection) string {
	switch {
	case c.TCP != nat.TCPNone:
		return c.TCP.String()
	case c.Replied:
		return "SEEN_REPLY"
	}
	return "UNREPLIED"
}

// designed names the design by which the kernel does not track what weir holds; "" if there is none.
func designed(e *conntrack.Entry) string {
	switch {
	case e.Cites != 0:
		return icmpErrors
	case e.State == conntrack.StateReset && !e.Known:
		return strayReset
	case e.State == conntrack.StateReset && e.Reverse.Packets == 1 && e.Reverse.Flags&flow.RST != 0:
		return refused
	}
	return ""
}
