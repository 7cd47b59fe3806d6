package control

import (
	"context"
	"time"
)

// Status is how the agent is, and its ledger.
type Status struct {
	Boot  string    `json:"boot"` // as in its records
	PID   int       `json:"pid"`
	Since time.Time `json:"since"` // when it started
	// Trouble is why it is not healthy; "" when it is.
	Trouble  string    `json:"trouble,omitempty"`
	Table    Table     `json:"table"`
	Sweeps   Sweeps    `json:"sweeps"`
	Features []Feature `json:"features"` // all that there are
	Probes   []Probe   `json:"probes"`
	// Unwatched are interfaces that were discovered and cannot be watched. They are tried again.
	Unwatched []Unwatched `json:"unwatched,omitempty"`
	Counters
}

// Unwatched is an interface that cannot be watched.
type Unwatched struct {
	Namespace string `json:"namespace,omitempty"`
	Interface string `json:"interface"`
	Reason    string `json:"reason"`
}

// Table is how full the two connection tables were at the last sweep.
type Table struct {
	Size int `json:"size"` // of each
	IPv4 int `json:"ipv4"`
	IPv6 int `json:"ipv6"`
}

// Sweeps are the passes over the tables since the agent started.
type Sweeps struct {
	Done    uint64        `json:"done"`
	Failed  uint64        `json:"failed"` // of those
	Total   time.Duration `json:"total_ns"`
	Last    time.Duration `json:"last_ns"`
	LastEnd time.Time     `json:"last_end,omitzero"`
	// Within counts those that took no longer than each of SweepBounds.
	Within [len(SweepBounds)]uint64 `json:"within"`
	Error  string                   `json:"error,omitempty"` // of the last one
}

// SweepBounds are the upper bounds, in seconds, by which sweeps are counted.
var SweepBounds = [...]float64{.001, .003, .01, .03, .1, .3, 1, 3, 10}

// Add counts a sweep.
func (s *Sweeps) Add(took time.Duration, end time.Time, err error) {
	s.Done++
	s.Total += took
	s.Last, s.LastEnd, s.Error = took, end, ""
	for i, bound := range SweepBounds {
		if took.Seconds() <= bound {
			s.Within[i]++
		}
	}
	if err != nil {
		s.Failed++
		s.Error = err.Error()
	}
}

// States of a feature.
const (
	FeatureOff    = "off" // not configured
	FeatureOn     = "on"
	FeatureCannot = "cannot-run"
)

// Feature is the state of an optional feature.
type Feature struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"` // why it cannot run
	Note   string `json:"note,omitempty"`   // what it cannot tell here
	// Lost is what found no room: packets of drops, samples of rtt, messages of dns, handshakes,
	// translations of nat.
	Lost uint64 `json:"lost"`
}

// Probe is what was found out about the kernel.
type Probe struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Consequence is what is different without it; "" with it.
	Consequence string `json:"consequence,omitempty"`
}

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	return out, c.call(ctx, "GET", "/v1/status", nil, &out)
}
