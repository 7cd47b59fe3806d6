package suite

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// excepted is varied with a golden file of one kernel's own.
const excepted = varied + `expect:
  golden: [{kernel: "5.10", reason: x, link: "https://example.com/1", until: 2099-01-31}]
`

// A kernel's own golden file is found, written and kept beside that of all.
func TestKernelGoldens(t *testing.T) {
	tree(t, map[string]string{"scenarios/icmp/ping.yaml": excepted})
	all, err := Find(nil, nil)
	require.NoError(t, err)
	require.NoError(t, WriteGolden(all[0], "", "all"))
	require.NoError(t, WriteGolden(all[0], "5.10", "own"))
	require.NoError(t, WriteGolden(all[2], "5.10", "six"))
	all, err = Find(nil, nil)
	require.NoError(t, err)
	for i, want := range []string{"own", "own", "six", "six"} {
		require.Equal(t, "all", string(all[i].Golden))
		require.Equal(t, want, string(all[i].KernelGoldens["5.10"].Data))
	}
	require.Equal(t, "golden/icmp/ping[family=ipv6]@5.10.yaml", all[2].KernelGoldens["5.10"].File)
	require.NoError(t, WriteGolden(all[2], "5.10", "own"), "it agrees, so it needs none of its own")
	orphans, err := Orphans(all)
	require.NoError(t, err)
	require.Empty(t, orphans)
	all, err = Find(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "golden/icmp/ping@5.10.yaml", all[2].KernelGoldens["5.10"].File)
}

// A golden file of a kernel for which there is no exception belongs to nobody.
func TestOrphansOfKernels(t *testing.T) {
	tree(t, map[string]string{
		"scenarios/icmp/ping.yaml": excepted,
		"golden/icmp/ping.yaml":    "g", "golden/icmp/ping@5.10.yaml": "g", "golden/icmp/ping[family=ipv6]@5.10.yaml": "g",
		"golden/icmp/ping@6.1.yaml": "g", "golden/icmp/ping[sample=4]@5.10.yaml": "g", "golden/icmp/pong@5.10.yaml": "g",
	})
	jobs, err := Find(nil, nil)
	require.NoError(t, err)
	orphans, err := Orphans(jobs)
	require.NoError(t, err)
	require.Equal(t, []string{"golden/icmp/ping@6.1.yaml", "golden/icmp/ping[sample=4]@5.10.yaml", "golden/icmp/pong@5.10.yaml"},
		orphans)
}
