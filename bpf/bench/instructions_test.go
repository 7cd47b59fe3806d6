package bench

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// All kinds of packets get through. What they cost says nothing on a machine whose clock is no count.
func TestInstructions(t *testing.T) {
	kerneltest.NeedRoot(t)
	all, err := Instructions(1)
	require.NoError(t, err)
	require.Equal(t, []string{"feature/dns", "feature/dns-query", "feature/handshake", "feature/handshake-syn", "tcp4/hot",
		"tcp4/new", "tcp6/hot", "tcp6/new", "udp4/hot"}, slices.Sorted(maps.Keys(all)))
}
