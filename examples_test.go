package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
)

const examples = "docs/examples/scenarios"

// newRunner is skipped without root.
func newRunner(t *testing.T) *runner.Runner {
	kerneltest.NeedRoot(t)
	r, err := runner.New(runner.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// play runs a scenario, and skips the test with it.
func play(t *testing.T, r *runner.Runner, job runner.Job) result.Scenario {
	out := r.Run(t.Context(), job)
	if out.Verdict == result.Skip {
		t.Skip(out.Reason)
	}
	return out
}

// text is what differs, as a run prints it.
func text(t *testing.T, diffs []result.Difference) string {
	var b bytes.Buffer
	require.NoError(t, result.DiffText(&b, diffs))
	return b.String()
}

// TestExamples runs each scenario of the guide.
func TestExamples(t *testing.T) {
	jobs, err := suite.Find([]string{examples}, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(jobs), 12)
	r := newRunner(t)
	for _, job := range jobs {
		t.Run(job.Name, func(t *testing.T) {
			out := play(t, r, job)
			require.Equal(t, result.Pass, out.Verdict, "%s\n%s%s", out.Reason, text(t, out.Differences), out.AgentLog)
		})
	}
}

// TestGuideSoftflowd holds what the guide says that softflowd gets wrong against a run of it. How
// much is lost in its ring is up to its libpcap, and stands in the scenario alone.
func TestGuideSoftflowd(t *testing.T) {
	jobs, err := suite.Find([]string{filepath.Join(examples, "softflowd/defects.yaml")}, nil)
	require.NoError(t, err)
	job := jobs[0]
	all, _, ok := strings.Cut(string(job.Spec), "\nexpect:\n")
	require.True(t, ok, "the scenario ends with what is known")
	job.Spec = []byte(all + "\n")
	out := play(t, newRunner(t), job)
	require.Equal(t, result.Fail, out.Verdict, out.Reason)
	found := slices.DeleteFunc(out.Differences, func(d result.Difference) bool {
		return d.Record == "client:9 > server:9 udp"
	})
	shown := "```text\n" + text(t, found) + "```\n"
	require.True(t, strings.Contains(docs(t)["docs/scenarios.md"], shown), "the guide does not show:\n%s", shown)
}

// TestGuideMaps holds the errors of maps that the guide shows against runs.
func TestGuideMaps(t *testing.T) {
	jobs, err := suite.Find([]string{filepath.Join(examples, "softflowd/connection.yaml")}, nil)
	require.NoError(t, err)
	r, guide := newRunner(t), docs(t)["docs/scenarios.md"]
	for right, wrong := range map[string]string{
		"src: [":            "scr: [",
		"sourceIPv4Address": "sourceIPv4Adress",
		"src: [sourceIPv4A": "src: [protocolIdentifier, sourceIPv4A",
	} {
		job := jobs[0]
		job.Map = bytes.Replace(job.Map, []byte(right), []byte(wrong), 1)
		out := play(t, r, job)
		require.NotEqual(t, result.Pass, out.Verdict)
		assert.True(t, strings.Contains(guide, "\n"+out.Reason+"\n"), "the guide does not show:\n%s", out.Reason)
	}
}
