package flow

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dedupe gives records to a deduper, each written like 1@if2: a flow at an interface. It returns those that are
// kept, with a star when they are marked.
func dedupe(d *Deduper, at time.Time, records string) string {
	var kept []string
	for _, text := range strings.Fields(records) {
		var port uint16
		var iface string
		if _, err := fmt.Sscanf(text, "%d@%s", &port, &iface); err != nil {
			panic(err)
		}
		r := seenOnce(port, 1, 2, 3, 4, 0)
		r.Seen = []Hook{{Interface: iface}}
		if keep, _ := d.Keep(r, "agent", at); keep {
			if r.Duplicate {
				text += "*"
			}
			kept = append(kept, text)
		}
	}
	return strings.Join(kept, " ")
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestDedupe(t *testing.T) {
	d := Dedupe(time.Minute, false)
	require.Equal(t, "1@if2 2@if1 1@if2", dedupe(d, start, "1@if2 2@if1 1@if1 1@if1 2@if2 1@if2"))
	require.Equal(t, "1@if2", dedupe(d, start, "1@if1 1@if2"), "it remembers")
	require.Empty(t, dedupe(d, start, ""))

	d = Dedupe(time.Minute, true)
	require.Equal(t, "1@if2 2@if1 1@if1* 1@if1* 2@if2* 1@if2", dedupe(d, start, "1@if2 2@if1 1@if1 1@if1 2@if2 1@if2"),
		"marked, in order")
}

// TestDedupeExpires differs from the reference in one thing: who is not believed does not keep alive who is. There,
// a flow whose first interface has gone silent is dropped for as long as others see it.
func TestDedupeExpires(t *testing.T) {
	d := Dedupe(15*time.Second, false)
	require.Equal(t, "1@if1 2@if1 3@if1", dedupe(d, start, "1@if1 2@if1 1@if2 3@if1"))
	require.Equal(t, "3@if1", dedupe(d, start.Add(10*time.Second), "1@if2 3@if1"))
	require.Equal(t, "1@if2 2@if2", dedupe(d, start.Add(20*time.Second), "1@if2 2@if2 2@if1 3@if2"),
		"1 and 2 were silent at if1 and are if2's now; 3 was not")
	require.Equal(t, "1@if1 2@if1 3@if2", dedupe(d, start.Add(40*time.Second), "1@if1 2@if1 3@if2 1@if2"))

	d = Dedupe(15*time.Second, false)
	dedupe(d, start, "1@if1")
	require.Empty(t, dedupe(d, start.Add(15*time.Second), "1@if2"), "who expires now lives")
	require.Equal(t, "1@if2", dedupe(d, start.Add(15*time.Second+1), "1@if2"))
	d.forget(start.Add(time.Hour))
	require.Empty(t, d.known, "nothing is held for ever")
	require.Zero(t, d.order.Len())
}

// TestDedupeAgents tells agents apart: by their addresses, else by where they send from. One of weir counts a
// packet once, so where it has seen it does not matter, nor does a new start.
func TestDedupeAgents(t *testing.T) {
	d := Dedupe(time.Minute, false)
	keep := func(boot, agentIP, iface, from string) bool {
		r := seenOnce(1, 1, 2, 3, 4, 0)
		r.Boot, r.Seen = boot, []Hook{{Interface: iface, Direction: Ingress}}
		if agentIP != "" {
			r.AgentIP = netip.MustParseAddr(agentIP)
		}
		keep, duplicate := d.Keep(r, from, start)
		require.Equal(t, keep, !duplicate)
		return keep
	}
	require.True(t, keep("a", "192.0.2.1", "eth0", "proxy"))
	require.True(t, keep("a", "192.0.2.1", "eth1", "proxy"), "another hook has taken over")
	require.True(t, keep("a2", "192.0.2.1", "eth1", "another proxy"), "it was started again")
	require.False(t, keep("b", "192.0.2.2", "eth0", "proxy"))
	d = Dedupe(time.Minute, false)
	require.True(t, keep("a", "", "eth0", "10.0.0.1"))
	require.True(t, keep("a2", "", "eth1", "10.0.0.1"))
	require.False(t, keep("b", "", "eth0", "10.0.0.2"))
	d = Dedupe(time.Minute, false)
	require.True(t, keep("", "192.0.2.1", "eth0", "10.0.0.1"), "the reference's agent tells of each interface")
	require.False(t, keep("", "192.0.2.1", "eth1", "10.0.0.1"))
}

// TestDedupeIsBounded forgets the one that was silent for the longest.
func TestDedupeIsBounded(t *testing.T) {
	d := Dedupe(time.Hour, false)
	r := *seenOnce(0, 1, 2, 3, 4, 0)
	for n := range maxBelieved + 10 {
		r.SrcPort, r.DstPort, r.Zone = uint16(n), uint16(n>>16), 1
		d.Keep(&r, "a", start)
	}
	require.LessOrEqual(t, len(d.known), maxBelieved)
	require.Equal(t, len(d.known), d.order.Len())
	keep, _ := d.Keep(&r, "b", start)
	require.False(t, keep)
	r.SrcPort, r.DstPort = 0, 0
	keep, _ = d.Keep(&r, "b", start)
	require.True(t, keep)
}
