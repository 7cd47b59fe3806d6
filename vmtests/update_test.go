package vmtests

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

func TestAgreed(t *testing.T) {
	wants := func(golden string) *result.Scenario {
		return &result.Scenario{Verdict: result.Fail, Golden: golden}
	}
	skip := &result.Scenario{Verdict: result.Skip}
	cases := map[string]struct {
		all  []*result.Scenario
		text string
	}{
		"nothing ran":         {nil, ""},
		"only skipped":        {[]*result.Scenario{skip}, ""},
		"one kernel":          {[]*result.Scenario{wants("a")}, "a"},
		"two, and one skips":  {[]*result.Scenario{wants("a"), skip, wants("a")}, "a"},
		"two that differ":     {[]*result.Scenario{wants("a"), wants("b")}, ""},
		"one is broken":       {[]*result.Scenario{wants("a"), wants("")}, ""},
		"one passes as it is": {[]*result.Scenario{wants("a"), {Verdict: result.Pass}}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text, ok := agreed(c.all)
			require.Equal(t, c.text, text)
			require.Equal(t, c.text != "", ok)
		})
	}
}

// A kernel with a golden file of its own does not have to agree with the others.
func TestUpdateKernelGolden(t *testing.T) {
	dir := t.TempDir()
	job := runner.Job{Name: "udp/x", GoldenFile: filepath.Join(dir, "x.yaml")}
	on := func(kernel, golden string) result.Kernel {
		return result.Kernel{Scenarios: []result.Scenario{
			{Name: "udp/x", Verdict: result.Fail, Golden: golden, GoldenKernel: kernel}}}
	}
	r := &result.Report{Kernels: []result.Kernel{on("", "all"), on("5.10", "own"), on("", "all")}}
	require.NoError(t, update(r, []runner.Job{job}))
	for file, want := range map[string]string{"x.yaml": "all", "x@5.10.yaml": "own"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	require.Equal(t, result.Totals{Passed: 3}, r.Totals())
}
