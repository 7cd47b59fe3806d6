package report

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func TestKernels(t *testing.T) {
	r := small()
	r.Command, r.Weir, r.Started = "weir vm run", "v1", time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	r.Kernels[0].Version, r.Kernels[0].Package = "5.10.0-42", "linux-image 5.10.9-1"
	r.Kernels[0].Verified = map[string]int{"a": 7, "b": 9}
	for i := range 2 {
		r.Kernels[i].Scenarios = append(r.Kernels[i].Scenarios,
			result.Scenario{Name: "device/netkit", Verdict: result.Skip, Reason: "no netkit"},
			result.Scenario{Name: "device/tun", Verdict: result.Skip, Reason: "no tun"})
	}
	require.Equal(t, "# Kernels\n\n"+
		"<!-- Written by weir report kernels; run it again, do not edit. -->\n\n"+
		"Every scenario runs on every one of these kernels, in virtual machines, and must give the same golden file. "+
		"`make vmtest` does it again on your machine, and `weir report kernels out/report` then writes this page.\n\n"+
		`The run: weir vm run, 2026-03-14, in 1 min 01 s, by weir v1.

| line | kernel | package | scenarios that passed | failed | skipped | instructions walked by the verifier, at most |
|---|---|---|--:|--:|--:|--:|
| `+"`5.10`"+` | 5.10.0-42 | linux-image 5.10.9-1 | 1 | 1 | 2 | 9 |
| `+"`newest`"+` |  |  | 0 | 1 | 2 |  |
| `+"`rc`"+` | unavailable: not in the archive | | | | | |

## What a kernel does not have

| why | on | skipped |
|---|---|---|
| no netkit | 5.10, newest | device/netkit |
| no tun | 5.10, newest | device/tun |

## What failed

| scenario | on | verdict | |
|---|---|---|---|
| tcp/close | newest | panic | kernel panic |
| tcp/reset | 5.10 | fail | one flow differs |
`, render(t, Kernels, r))
}
