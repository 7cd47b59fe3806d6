package runner

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// A tolerance lets a difference pass, and says so; one that is not needed is told as well.
func TestTolerance(t *testing.T) {
	r := newRunner(t)
	golden := r.Run(t.Context(), job(twoDatagrams)).Golden
	j := job(twoDatagrams + "expect: {tolerate: [{field: packets, within: 1, reason: so it is}, " +
		"{field: bytes, within: 2%, reason: so it is}]}\n")
	j.Golden = []byte(strings.Replace(golden, "packets: 2", "packets: 3", 1))
	out := r.Run(t.Context(), j)
	require.Equal(t, result.Pass, out.Verdict, out.Reason)
	require.Len(t, out.Notes, 2)
	require.Contains(t, out.Notes[0], "tolerated: packets of flows {src: client:5353")
	require.Contains(t, out.Notes[0], "want 3, got 2, within 1: so it is")
	require.Equal(t, "not needed here: the tolerance of bytes within 2%", out.Notes[1])

	j.Golden = []byte(strings.Replace(golden, "packets: 2", "packets: 4", 1))
	out = r.Run(t.Context(), j)
	require.Equal(t, result.Fail, out.Verdict)
	require.Len(t, out.Differences, 1)
}

// A kernel's own golden file judges there in the place of that of all, as long as it has to.
func TestKernelGolden(t *testing.T) {
	r := newRunner(t)
	golden := r.Run(t.Context(), job(twoDatagrams)).Golden
	other := strings.Replace(golden, "packets: 2", "packets: 3", 1)
	kernel, err := release()
	require.NoError(t, err)
	line := regexp.MustCompile(`^[0-9]+\.[0-9]+`).FindString(kernel)
	on := func(line, until string) string {
		return fmt.Sprintf("expect: {golden: [{kernel: %q, reason: it counts otherwise, link: \"https://example.com/1\", until: %s}]}\n",
			line, until)
	}
	today, yesterday := time.Now().UTC().Format(time.DateOnly), time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	for name, c := range map[string]struct {
		line, until, all, own string
		verdict               result.Verdict
		reason                string
		writes                bool
	}{
		"its own fits":         {line, today, other, golden, result.Pass, "", false},
		"there is none of all": {line, today, "", golden, result.Pass, "", false},
		"its own does not fit": {line, today, "", other, result.Fail, "differences: 1 from the golden", true},
		"not written yet":      {line, today, other, "", result.Fail, "there is no golden file; write it with --update", true},
		"that of all fits": {line, today, golden, other, result.Fail, "fits the golden file of all kernels, although " + line +
			" has its own: it counts otherwise (https://example.com/1); take that out of expect.golden", false},
		"its day is over": {line, yesterday, other, golden, result.Fail, "the golden file of " + line + " was good until " + yesterday +
			": it counts otherwise (https://example.com/1)", false},
		"of another kernel": {"1.0", yesterday, golden, other, result.Pass, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			j := job(twoDatagrams + on(c.line, c.until))
			j.Golden = []byte(c.all)
			if c.own != "" {
				j.KernelGoldens = map[string]GoldenFile{c.line: {File: "golden/udp/two@.yaml", Data: []byte(c.own)}}
			}
			out := r.Run(t.Context(), j)
			require.Equal(t, c.verdict, out.Verdict, out.Reason)
			require.Equal(t, c.reason, out.Reason)
			require.Equal(t, c.writes, out.Golden != "")
			if c.line == line {
				require.Equal(t, line, out.GoldenKernel)
				require.Contains(t, out.Notes, fmt.Sprintf("%s has a golden file of its own until %s: it counts otherwise (https://example.com/1)",
					line, c.until))
			} else {
				require.Empty(t, out.Notes)
			}
		})
	}
}
