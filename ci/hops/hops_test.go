package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	costs, page := filepath.Join(dir, "costs.yaml"), filepath.Join(dir, "page.md")
	require.NoError(t, os.WriteFile(costs, []byte(`"6.12": {instructions: {hop/tcx: 22.1, tcp4/hot: 400}}
"6.1": {instructions: {hop/tc: 16}}
`), 0o600))
	require.NoError(t, os.WriteFile(page, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600))
	const measured = `{"machine": {"cpu": "CPU", "kernel": "6.18"}, "rounds": 15, "figures": [
		{"name": "tcp4/hot", "ours": {"median": 90}}, {"name": "hop/tc/8", "ours": {"median": 1.64}},
		{"name": "hop/tc/30", "ours": {"median": 7}}, {"name": "hop/tcx/8", "missing": "no tcx"}]}`
	for range 2 { // it can be written anew
		require.NoError(t, write(strings.NewReader(measured), costs, page))
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		require.Equal(t, "before\n"+begin+`| backend | ns, of 8 members | ns, of 30 members | 6.1 | 6.12 |
|---|--:|--:|--:|--:|
| `+"`tc`"+` | 1.6 | 7.0 | 16 |  |
| `+"`tcx`"+` | not here |  |  | 22 |

ns: CPU, Linux 6.18, the median of 15 rounds. The others: instructions of the machine, by kernel.
`+end+"after\n", string(text))
	}
	require.NoError(t, os.WriteFile(page, []byte("before\n"), 0o600))
	require.ErrorContains(t, write(strings.NewReader(measured), costs, page), "page.md: want the lines")
	require.ErrorContains(t, write(strings.NewReader(""), costs, page), "read what was measured")
}
