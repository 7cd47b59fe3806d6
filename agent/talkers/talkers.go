// Package talkers finds the connections that carry the most traffic just now.
//
// It is pure: it compares what the connection table held at one time and at another.
package talkers

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
)

// Talker is a connection and what it carried between two readings, in both directions.
type Talker struct {
	conntrack.Entry
	Packets uint64        `json:"delta_packets"`
	Bytes   uint64        `json:"delta_bytes"`
	Span    time.Duration `json:"delta_ns"` // between the readings
}

// BitRate is in bits per second, link headers included.
func (t *Talker) BitRate() float64 { return 8 * float64(t.Bytes) / t.Span.Seconds() }

// PacketRate is in packets per second.
func (t *Talker) PacketRate() float64 { return float64(t.Packets) / t.Span.Seconds() }

type total struct{ packets, bytes uint64 }

// Meter compares readings of the connection table. The zero value is ready.
type Meter struct {
	last map[uint64]total // by flow
	at   time.Time
}

// Read takes a reading, and returns the connections that carried something since the one before, the most bytes
// first. The first reading returns none: how old its counts are is not known.
func (m *Meter) Read(all []conntrack.Entry, at time.Time) []Talker {
	first, span := m.last == nil, at.Sub(m.at)
	now := make(map[uint64]total, len(all))
	var found []Talker
	for i := range all {
		e := &all[i]
		sum := total{e.Forward.Packets + e.Reverse.Packets, e.Forward.Bytes + e.Reverse.Bytes}
		now[e.Flow] = sum
		before := m.last[e.Flow]
		if first || span <= 0 || sum.packets <= before.packets {
			continue
		}
		found = append(found, Talker{*e, sum.packets - before.packets, sum.bytes - before.bytes, span})
	}
	m.last, m.at = now, at
	slices.SortFunc(found, func(a, b Talker) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Flow, b.Flow))
	})
	return found
}

// Matches tells whether a line has every word of a filter, whatever their case.
func Matches(line, filter string) bool {
	line = strings.ToLower(line)
	for word := range strings.FieldsSeq(strings.ToLower(filter)) {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}
