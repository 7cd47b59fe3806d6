package labeler

import (
	"fmt"
	"sync/atomic"
)

// Reason says why a flow's class is Unknown. It is a text in files.
type Reason uint8

// The reasons, the weightiest last.
const (
	Labelled    Reason = iota // no reason: the class is known
	NoPlace                   // two clusters, or ranges of one, of which no region is known
	NoRegion                  // an address of the own cloud, of which no region is known
	PastOwner                 // the address had an owner in a cluster, but not at that time
	NotSynced                 // a cluster has not been read in full yet
	reasonCount = iota
)

var reasonNames = [reasonCount]string{"", "no-place", "no-region", "past-owner", "not-synced"}

// Reasons lists the reasons but Labelled.
func Reasons() []Reason { return []Reason{NoPlace, NoRegion, PastOwner, NotSynced} }

// String returns the reason's name; "" for Labelled.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Count is packets and bytes.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Stats are what became of all that was labelled: In is always Labelled and the sum of Unknown.
type Stats struct {
	In       Count            `json:"in"`
	Labelled Count            `json:"labelled"`
	Unknown  map[string]Count `json:"unknown,omitempty"` // by reason, no zero entries
	// Dropped is how much of In was not passed on, because another agent reports it.
	Dropped Count `json:"dropped,omitzero"`
	// Shared is what of In has an end at an address of the agent's node, by Sharing; with two such ends it is in
	// twice. It is empty where Asker has no Sockets.
	Shared map[string]Count `json:"shared,omitempty"` // no zero entries
}

// ledger counts by reason. In is counted on its own, so that a sum that is wrong shows.
type ledger struct {
	in       atomicCount
	byReason [reasonCount]atomicCount
	dropped  atomicCount
	shared   [sharingCount]atomicCount // notShared is not told
}

type atomicCount struct{ packets, bytes atomic.Uint64 }

func (c *atomicCount) add(packets, bytes uint64) {
	c.packets.Add(packets)
	c.bytes.Add(bytes)
}

func (c *atomicCount) load() Count { return Count{c.packets.Load(), c.bytes.Load()} }

// Stats tells what became of all that was labelled.
func (l *Labeler) Stats() Stats {
	s := Stats{In: l.ledger.in.load(), Labelled: l.ledger.byReason[Labelled].load(),
		Dropped: l.ledger.dropped.load()}
	for _, r := range Reasons() {
		if c := l.ledger.byReason[r].load(); c != (Count{}) {
			if s.Unknown == nil {
				s.Unknown = map[string]Count{}
			}
			s.Unknown[r.String()] = c
		}
	}
	for _, how := range Sharings() {
		if c := l.ledger.shared[how].load(); c != (Count{}) {
			if s.Shared == nil {
				s.Shared = map[string]Count{}
			}
			s.Shared[how.String()] = c
		}
	}
	return s
}
