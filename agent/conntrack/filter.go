package conntrack

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Filter chooses connections: those that fit all that it says. The zero value chooses all.
type Filter struct {
	Zone     *uint16        `json:"zone,omitempty"`
	Family   int            `json:"family,omitempty"` // 4, 6, or 0 for both
	Protocol *uint8         `json:"protocol,omitempty"`
	States   []State        `json:"states,omitempty"`   // any of them
	Networks []netip.Prefix `json:"networks,omitempty"` // either end lies in any of them
	Src      netip.Prefix   `json:"src,omitzero"`       // the initiator lies in it
	Dst      netip.Prefix   `json:"dst,omitzero"`       // likewise the other end
	Ports    []uint16       `json:"ports,omitempty"`    // either end has any of them
	Expired  *bool          `json:"expired,omitempty"`  // whether it has outlived its lifetime
	Idle     time.Duration  `json:"idle_ns,omitempty"`  // at least as long
	Flows    []uint64       `json:"flow_ids,omitempty"` // any of them
	Tuple    *Tuple         `json:"tuple,omitempty"`    // this one, which is looked up
}

// Check tells what is wrong with the filter.
func (f *Filter) Check() error {
	if f.Family != 0 && f.Family != 4 && f.Family != 6 {
		return fmt.Errorf("family: %d; want 4 or 6", f.Family)
	}
	if f.Idle < 0 {
		return fmt.Errorf("idle_ns: %d; want 0 or more", f.Idle)
	}
	if f.Tuple != nil {
		if err := f.Tuple.Check(); err != nil {
			return fmt.Errorf("tuple.%w", err)
		}
	}
	return nil
}

// Match tells whether the filter chooses a connection.
func (f *Filter) Match(e *Entry) bool {
	return f.matchTuple(e) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.State)) &&
		(f.Expired == nil || *f.Expired == e.Expired) &&
		(f.Idle == 0 || e.Idle >= f.Idle) && // a packet that came since View.Now makes it negative
		(len(f.Flows) == 0 || slices.Contains(f.Flows, e.Flow))
}

func (f *Filter) matchTuple(e *Entry) bool {
	return (f.Zone == nil || *f.Zone == e.Zone) &&
		(f.Family == 0 || (f.Family == 4) == e.Src.Is4()) &&
		(f.Protocol == nil || *f.Protocol == e.Protocol) &&
		(f.Tuple == nil || f.Tuple.names(e)) &&
		(!f.Src.IsValid() || f.Src.Contains(e.Src)) &&
		(!f.Dst.IsValid() || f.Dst.Contains(e.Dst)) &&
		(len(f.Networks) == 0 || slices.ContainsFunc(f.Networks, func(p netip.Prefix) bool {
			return p.Contains(e.Src) || p.Contains(e.Dst)
		})) &&
		(len(f.Ports) == 0 || slices.ContainsFunc(f.Ports, func(p uint16) bool {
			return p == e.SrcPort || p == e.DstPort
		}))
}

// names tells whether the entry is that of the tuple, whichever end comes first.
func (t *Tuple) names(e *Entry) bool {
	of, turned := e.Tuple(), e.Tuple()
	turned.Src, turned.Dst = of.Dst, of.Src
	turned.SrcPort, turned.DstPort = of.DstPort, of.SrcPort
	return *t == of || *t == turned
}
