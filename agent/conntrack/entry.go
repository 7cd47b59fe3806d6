// Package conntrack is the connection table seen from user space.
package conntrack

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// State is the state of a connection; bpf/README.md section 5 defines the transitions.
type State uint8

// The states. The numbers are those of enum conn_state in bpf/conn.h.
const (
	StateNone        State = iota
	StateSynSent           // TCP: a SYN was seen from one side
	StateSynReceived       // TCP: SYNs were seen from both sides
	StateEstablished       // TCP: both SYNs were acknowledged, or picked up in mid-stream
	StateClosing           // TCP: one side has sent FIN
	StateLastAck           // TCP: both sides have sent FIN
	StateClosed            // TCP: both FINs were acknowledged
	StateReset             // TCP: a RST was seen
	StateUnreplied         // not TCP: packets in one direction only
	StateReplied           // not TCP: packets in both directions
	stateCount
)

var stateNames = [stateCount]string{"none", "syn-sent", "syn-received", "established",
	"closing", "last-ack", "closed", "reset", "unreplied", "replied"}

// States lists all states in order of their numbers.
func States() []State {
	all := make([]State, stateCount)
	for i := range all {
		all[i] = State(i)
	}
	return all
}

// String returns the state's name as files write it.
func (s State) String() string {
	if s < stateCount {
		return stateNames[s]
	}
	return "invalid"
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses unknown names.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("unknown connection state %q", b)
}

// Leg is one direction of a connection.
type Leg struct {
	Packets uint64        `json:"packets"`
	Bytes   uint64        `json:"bytes"`
	Flags   flow.TCPFlags `json:"flags,omitempty"`
	First   int64         `json:"first_ns"` // 0 while no packet of this direction was seen
	Last    int64         `json:"last_ns"`
	Seen    []flow.Hook   `json:"seen,omitempty"` // the first one owns the count
}

// Entry is one connection. Src is its initiator; when the initiator is not known
// (Known is false) Src is the lower endpoint.
type Entry struct {
	Flow      uint64     `json:"flow"`
	Zone      uint16     `json:"zone,omitempty"`
	Src       netip.Addr `json:"src"`
	Dst       netip.Addr `json:"dst"`
	SrcPort   uint16     `json:"src_port"`
	DstPort   uint16     `json:"dst_port"`
	Protocol  uint8      `json:"protocol"`
	Cites     uint8      `json:"cites,omitempty"`
	ICMPType  uint8      `json:"icmp_type,omitempty"`
	ICMPCode  uint8      `json:"icmp_code,omitempty"`
	ICMPID    uint16     `json:"icmp_id,omitempty"`
	Known     bool       `json:"initiator_known"`
	State     State      `json:"state"`
	ICMPError string     `json:"icmp_error,omitempty"`
	// Expired tells whether the entry has outlived its state's lifetime: a packet would not
	// find it any more, whether or not it was collected.
	Expired  bool          `json:"expired"`
	Idle     time.Duration `json:"idle_ns"`     // since the last packet of either direction
	Lifetime time.Duration `json:"lifetime_ns"` // how long it may stay idle in its state
	Forward  Leg           `json:"forward"`     // from Src to Dst
	Reverse  Leg           `json:"reverse"`     // from Dst to Src
	// SrcLabels, DstLabels, Service and Class are as of a flow.Record; nil and empty without labels.
	SrcLabels *flow.Labels `json:"src_labels,omitempty"`
	DstLabels *flow.Labels `json:"dst_labels,omitempty"`
	Service   string       `json:"service,omitempty"`
	Class     string       `json:"class,omitempty"`
}

// First is when the connection's first packet was seen, in ns of the datapath's clock.
func (e *Entry) First() int64 {
	if e.Forward.Packets > 0 && e.Reverse.Packets > 0 {
		return min(e.Forward.First, e.Reverse.First)
	}
	return max(e.Forward.First, e.Reverse.First)
}
