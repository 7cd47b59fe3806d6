package bpf

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMilestones goes from the size of a table to its entries and back.
func TestMilestones(t *testing.T) {
	for size := 1; size < 300_000; size++ {
		require.Equal(t, size, withoutMilestones(size+milestones(size)))
	}
}
