package outline

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
)

// TestOf makes the outlines of all scenarios.
func TestOf(t *testing.T) {
	jobs, err := suite.Find([]string{"../../scenarios"}, nil)
	require.NoError(t, err)
	all, err := Of(append(jobs, runner.Job{Name: "packets/vectors"}))
	require.NoError(t, err)
	require.Len(t, all, len(jobs))
	for name, o := range all {
		require.NotEmpty(t, o.Tags, name)
		require.NotEmpty(t, o.Chart.Items, name)
		for _, i := range o.Chart.Items {
			require.Less(t, i.To, len(o.Chart.Hosts), name)
		}
	}
	require.Contains(t, all["nat/snat"].Tags, "translation")
	require.Contains(t, all["lifecycle/pause"].Tags, "agent: pause")
	require.Positive(t, all["mix/everything"].Chart.More)
}
