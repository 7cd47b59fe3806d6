package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
)

// TestTree: the scenarios of this repository are examples to others.
func TestTree(t *testing.T) {
	jobs, err := suite.Find([]string{"../../scenarios"}, nil)
	require.NoError(t, err)
	problems, err := Check(jobs)
	require.NoError(t, err)
	require.Empty(t, problems)
}

const head = `summary: a test
topology:
  client: {eth0: [10.0.0.1/24]}
  router: {forward: true, eth0: [10.0.0.254/24], eth1: [10.0.1.254/24], eth2: [10.0.2.254/24]}
  server: {eth0: [10.0.1.1/24]}
  idle: {eth0: [10.0.2.1/24]}
  links: [client/eth0 - router/eth0, router/eth1 - server/eth0, router/eth2 - idle/eth0]
`

func TestCheck(t *testing.T) {
	const used = "  - udp: client:1 > idle:2\n    script: |\n      > 1\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"sound": {head + "agent: {on: [router/eth0]}\ntraffic:\n" + used +
			"  - udp: client:1 > server:2\n    script: |\n      > 1\n", nil},
		"does not parse": {strings.Replace(head, "topology", "topolgy", 1) +
			"agent: {on: [server/eth0]}\ntraffic: [{advance: 1s}]\n",
			[]string{`x.yaml:2:1: topolgy: unknown key in a scenario; did you mean "topology"?`}},
		"two mistakes": {head + "agent: {on: [servr/eth0], hok: tc}\ntraffic: [{advance: 1s}]\n",
			[]string{`x.yaml:8:27: hok: unknown key in the agent; did you mean "hook"?`}},
		"not to be built": {head + "agent: {on: [server/eth0]}\ntraffic:\n" +
			"  - packet: client:1 > server:2\n    layers: [udp, {payload: 3000}]\n",
			[]string{`x.yaml:10: traffic: a frame of 3042 bytes does not fit through client/eth0`}},
		"nobody can see it": {head + "agent: {on: [server/eth0]}\ntraffic:\n" + used +
			"  - udp: client:1 > server:2\n    script: |\n      > 1\n",
			[]string{"x.yaml:10: warning: traffic: no hook can see this step: the agent watches server/eth0 only"}},
		"takes no part": {head + "agent: {on: [server/eth0]}\ntraffic:\n" +
			"  - udp: client:1 > server:2\n    script: |\n      > 1\n",
			[]string{"x.yaml:4: warning: eth2: no frame passes router/eth2",
				"x.yaml:6: warning: idle: no frame passes this host"}},
		"kernels answer": {head + "agent: {on: [server/eth0]}\ntraffic:\n" +
			"  - socket: tcp client > server:2\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			problems, err := Check([]runner.Job{{Name: "x", File: "x.yaml", Spec: []byte(tc.text),
				GoldenFile: "golden/x.yaml", Golden: []byte("flows: []\nconnections: []\nlabels: {}\ncounters: []\n")}})
			require.NoError(t, err)
			require.Len(t, problems, len(tc.want), "%v", problems)
			for i, p := range problems {
				require.Contains(t, p.String(), tc.want[i])
			}
		})
	}
}

// TestGoldens: files without a scenario, that cannot be read, and that are not there.
func TestGoldens(t *testing.T) {
	t.Chdir(t.TempDir())
	scenario := []byte(`summary: a datagram
topology:
  client: {eth0: [10.0.0.1/24]}
  server: {eth0: [10.0.0.2/24]}
  links: [client/eth0 - server/eth0]
agent: {on: [server/eth0]}
traffic:
  - udp: client:1 > server:2
    script: |
      > 1
`)
	for file, text := range map[string]string{"scenarios/a.yaml": string(scenario),
		"scenarios/b.yaml": string(scenario), "golden/a.yaml": "flows: [{scr: x}]\n", "golden/gone.yaml": "flows: []\n"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	jobs, err := suite.Find(nil, nil)
	require.NoError(t, err)
	problems, err := Check(jobs)
	require.NoError(t, err)
	require.Len(t, problems, 3, "%v", problems)
	require.Equal(t, "golden/a.yaml", problems[0].File)
	require.Equal(t, Error, problems[0].Level)
	require.NotZero(t, problems[0].Line, "%v", problems)
	require.Equal(t, "golden/gone.yaml: warning: no scenario has this golden file; "+
		"weir sim golden clean removes it", problems[1].String())
	require.Equal(t, "scenarios/b.yaml: warning: it has no golden file; "+
		"weir sim golden update b writes it", problems[2].String())
}
