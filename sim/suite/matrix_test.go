package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const varied = `summary: x
matrix: {family: [ipv4, ipv6], hook: [tcx, tc]}
topology:
  client: {eth0: [10.0.0.1/24, "fd00::1/64"]}
  server: {eth0: [10.0.0.2/24, "fd00::2/64"]}
  links: [client/eth0 - server/eth0]
agent: {on: [server/eth0]}
traffic: [ping: client > server]
`

// A scenario with a matrix is one job for each combination. They share a golden file until one
// differs in what may differ.
func TestFindVariants(t *testing.T) {
	tree(t, map[string]string{"scenarios/icmp/ping.yaml": varied})
	all, err := Find(nil, nil)
	require.NoError(t, err)
	require.NoError(t, Check(all))
	require.Equal(t, []string{"icmp/ping[family=ipv4,hook=tcx]", "icmp/ping[family=ipv4,hook=tc]",
		"icmp/ping[family=ipv6,hook=tcx]", "icmp/ping[family=ipv6,hook=tc]"}, names(all))

	for i, text := range []string{"four", "four", "six", "six"} {
		require.NoError(t, WriteGolden(all[i], "", text))
	}
	files, err := filepath.Glob("golden/icmp/*")
	require.NoError(t, err)
	require.Equal(t, []string{"golden/icmp/ping.yaml", "golden/icmp/ping[family=ipv6].yaml"}, files)
	all, err = Find(nil, nil)
	require.NoError(t, err)
	for i, want := range []string{"four", "four", "six", "six"} {
		require.Equal(t, want, string(all[i].Golden), all[i].Name)
	}
	require.NoError(t, WriteGolden(all[2], "", "four"))
	_, err = os.Stat("golden/icmp/ping[family=ipv6].yaml")
	require.ErrorIs(t, err, os.ErrNotExist, "it agrees, so it needs none of its own")

	for _, i := range []int{0, 2, 0} { // the first one's is the file of all, whoever was there before
		require.NoError(t, WriteGolden(all[i], "", names(all)[i]))
	}
	text, err := os.ReadFile("golden/icmp/ping.yaml")
	require.NoError(t, err)
	require.Equal(t, all[0].Name, string(text))
	text, err = os.ReadFile("golden/icmp/ping[family=ipv6].yaml")
	require.NoError(t, err)
	require.Equal(t, all[2].Name, string(text))
}

// A golden file of a variant that is no more belongs to nobody.
func TestOrphansOfVariants(t *testing.T) {
	tree(t, map[string]string{
		"scenarios/icmp/ping.yaml": varied, "scenarios/icmp/broken.yaml": "summary: [",
		"golden/icmp/ping.yaml": "g", "golden/icmp/ping[family=ipv6].yaml": "g",
		"golden/icmp/ping[sample=4].yaml": "g", "golden/icmp/pong[family=ipv6].yaml": "g",
		"golden/icmp/broken[family=ipv6].yaml": "g",
	})
	jobs, err := Find(nil, nil)
	require.NoError(t, err)
	orphans, err := Orphans(jobs)
	require.NoError(t, err)
	require.Equal(t, []string{"golden/icmp/ping[sample=4].yaml", "golden/icmp/pong[family=ipv6].yaml"},
		orphans)
}
