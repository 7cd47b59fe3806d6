package spec_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
)

// TestWords checks that the words of the language are those of the packages that act on them.
// The language cannot import them: they import it.
func TestWords(t *testing.T) {
	words := spec.Words()
	require.ElementsMatch(t, golden.FreeNames(), words.Free)
	var reasons, states []string
	for _, r := range model.Reasons() {
		reasons = append(reasons, string(r))
	}
	require.ElementsMatch(t, reasons, words.Reasons)
	var leftOut []string
	for _, r := range model.LeftOutReasons() {
		leftOut = append(leftOut, string(r))
	}
	require.ElementsMatch(t, leftOut, words.LeftOut)
	for _, s := range conntrack.States() {
		states = append(states, s.String())
	}
	states = slices.DeleteFunc(states, func(s string) bool { return s == "none" })
	require.ElementsMatch(t, states, words.States)
	for kind, fields := range words.Layers {
		require.ElementsMatch(t, traffic.LayerFields(kind), fields, "layer %s", kind)
	}
	require.Len(t, words.Layers, len(traffic.LayerKinds()))
}
