package bench

import (
	"math"
	"slices"
)

// Units of figures.
const (
	PerPacket = "ns/packet" // net of an empty program
	PerEntry  = "ns/entry"  // CPU time
	PerFlow   = "bytes/flow"
	Micros    = "us" // CPU time
	// PerThousand is of entries.
	PerThousand = "allocs/1000"
	Resident    = "MB"
	// PerExchange is net of the same without the feature.
	PerExchange = "ns/exchange"
	// PerHop is net of a chain of one member.
	PerHop = "ns/hop"
)

// Value is a measured value, in the unit of its figure.
type Value struct {
	Median float64 `json:"median"` // of all rounds
	Best   float64 `json:"best"`   // the lowest of all rounds, net of the lowest empty one
	// Held is how many flows the fullest table held at the end.
	Held int `json:"held,omitempty"`
}

// Figure is one line of the result.
type Figure struct {
	Name string `json:"name"`
	What string `json:"what"`
	Unit string `json:"unit"`
	// Empty is what the same packets took with an empty program, which is subtracted. Median of
	// all rounds in ns.
	Empty float64 `json:"empty,omitempty"`
	Ours  *Value  `json:"ours,omitempty"`
	Peer  *Value  `json:"peer,omitempty"`
	Ratio float64 `json:"ratio,omitempty"` // our median over the peer's
	// Note says why the figure may not be what it should be.
	Note string `json:"note,omitempty"`
	// Missing says why nothing was measured.
	Missing string `json:"missing,omitempty"`
}

// compare fills in the ratio.
func (f Figure) compare() Figure {
	if f.Ours != nil && f.Peer != nil && f.Peer.Median > 0 {
		f.Ratio = f.Ours.Median / f.Peer.Median
	}
	return f
}

// netOf subtracts the empty program round by round.
func netOf(full, empty []float64) *Value {
	n := min(len(full), len(empty))
	diff := make([]float64, n)
	for i := range n {
		diff[i] = full[i] - empty[i]
	}
	return &Value{Median: median(diff), Best: slices.Min(full) - slices.Min(empty)}
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
