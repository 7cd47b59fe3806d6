package coverage

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/runner"
)

const scenario = `summary: an agent is killed
matrix: {family: [ipv4, ipv6]}
topology:
  a: {eth0: [10.0.0.1/24, fd00::1/64]}
  b: {eth0: [10.0.0.2/24, fd00::2/64]}
  links: [a/eth0 - b/eth0]
agent: {on: [b/eth0]}
traffic:
  - udp: a:1 > b:2
    script: |
      > 1
  - agent: kill
  - agent: start
`

const expected = `flows:
  - {src: a:1, dst: b:2, proto: udp, packets: 1, bytes: 43, end: forced, state: unreplied, seen: [b/eth0 ingress]}
connections: []
labels: {}
counters:
  - {hook: b/eth0 ingress, seen: 2/86, accounted: 1/43, lost: {not-ip: 1/43}}
`

func TestTable(t *testing.T) {
	job := runner.Job{Name: "x", File: "x.yaml", Variant: "family=ipv4", Spec: []byte(scenario),
		GoldenFile: "x.yaml", Golden: []byte(expected)}
	other := job
	other.Variant = "family=ipv6"
	table, err := New([]runner.Job{job, other})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, table.Markdown(&b))
	page := b.String()
	require.Contains(t, page, "There are\n1 scenarios; counted with each combination of a `matrix:` apart, 2.")
	for _, row := range []string{"agent: kill", "agent: start", "lost: not-ip", "state: unreplied", "end: forced"} {
		require.Contains(t, page, "| "+row+" | udp 1 |  |  |")
	}
	require.NotContains(t, page, "agent: stop")
}
