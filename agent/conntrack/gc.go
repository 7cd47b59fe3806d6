package conntrack

import (
	"net/netip"
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// Place is an address in a zone.
type Place struct {
	Addr netip.Addr `json:"addr"`
	Zone uint16     `json:"zone,omitempty"`
}

// Collection says what a garbage collection removes. An entry goes when any of the three applies.
type Collection struct {
	// Expired removes what has expired. Ahead is the time at which, seen from now: what would have expired
	// by then without a packet goes too, or, below 0, only what had expired then.
	Expired bool          `json:"expired,omitempty"`
	Ahead   time.Duration `json:"ahead_ns,omitempty"`
	// Places removes what has one of these ends.
	Places []Place `json:"places,omitempty"`
	// Filter removes what it chooses; nil: nothing.
	Filter *Filter `json:"filter,omitempty"`
	// Survivor, unless it is nil, is shown each entry that stays, valid during the call.
	Survivor func(*Entry) `json:"-"`
}

// Check tells what is wrong with the collection.
func (c *Collection) Check() error {
	if c.Filter == nil {
		return nil
	}
	return c.Filter.Check()
}

// Only is the tuple of the one connection that the collection can remove; nil when all are to be looked at.
func (c *Collection) Only() *Tuple {
	if c.Expired || len(c.Places) > 0 || c.Filter == nil || c.Survivor != nil {
		return nil
	}
	return c.Filter.Tuple
}

// Remover returns what tells whether an entry goes.
func (c *Collection) Remover() func(*Entry) bool {
	places := map[Place]bool{}
	for _, p := range c.Places {
		places[p] = true
	}
	return func(e *Entry) bool {
		return (c.Expired && e.Idle+c.Ahead > e.Lifetime) ||
			places[Place{e.Src, e.Zone}] || places[Place{e.Dst, e.Zone}] ||
			(c.Filter != nil && c.Filter.Match(e))
	}
}

// Collected is what a garbage collection did.
type Collected struct {
	// Scanned is how many connections it looked at, Alive how many of them stay.
	Scanned int `json:"scanned"`
	Alive   int `json:"alive"`
	// Ended counts those that were removed, by the reason that their last record has.
	Ended map[flow.EndReason]uint64 `json:"ended"`
	// Skipped were to be removed, but a packet came for them in between: it has ended them, and opened
	// others, or they had not expired after all.
	Skipped int `json:"skipped"`
	// Took is how long it took.
	Took time.Duration `json:"took_ns"`
}

// Removed is how many connections were removed.
func (c *Collected) Removed() (n uint64) {
	for _, of := range c.Ended {
		n += of
	}
	return n
}
