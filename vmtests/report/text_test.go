package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// small is a report whose table fits into a test.
func small() *result.Report {
	return &result.Report{Millis: 61_500, Kernels: []result.Kernel{
		{Line: "5.10", Millis: 1200, Scenarios: []result.Scenario{
			{Name: "tcp/close", Verdict: result.Pass},
			{Name: "tcp/reset", Verdict: result.Fail, Reason: "one flow differs",
				Reproduce: "weir vm run --kernel 5.10 --run tcp/reset",
				Differences: []result.Difference{{Section: "flows", Against: "golden",
					Kind: "differs", Record: "{src: client:40000}",
					Fields: []result.Field{{Name: "packets", Want: "3", Got: "2"}}}}},
		}},
		{Line: "newest", Millis: 900, Scenarios: []result.Scenario{
			{Name: "tcp/close", Verdict: result.Panic, Reason: "kernel panic",
				Console: "one\r\n\r\ntwo\r\n"},
		}},
		{Line: "rc", Unavailable: "not in the archive"},
	}}
}

func TestTable(t *testing.T) {
	got := render(t, func(w io.Writer, r *result.Report) error { return Table(w, r, false) }, small())
	require.Equal(t, `scenario   5.10  newest    rc
tcp/close     ✓       P     ∅
tcp/reset     ✗       ·     ∅
passed        1       ·     ·
failed        1       1     ·
time       1.2s    0.9s  0.0s

✓ pass   ✗ fail   P panic   · not planned   ∅ no such kernel

∅ kernel rc is unavailable: not in the archive

P panic tcp/close on newest
    kernel panic
    console:
      one
      two

✗ fail tcp/reset on 5.10
    one flow differs
    flows against golden: 1 difference
      ~ differs   {src: client:40000}
          packets  want 3  got 2  (-1)
    reproduce: weir vm run --kernel 5.10 --run tcp/reset

tcp/close: pass on 5.10, first panic on newest

in 1 min 01 s, 1 kernel unavailable
1 passed, 2 failed
`, got)
}

func TestTableColor(t *testing.T) {
	got := render(t, renderers["color table"], small())
	require.Contains(t, got, "\x1b[1;31m✗\x1b[0m")
	require.Contains(t, got, "\x1b[1;35mP\x1b[0m")
	plain := got
	for _, p := range paint {
		plain = strings.ReplaceAll(plain, p, "")
	}
	require.Equal(t, render(t, renderers["table"], small()),
		strings.ReplaceAll(plain, "\x1b[0m", ""))
}

func TestTableBounds(t *testing.T) {
	got := render(t, renderers["table"], large(1, 100))
	require.Contains(t, got, "[... 100 more red results; the report page has them all]")
	require.Less(t, strings.Count(got, "\n"), 700)
	require.True(t, strings.HasSuffix(got, "in 1 min 23 s\n0 passed, 840 failed\n"))
}

// TestTerminalIsSafe: no text of a scenario steers the terminal.
func TestTerminalIsSafe(t *testing.T) {
	require.NotContains(t, render(t, renderers["table"], evil()), "\x1b")
	require.NotContains(t, render(t, renderers["annotations"], evil()), "\x1b")
}

func TestFailuresShareKernels(t *testing.T) {
	got := render(t, renderers["table"], sample())
	require.Equal(t, 1, strings.Count(got, "✗ fail tcp/handshake-v4 on 6.1, 6.12\n"))
}

func TestJUnit(t *testing.T) {
	var all junitSuites
	text := render(t, JUnit, sample())
	require.NoError(t, xml.Unmarshal([]byte(text), &all))
	require.Len(t, all.Suites, 7)
	require.Equal(t, []int{145, 8, 3, 1},
		[]int{all.Tests, all.Failures, all.Errors, all.Skipped})
	require.Equal(t, "83.412", all.Time)

	s := all.Suites[1]
	require.Equal(t, "kernel 6.1", s.Name)
	require.Equal(t, "2026-03-14T15:09:26", s.Timestamp)
	require.Equal(t, []junitProperty{
		{"kernel", "6.1.0-51-amd64"}, {"package", "linux-image-6.1-amd64 6.1.42-1"},
		{"sha256", strings.Repeat("11", 32)}, {"accel", "tcg"},
	}, s.Properties)

	byName := map[string]junitCase{}
	for i, s := range all.Suites {
		for _, c := range s.Cases {
			byName[fmt.Sprintf("%d %s", i, c.Name)] = c
		}
	}
	fail := byName["1 tcp/handshake-v4"]
	require.Equal(t, "scenarios/tcp/handshake-v4.yaml", fail.File)
	require.Equal(t, "fail", fail.Failure.Type)
	require.Contains(t, fail.Failure.Text, "packets  want 6                      got 5  (-1)\n")
	require.Contains(t, fail.Failure.Text, "reproduce: weir vm run --kernel 6.1")
	require.Contains(t, fail.Out, "agent started")
	require.Equal(t, "panic", byName["3 lifecycle/adopt"].Failure.Type)
	require.Contains(t, byName["3 lifecycle/adopt"].Err, "Kernel panic")
	require.Nil(t, byName["4 udp/one-way"].Failure)
	require.Equal(t, "corrupt", byName["4 udp/one-way"].Error.Type)
	require.Equal(t, "needs feature tcx, from kernel 6.6 on", byName["0 l2/qinq"].Skipped.Message)
	require.Contains(t, byName["6 kernel available"].Error.Message, "no package")
	require.Nil(t, byName["0 tcp/close"].Failure)
	require.Empty(t, byName["0 tcp/close"].Out)
}

func TestJUnitHostile(t *testing.T) {
	var all junitSuites
	require.NoError(t, xml.Unmarshal([]byte(render(t, JUnit, evil())), &all))
	require.Len(t, all.Suites, 2)
	require.True(t, strings.HasPrefix(all.Suites[0].Cases[0].Name, "</script><script>"))
}

func TestMarkdown(t *testing.T) {
	got := render(t, Markdown, sample())
	require.Contains(t, got, "- 6.1 crashed while booting, 1×\n")
	for _, want := range []string{
		"## ✗ weir: 133 passed, 10 failed, 1 skipped, 1 kernel unavailable\n",
		"| **6.12** | 6.12.94+deb13-amd64 | tcg | 2.9 s | 9000 | 14.1 s | 23 | 1 | 0 |\n",
		"| tcp/handshake-v4 | ✓ | **✗ fail** | **✗ fail** | ✓ | ✓ | ✓ | ∅ |\n",
		"### ✗ fail: tcp/handshake-v4 on 6.1, 6.12\n",
		"  - missing   {src: server:80",
		"### P panic: lifecycle/adopt on 6.18\n\nNULL pointer dereference in htab\\_map",
		"```sh\nweir vm run --kernel 6.18 --run '^lifecycle/adopt$'\n```\n",
	} {
		require.Contains(t, got, want)
	}
	require.NotContains(t, got, "<details>")
	good := render(t, Markdown, large(0, 100))
	require.Contains(t, good, "## ✓ weir: 840 passed, 0 failed\n")
	require.Contains(t, good, "<details><summary>All 120 scenarios</summary>")
}

func TestMarkdownHostile(t *testing.T) {
	for l := range strings.Lines(render(t, Markdown, evil())) {
		if strings.HasPrefix(l, "|") {
			require.NotContains(t, l, "<")
			require.NotContains(t, l, "@")
			require.NotContains(t, strings.ReplaceAll(l, "\\`", ""), "`")
		}
	}
	var b strings.Builder
	r := &result.Report{Kernels: []result.Kernel{{Scenarios: []result.Scenario{{
		Name: "x", Verdict: result.Panic, Console: "```\n# heading\n````"}}}}}
	require.NoError(t, Markdown(&b, r))
	require.Contains(t, b.String(), "`````\n```\n# heading\n````\n`````\n")
}

func TestMarkdownSize(t *testing.T) {
	require.Less(t, len(render(t, Markdown, large(1, 50_000))), 1<<20)
}

func TestAnnotations(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(render(t, Annotations, small())), "\n")
	require.Equal(t, []string{
		"::warning title=kernel rc is unavailable::not in the archive",
		"::error file=scenarios/tcp/close.yaml,title=panic%3A tcp/close on newest::kernel panic",
		"::error file=scenarios/tcp/reset.yaml,title=fail%3A tcp/reset on 5.10::one flow differs" +
			"%0Aflows against golden: 1 difference%0A  ~ differs   {src: client:40000}" +
			"%0A      packets  want 3  got 2  (-1)" +
			"%0Areproduce: weir vm run --kernel 5.10 --run tcp/reset",
	}, lines)
	for l := range strings.Lines(render(t, Annotations, evil())) {
		require.Regexp(t, `^::(error file=[^:,]*,|warning )title=[^:,]*::`, l)
		require.True(t, utf8.ValidString(l))
	}
}
