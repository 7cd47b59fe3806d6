package doctor

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

func TestNote(t *testing.T) {
	require.Equal(t, Finding{Check: "a", OK: true}, Note("a", "so", nil))
	require.Equal(t, Finding{Check: "a", Detail: "no", Consequence: "so"}, Note("a", "so", errors.New("no")))
}

// TestExamine checks that what fails says what follows, and that root can run the agent.
func TestExamine(t *testing.T) {
	kerneltest.OfKernel()
	seen := map[string]bool{}
	for _, f := range Examine() {
		require.False(t, seen[f.Check], f.Check)
		seen[f.Check] = true
		if !f.OK {
			require.NotEmpty(t, f.Detail, f.Check)
			require.NotEmpty(t, f.Consequence, f.Check)
		}
		if f.Needed && os.Geteuid() == 0 {
			require.True(t, f.OK, "%+v", f)
		}
	}
	require.True(t, seen["datapath"] && seen["cap_bpf"])
}
