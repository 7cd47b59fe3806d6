package mix

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var pairs = []Pair{{"one", "two", []string{"ipv4", "ipv6"}}, {"two", "one", []string{"ipv4"}}}

func options(seed uint64) Options {
	o := Options{Pairs: pairs, Flows: map[string]int{}, Seed: seed, MTU: 1500}
	for _, kind := range Kinds {
		o.Flows[kind] = 60
	}
	return o
}

func TestDrawRepeats(t *testing.T) {
	require.Equal(t, Draw(options(3)), Draw(options(3)))
	require.NotEqual(t, Draw(options(3)), Draw(options(4)))
}

// TestDrawHasAll checks that nothing of what the documentation promises is never drawn.
func TestDrawHasAll(t *testing.T) {
	all := strings.Join(Draw(options(3)), "")
	for _, want := range []string{"> SYN\n    < RST,ACK", "> SYN x2", "> SYN\n    < SYN,ACK", " x2\n", "> FIN,ACK",
		"< RST,ACK seq=", "- udp: ", "reply: false", "reply: true", "dns: ", "rcode: NXDOMAIN", "chunk: shutdown}",
		"chunk: abort", "order: [", "unreachable port", "unreachable admin", "family: ipv6", "family: ipv4"} {
		require.True(t, strings.Contains(all, want), want)
	}
	require.True(t, regexp.MustCompile(`order: \[\d, \d, \d\]`).MatchString(all))
	require.True(t, regexp.MustCompile(`order: \[\d, \d, \d, \d\]`).MatchString(all))
}

// TestDrawKeepsOrder checks that a connection opens before it carries something.
func TestDrawKeepsOrder(t *testing.T) {
	opened, seen := map[string]bool{}, map[string]bool{}
	for _, s := range Draw(Options{Pairs: pairs, Flows: map[string]int{"tcp": 200}, Seed: 1, MTU: 1500}) {
		name, _, _ := strings.Cut(s, "\n")
		if strings.Contains(s, "> SYN") {
			require.False(t, seen[name], s)
			opened[name] = true
		}
		seen[name] = true
	}
	require.Greater(t, len(seen), 150)
	require.Greater(t, len(opened), 120)
}

func TestDrawShuffles(t *testing.T) {
	steps := Draw(options(3))
	kinds := 0 // how often the step is of another conversation than the one before
	for i := 1; i < len(steps); i++ {
		a, _, _ := strings.Cut(steps[i-1], "\n")
		if !strings.HasPrefix(steps[i], a) {
			kinds++
		}
	}
	require.Greater(t, kinds, len(steps)*9/10)
}

func TestDrawFitsMTU(t *testing.T) {
	o := options(3)
	o.MTU = 576
	for _, s := range Draw(o) {
		for _, size := range []string{" 512", " 800", " 1200", " 1400"} {
			require.NotContains(t, s, size)
		}
	}
}
