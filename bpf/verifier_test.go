package bpf

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// maxVerified is how many instructions the verifier may walk in each program.
const maxVerified = 10_000

func TestVerifierEffort(t *testing.T) {
	d := load(t, Options{Table: maxScanned}) // with the scan programs
	walked, err := d.VerifierEffort()
	require.NoError(t, err)
	for name, n := range walked {
		t.Logf("%s: %d instructions", name, n)
		require.Positive(t, n)
		require.LessOrEqual(t, n, maxVerified, name)
	}
}
