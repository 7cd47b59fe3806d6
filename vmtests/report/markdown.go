package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// Limits of the Markdown summary: a step summary on GitHub may be 1 MiB.
const (
	markdownOpen    = 40        // matrices with more rows are folded
	markdownDetails = 60        // red results told
	markdownDiff    = 60        // lines of differences of each
	markdownConsole = 25        // lines of its console
	markdownSize    = 900 << 10 // bytes after which details stop
)

// Markdown writes a summary for CI: how it went, the kernels, the matrix, and the red results
// with their differences. It stays below the size that step summaries may have.
func Markdown(w io.Writer, r *result.Report) error {
	var b bytes.Buffer
	m := newMatrix(r)
	mark := "✓"
	if r.Totals().Failed > 0 || slices.ContainsFunc(r.Kernels, func(k result.Kernel) bool { return len(k.Drift) > 0 }) {
		mark = "✗"
	}
	fmt.Fprintf(&b, "## %s weir: %s\n\n", mark, headline(r))
	fmt.Fprintf(&b, "%s · weir %s · %s\n\n", duration(r.Millis), mdText(r.Weir), mdText(r.Command))
	m.mdKernels(&b)
	m.mdCrashes(&b)
	m.mdDrift(&b)
	m.writeLists(&b, "- ", mdText)
	m.mdMatrix(&b)
	m.mdDetails(&b)
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}

// mdKernels writes the table of the kernels.
func (m *matrix) mdKernels(b *bytes.Buffer) {
	b.WriteString("| kernel | version | accel | boot | verified | total | passed | failed | skipped |\n" +
		"|---|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, k := range m.kernels {
		if k.Unavailable != "" {
			fmt.Fprintf(b, "| **%s** | unavailable: %s | | | | | | | |\n",
				mdText(k.Line), mdText(k.Unavailable))
			continue
		}
		boot := ""
		if k.BootMillis > 0 {
			boot = duration(k.BootMillis)
		}
		c := countsOf(k)
		fmt.Fprintf(b, "| **%s** | %s | %s | %s | %s | %s | %d | %d | %d |\n", mdText(k.Line),
			mdText(k.Version), mdText(lane(k)), boot, verified(k), duration(k.Millis),
			c.passed(), c.failed(), c.skipped())
	}
	b.WriteByte('\n')
}

// mdCrashes says which kernels have not booted at once.
func (m *matrix) mdCrashes(b *bytes.Buffer) {
	for _, k := range m.kernels {
		if n := len(k.BootCrashes); n > 0 {
			fmt.Fprintf(b, "- %s crashed while booting, %d×\n", mdText(k.Line), n)
		}
	}
}

// mdDrift lists what costs more or less than the baseline says.
func (m *matrix) mdDrift(b *bytes.Buffer) {
	for _, k := range m.kernels {
		for _, d := range k.Drift {
			fmt.Fprintf(b, "- ✗ cost on %s: %s\n", mdText(k.Line), mdText(d))
		}
	}
	b.WriteByte('\n')
}

// verified is the most that the verifier has walked for one program, in instructions.
func verified(k *result.Kernel) string {
	if len(k.Verified) == 0 {
		return ""
	}
	return strconv.Itoa(slices.Max(slices.Collect(maps.Values(k.Verified))))
}

// mdMatrix writes the matrix, folded when it is long.
func (m *matrix) mdMatrix(b *bytes.Buffer) {
	if len(m.rows) == 0 {
		return
	}
	fold := len(m.rows) > markdownOpen
	if fold {
		fmt.Fprintf(b, "<details><summary>All %d scenarios</summary>\n\n", len(m.rows))
	}
	b.WriteString("| scenario |")
	for _, k := range m.kernels {
		b.WriteString(" " + mdText(k.Line) + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat(":-:|", len(m.kernels)) + "\n")
	for _, w := range m.rows {
		if b.Len() > markdownSize {
			b.WriteString("\nThe rest is left out; results.json has it.\n")
			break
		}
		b.WriteString("| " + mdText(w.name) + " |")
		for i, s := range w.cells {
			b.WriteString(" " + mdCell(s, m.kernels[i]) + " |")
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	if fold {
		b.WriteString("</details>\n\n")
	}
}

// mdCell is one cell of the matrix: red ones say their verdict.
func mdCell(s *result.Scenario, k *result.Kernel) string {
	switch {
	case s == nil && k.Unavailable != "":
		return glyphUnavailable
	case s == nil:
		return glyphNone
	case s.Verdict.Red():
		return "**" + lookOf(s.Verdict).Glyph + " " + mdText(string(s.Verdict)) + "**"
	case s.Verdict == result.Skip:
		return "skip"
	}
	return lookOf(s.Verdict).Glyph
}

// mdDetails writes the red results.
func (m *matrix) mdDetails(b *bytes.Buffer) {
	list := m.failures()
	for i, f := range list {
		if i == markdownDetails || b.Len() > markdownSize {
			fmt.Fprintf(b, "%d more red results are left out; the report page has them all.\n",
				len(list)-i)
			return
		}
		s := f.scenario
		fmt.Fprintf(b, "### %s %s: %s on %s\n\n", lookOf(s.Verdict).Glyph,
			mdText(string(s.Verdict)), mdText(s.Name), mdText(f.lines()))
		if s.Reason != "" {
			b.WriteString(mdText(s.Reason) + "\n\n")
		}
		fence(b, "", clip(firstLines(diffText(s), markdownDiff), 20<<10))
		if len(s.Differences) == 0 {
			tail := lastLines(result.Printable(unixLines(s.Console)), markdownConsole)
			fence(b, "", clip(tail, 20<<10))
		}
		if s.Reproduce != "" {
			fence(b, "sh", oneLine(result.Printable(s.Reproduce)))
		}
	}
}

// fence writes text as a code block that no line of the text can end.
func fence(b *bytes.Buffer, language, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	ticks := "```"
	for strings.Contains(text, ticks) {
		ticks += "`"
	}
	fmt.Fprintf(b, "%s%s\n%s\n%s\n\n", ticks, language, strings.TrimRight(text, "\n"), ticks)
}

// mdText escapes s for a line or a table cell of Markdown.
func mdText(s string) string {
	var b strings.Builder
	for _, r := range oneLine(result.Printable(s)) {
		switch r {
		case '<':
			b.WriteString("&lt;")
			continue
		case '&':
			b.WriteString("&amp;")
			continue
		case '@': // no one is to be notified by a scenario's name
			b.WriteString("&#64;")
			continue
		case '\\', '`', '*', '_', '[', ']', '|', '>', '~', '#':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
