// Package nat learns from the kernel's connection tracking (ctnetlink) which connections have their
// addresses translated, and finds the translation of a connection by its tuple on either side.
package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Tuple names a connection by a packet of its initiator.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // 0 for protocols without ports
	Protocol         uint8
	ICMPType         uint8 // of an ICMP query
	ICMPCode         uint8
	ICMPID           uint16
}

// Reverse is the tuple as the responder's packets have it. ICMP stays as it is: a reply is known by
// its request's type.
func (t Tuple) Reverse() Tuple {
	t.Src, t.Dst = t.Dst, t.Src
	t.SrcPort, t.DstPort = t.DstPort, t.SrcPort
	return t
}

// Side is a side of the translation.
type Side int

// The sides: Before is how the initiator's packets come to the translation, After how they leave it.
const (
	Before Side = iota
	After
)

// Other is the other side.
func (s Side) Other() Side { return 1 - s }

// Translation is a connection under its two names.
type Translation struct {
	// ID is the same on both sides and in no other translation that is known at the time.
	ID    string
	Tuple [2]Tuple // by Side
	// Flow is the flow id of the connection with that tuple, as far as Find was told; else 0.
	Flow [2]uint64
}

// hasPorts tells the protocols whose ports are part of flow tuples (bpf/README.md section 3).
func hasPorts(protocol uint8) bool {
	return protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP ||
		protocol == unix.IPPROTO_SCTP
}

// portsUnread are protocols that the kernel translates by ports which flow tuples do not have: which
// connection a flow belongs to cannot be told.
func portsUnread(protocol uint8) bool {
	return protocol == unix.IPPROTO_DCCP || protocol == unix.IPPROTO_UDPLITE ||
		protocol == unix.IPPROTO_GRE
}
