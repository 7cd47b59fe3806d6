package bpf

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// maxVerified is how many instructions the verifier may walk in each program.
const maxVerified = 10_000

func TestVerifierEffort(t *testing.T) {
	d := load(t, Options{Table: 64})
	walked, err := d.VerifierEffort()
	require.NoError(t, err)
	for name, n := range walked {
		t.Logf("%s: %d instructions", name, n)
		require.Positive(t, n)
		require.LessOrEqual(t, n, maxVerified, name)
	}
}

func TestProcessed(t *testing.T) {
	n, err := processed("stack depth 8\nprocessed 454 insns (limit 1000000) max_states_per_insn 0\n")
	require.NoError(t, err)
	require.Equal(t, 454, n)
	n, err = processed("insns processed 5719+387\nprocessed 6106 insns (limit 1000000) ...")
	require.NoError(t, err)
	require.Equal(t, 6106, n)
	_, err = processed("verification time 3 usec")
	require.Error(t, err)
}
