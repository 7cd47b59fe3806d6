package conntrack

import (
	"time"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// Stats is how the connection tables are. All but Ages costs the same however many entries there are.
type Stats struct {
	Size int `json:"size"` // entries of each table
	// IPv4 and IPv6 are how many connections they hold. Exact is false where the kernel does not count them
	// (before 6.6): then it is what the last sweep found.
	IPv4  int  `json:"ipv4"`
	IPv6  int  `json:"ipv6"`
	Exact bool `json:"exact"`
	// Opened and Ended count connections since the agent started; those that it adopted are in Ended only.
	Opened uint64                    `json:"opened"`
	Ended  map[flow.EndReason]uint64 `json:"ended"`
	// Rates are over the time between the last two sweeps; nil before there were two.
	Rates *Rates `json:"rates,omitempty"`
	// InsertErrors is how many insertions the kernel has refused although there was room.
	InsertErrors uint64 `json:"insert_errors"`
	// DeleteErrors is how many deletions the kernel has refused; the next sweep tried again.
	DeleteErrors uint64 `json:"delete_errors"`
	// Full is packets that came for a full table and are lost, by the policy reject.
	Full bpf.Count `json:"full"`
	// Ages counts connections by the time since their first packet; nil unless it was asked for.
	Ages []AgeBucket `json:"ages,omitempty"`
}

// Pressure is how full the fuller table is, from 0 to 1.
func (s *Stats) Pressure() float64 {
	return float64(max(s.IPv4, s.IPv6)) / float64(s.Size)
}

// Rates are connections per second.
type Rates struct {
	Over   time.Duration              `json:"over_ns"`
	Opened float64                    `json:"opened"`
	Ended  map[flow.EndReason]float64 `json:"ended"`
}

// AgeBucket counts the connections that are not older than a bound, and older than the one before.
type AgeBucket struct {
	UpTo  time.Duration `json:"up_to_ns"` // 0: no bound
	Count int           `json:"count"`
}

// ageBounds are the upper bounds of a histogram of ages.
var ageBounds = []time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour}

// NewAges returns an empty histogram.
func NewAges() []AgeBucket {
	all := make([]AgeBucket, len(ageBounds)+1)
	for i, bound := range ageBounds {
		all[i].UpTo = bound
	}
	return all
}

// AddAge counts a connection in a histogram.
func AddAge(ages []AgeBucket, age time.Duration) {
	i := 0
	for i < len(ageBounds) && age > ageBounds[i] {
		i++
	}
	ages[i].Count++
}
