package golden

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// measured stands for a round-trip time that a real socket knew: that it did is all that holds.
const measured = "measured"

// handshakeText is "server 20ms client 1ms", without what is not known; "" if h is nil.
func handshakeText(h *flow.Handshake) string {
	if h == nil {
		return ""
	}
	parts := []string{}
	add := func(name string, ns *int64) {
		if ns != nil {
			parts = append(parts, name+" "+time.Duration(*ns).String())
		}
	}
	add("server", h.Server)
	add("client", h.Client)
	if h.SYNRepeats > 0 {
		parts = append(parts, fmt.Sprintf("syn-repeats %d", h.SYNRepeats))
	}
	if h.SYNACKRepeats > 0 {
		parts = append(parts, fmt.Sprintf("syn-ack-repeats %d", h.SYNACKRepeats))
	}
	if len(parts) == 0 {
		return "nothing known"
	}
	return strings.Join(parts, " ")
}

// lookupsText is "answered 2 failed 1 max 20ms last NXDOMAIN"; "" if there were none.
func lookupsText(l *flow.Lookups) string {
	if l == nil || *l == (flow.Lookups{}) {
		return ""
	}
	var parts []string
	if l.Answered > 0 {
		parts = append(parts, fmt.Sprintf("answered %d failed %d max %v last %s", l.Answered, l.Failed,
			time.Duration(l.Max), l.Rcode))
	}
	if l.Unanswered > 0 {
		parts = append(parts, fmt.Sprintf("unanswered %d", l.Unanswered))
	}
	return strings.Join(parts, " ")
}

// features adds up what the records of a flow tell of the optional features. A handshake that is told
// twice shows as two.
func (a *account) features(f *Flow) {
	var sum flow.Lookups
	var handshakes []string
	for _, r := range a.records {
		if r.RTTSamples > 0 {
			f.RTT = measured
		}
		if r.Handshake != nil {
			handshakes = append(handshakes, handshakeText(r.Handshake))
		}
		if l := r.Lookups; l != nil {
			sum.Answered += l.Answered
			sum.Failed += l.Failed
			sum.Unanswered += l.Unanswered
			sum.Max = max(sum.Max, l.Max)
			if l.Rcode != "" {
				sum.Rcode = l.Rcode
			}
		}
	}
	f.Handshake, f.Lookups = strings.Join(handshakes, " and "), lookupsText(&sum)
}

// features are the columns of what the optional features tell.
func (f *Flow) features() []column {
	var all []column
	for _, c := range []column{{key: "rtt", value: f.RTT}, {key: "handshake", value: f.Handshake},
		{key: "lookups", value: f.Lookups}} {
		if c.value != "" {
			all = append(all, c)
		}
	}
	return all
}

// Modelled returns what the reference model can know of g: neither what the kernel drops nor what
// its sockets measure.
func (g *Golden) Modelled() *Golden {
	known := *g
	known.Drops, known.Flows = nil, make([]Flow, len(g.Flows))
	copy(known.Flows, g.Flows)
	for i := range known.Flows {
		known.Flows[i].RTT = ""
	}
	return &known
}
