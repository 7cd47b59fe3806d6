package runner

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// asRunner is the environment variable that makes the test binary a runner that plays a scenario
// until it is killed.
const asRunner = "WEIR_TEST_RUNNER"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "agent":
		c := agent.Command()
		c.SetArgs(os.Args[2:])
		exitWith(c.ExecuteContext(context.Background()))
	case os.Getenv(asRunner) != "":
		exitWith(playOn())
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestProbe(t *testing.T) {
	r := newRunner(t)
	require.NoError(t, r.Probe())
	require.Len(t, r.features, len(agent.Features()))
}

const stageText = `summary: datagrams
topology:
  client: {eth0: [10.0.0.1/24]}
  server: {eth0: [10.0.0.2/24]}
  links: [client/eth0 - server/eth0]
`

const twoDatagrams = stageText + `agent: {on: [server/eth0]}
traffic:
  - udp: client:5353 > server:53
    script: |
      > 40
      > 40
`

func newRunner(t *testing.T) *Runner {
	t.Helper()
	kerneltest.NeedRoot(t)
	r, err := New(Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func job(text string) Job {
	return Job{Name: "udp/two", File: "udp/two.yaml", Spec: []byte(text),
		GoldenFile: "golden/udp/two.yaml"}
}

func TestRun(t *testing.T) {
	r := newRunner(t)
	j := job(twoDatagrams)

	out := r.Run(t.Context(), j)
	require.Equal(t, result.Fail, out.Verdict)
	require.Contains(t, out.Reason, "there is no golden file")
	require.NotEmpty(t, out.Golden)
	require.Empty(t, out.Differences)
	require.Equal(t, uint64(2), out.Packets)
	require.Equal(t, "datagrams", out.Summary)
	require.NotEmpty(t, out.AgentLog)

	j.Golden = []byte(out.Golden)
	first := out
	out = r.Run(t.Context(), j)
	require.Equal(t, result.Pass, out.Verdict, out.Reason)

	j.Golden = []byte(strings.Replace(first.Golden, "packets: 2", "packets: 3", 1))
	out = r.Run(t.Context(), j)
	require.Equal(t, result.Fail, out.Verdict)
	require.Equal(t, first.Golden, out.Golden, "the golden file is wrong, not the run")
	require.Len(t, out.Differences, 1)
	d := out.Differences[0]
	require.Equal(t, "golden", d.Against)
	require.Equal(t, []result.Field{{Name: "packets", Want: "3", Got: "2"}}, d.Fields)
}

func TestExpectationsAreNotUpdatedAway(t *testing.T) {
	r := newRunner(t)
	j := job(twoDatagrams + "expect: {counters: {seen: 3, accounted: 2}}\n")
	out := r.Run(t.Context(), j)
	require.Equal(t, result.Fail, out.Verdict)
	require.Empty(t, out.Golden, "nothing to write")
	require.Equal(t, "differences: 1 from the invariant", out.Reason)
	require.Equal(t, []result.Field{{Name: "packets", Want: "3", Got: "2"}}, out.Differences[0].Fields)
}

// What a scenario sets reaches the agent and the model alike.
func TestSettings(t *testing.T) {
	for settings, want := range map[string]spec.Agent{
		"": {MidStream: true, Sample: 1},
		", mid_stream: false, tunnels: [gre, ipip], table: 7, sample: 9": {
			Tunnels: []string{model.GRE, model.IPIP}, Table: 7, Sample: 9},
		", filters: {default: reject, rules: [{action: accept, dst_port: 53}]}": {
			MidStream: true, Sample: 1, Filters: agent.Filters{Default: "reject",
				Rules: []agent.FilterRule{{Action: "accept", DstPort: "53"}}}},
	} {
		text := strings.Replace(twoDatagrams, "on: [server/eth0]", "on: [server/eth0]"+settings, 1)
		sc, err := spec.Parse("x.yaml", []byte(text))
		require.NoError(t, err)
		sc.Agent.On = nil // they need a topology
		p := &play{sc: sc}
		cfg := p.config()
		m, err := p.modelConfig()
		require.NoError(t, err)
		require.Equal(t, want.Sample, cfg.Sample)
		require.Equal(t, want.Sample, m.Sample)
		require.Equal(t, want.Filters, cfg.Filters)
		filter, err := want.Filters.Compile()
		require.NoError(t, err)
		require.Equal(t, filter, m.Filter)
		require.Equal(t, want.MidStream, cfg.MidStream)
		require.Equal(t, want.MidStream, m.MidStream)
		require.Equal(t, want.Tunnels, cfg.Tunnels)
		require.Equal(t, want.Tunnels, m.Tunnels)
		require.Equal(t, want.Table, m.Table)
	}
}

func TestBadJobs(t *testing.T) {
	r := newRunner(t)
	out := r.Run(t.Context(), job("summary: x\n"))
	require.Equal(t, result.Error, out.Verdict)
	require.Contains(t, out.Reason, "udp/two.yaml:1:1:")

	j := job(twoDatagrams)
	j.Golden = []byte("flows: 7\n")
	out = r.Run(t.Context(), j)
	require.Equal(t, result.Error, out.Verdict)
	require.Contains(t, out.Reason, "golden/udp/two.yaml:1:")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, result.Error, r.Run(ctx, job(twoDatagrams)).Verdict)
}

const killed = stageText + `agent: {on: [server/eth0]}
traffic:
  - udp: client:5353 > server:53
    script: |
      > 40
  - agent: kill
  - udp: client:5353 > server:53
    script: |
      > 40
  - agent: start
`

// playOn runs a scenario with an agent process again and again.
func playOn() error {
	r, err := New(Options{})
	if err != nil {
		return err
	}
	for {
		if out := r.Run(context.Background(), job(killed)); out.Verdict == result.Error {
			return fmt.Errorf("%s", out.Reason)
		}
	}
}

// traces lists what runners with this process id have on this machine.
func traces(t *testing.T, pid int) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		fmt.Sprintf("/run/netns/weir-%d-*", pid), fmt.Sprintf("/run/weir/weir-%d-*", pid),
		fmt.Sprintf("/sys/fs/bpf/weir-scenario-%d-*", pid),
		filepath.Join(os.TempDir(), fmt.Sprintf("weir-scenario-%d-*", pid)),
	} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		all = append(all, found...)
	}
	return all
}

// TestKilledRunnerLeavesNothing kills a runner in the middle of a scenario, with pinned tables, and
// makes a new one.
func TestKilledRunnerLeavesNothing(t *testing.T) {
	newRunner(t)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asRunner+"=1")
	var log strings.Builder
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	pinned := func() bool {
		return strings.Contains(strings.Join(traces(t, pid), " "), "/sys/fs/bpf/")
	}
	require.Eventually(t, pinned, 20*time.Second, time.Millisecond, "the runner pins its tables: %s", &log)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // tells that it was killed
	require.NotEmpty(t, traces(t, pid), log.String())

	newRunner(t)
	require.Empty(t, traces(t, pid))
}
