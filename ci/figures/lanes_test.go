package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// reporting is a fake that writes a report with this result of one scenario on one kernel.
func reporting(t *testing.T, run string) *meter {
	m := fake(t, `for dir; do :; done; mkdir -p "$dir"
n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n + 1)) > "$0.n"
verdict=pass; ms=7
`+run+`
echo '{"schema_version": 1, "started": "2026-01-01T00:00:00Z", "ms": 1, "command": "weir", "weir": "v1",
	"kernels": [{"line": "6.1", "ms": 1, "scenarios": [{"name": "x", "verdict": "'$verdict'", "ms": '$ms'}]}]}' \
	> "$dir/results.json"
[ $verdict = pass ]`)
	m.exactRuns = 3
	return m
}

func TestExactRuns(t *testing.T) {
	same := reporting(t, "").exact(t.Context())
	require.Equal(t, "0 of 3 differ", same.text, same.note)
	require.Equal(t, holds, same.verdict)
	other := reporting(t, "[ $n != 1 ] || ms=8").exact(t.Context())
	require.Equal(t, "1 of 3 differ", other.text)
	require.Equal(t, short, other.verdict)
	require.Contains(t, other.note, "differ on 6.1: 1")
	require.Equal(t, short, reporting(t, "[ $n != 2 ] || verdict=fail").exact(t.Context()).verdict)
	require.Equal(t, short, fake(t, "exit 3").exactOnce(t).verdict)
	one := reporting(t, "")
	one.exactRuns = 1
	require.Equal(t, unknown, one.exact(t.Context()).verdict, "one run shows nothing")
}

// exactOnce asks for one run.
func (m *meter) exactOnce(t *testing.T) figure {
	m.exactRuns = 1
	return m.exact(t.Context())
}

func TestSMP(t *testing.T) {
	f := reporting(t, "").smp(t.Context())
	require.Equal(t, "0 of 1 red", f.text)
	require.Equal(t, holds, f.verdict)
	require.Equal(t, short, reporting(t, "verdict=splat").smp(t.Context()).verdict)
	require.Equal(t, unknown, fake(t, "exit 3").smp(t.Context()).verdict)
}
