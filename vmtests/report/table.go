package report

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weirnet/weir/sim/result"
)

// Limits of the terminal table, so that a bad day still fits on a few screens.
const (
	tableName    = 56 // widest scenario name
	tableColumn  = 16 // widest kernel line
	tableDetails = 20 // red results told in full
	tableDiff    = 14 // lines of differences of each
	tableConsole = 6  // lines of its console
)

// paint holds the escape sequences of the families of verdicts.
var paint = map[string]string{
	"pass": "\x1b[32m", "skip": "\x1b[2m", "none": "\x1b[2m", "bold": "\x1b[1m",
	"fail": "\x1b[1;31m", "kernel": "\x1b[1;35m", "harness": "\x1b[1;33m",
}

// table is a terminal table in the making.
type table struct {
	bytes.Buffer
	*matrix
	color bool
	name  int   // width of the names
	width []int // of the columns
}

// Table writes the matrix for a terminal: kernels across, scenarios down, one glyph per cell,
// then the totals and a legend of the glyphs in use, the red results in short, and as the last
// line the totals in words. With color it uses ANSI colours.
func Table(w io.Writer, r *result.Report, color bool) error {
	t := &table{matrix: newMatrix(r), color: color, name: len("scenario")}
	for _, row := range t.rows {
		t.name = max(t.name, utf8.RuneCountInString(shorten(row.name, tableName)))
	}
	for _, k := range t.kernels {
		t.width = append(t.width, max(4, utf8.RuneCountInString(shorten(k.Line, tableColumn))))
	}
	t.head()
	t.body()
	t.foot()
	t.legend()
	t.details()
	t.writeLists(&t.Buffer, "", func(s string) string { return oneLine(result.Printable(s)) })
	fmt.Fprintf(t, "in %s%s\n", duration(r.Millis), unavailable(r.Totals()))
	// Alone on its line, for programs that read it.
	fmt.Fprintln(t, t.in("bold", verdicts(r.Totals())))
	if _, err := w.Write(t.Bytes()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// in paints s in the colour of a family.
func (t *table) in(family, s string) string {
	if !t.color || s == "" {
		return s
	}
	return paint[family] + s + "\x1b[0m"
}

// line writes one line of the table. Cells are families and texts in turn.
func (t *table) line(family, name string, cells []string) {
	name = shorten(name, tableName)
	pad := strings.Repeat(" ", t.name-utf8.RuneCountInString(name))
	t.WriteString(t.in(family, name) + pad)
	for i, width := range t.width {
		family, text := cells[2*i], cells[2*i+1]
		pad := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
		t.WriteString("  " + pad + t.in(family, text))
	}
	t.WriteByte('\n')
}

// head writes the kernels.
func (t *table) head() {
	var cells []string
	for _, k := range t.kernels {
		cells = append(cells, "bold", shorten(k.Line, tableColumn))
	}
	t.line("bold", "scenario", cells)
}

// body writes the scenarios.
func (t *table) body() {
	for _, row := range t.rows {
		var cells []string
		for i, s := range row.cells {
			switch {
			case s != nil:
				l := lookOf(s.Verdict)
				cells = append(cells, l.Family, l.Glyph)
			case t.kernels[i].Unavailable != "":
				cells = append(cells, "harness", glyphUnavailable)
			default:
				cells = append(cells, "none", glyphNone)
			}
		}
		family := ""
		if row.red() {
			family = "bold"
		}
		t.line(family, row.name, cells)
	}
}

// foot writes the totals of the kernels.
func (t *table) foot() {
	for _, f := range []struct {
		name, family string
		count        func(counts) int
	}{
		{"passed", "pass", counts.passed},
		{"failed", "fail", counts.failed},
		{"skipped", "skip", counts.skipped},
	} {
		var cells []string
		sum := 0
		for _, k := range t.kernels {
			n := f.count(countsOf(k))
			sum += n
			if n == 0 {
				cells = append(cells, "none", glyphNone)
			} else {
				cells = append(cells, f.family, strconv.Itoa(n))
			}
		}
		if sum > 0 {
			t.line("none", f.name, cells)
		}
	}
	var cells []string
	for _, k := range t.kernels {
		cells = append(cells, "none", fmt.Sprintf("%.1fs", float64(k.Millis)/1000))
	}
	t.line("none", "time", cells)
}

// legend explains the glyphs that are in use.
func (t *table) legend() {
	used := counts{}
	none, unavailable := false, false
	for _, row := range t.rows {
		for i, s := range row.cells {
			switch {
			case s != nil:
				used[s.Verdict]++
			case t.kernels[i].Unavailable != "":
				unavailable = true
			default:
				none = true
			}
		}
	}
	var parts []string
	for _, l := range looks {
		if used[l.Verdict] > 0 {
			parts = append(parts, t.in(l.Family, l.Glyph)+" "+string(l.Verdict))
		}
	}
	if none {
		parts = append(parts, t.in("none", glyphNone)+" not planned")
	}
	if unavailable {
		parts = append(parts, t.in("harness", glyphUnavailable)+" no such kernel")
	}
	fmt.Fprintf(t, "\n%s\n\n", strings.Join(parts, "   "))
	if !unavailable && !t.anyUnavailable() {
		return
	}
	for _, k := range t.kernels {
		if k.Unavailable != "" {
			fmt.Fprintf(t, "%s kernel %s is unavailable: %s\n", t.in("harness", glyphUnavailable),
				result.Printable(k.Line), oneLine(result.Printable(k.Unavailable)))
		}
	}
	t.WriteByte('\n')
}

// anyUnavailable tells whether a kernel could not be had.
func (t *table) anyUnavailable() bool {
	for _, k := range t.kernels {
		if k.Unavailable != "" {
			return true
		}
	}
	return false
}

// details tells the red results in short.
func (t *table) details() {
	list := t.failures()
	for i, f := range list {
		if i == tableDetails {
			fmt.Fprintf(t, "[... %d more red results; the report page has them all]\n\n",
				len(list)-i)
			return
		}
		t.detail(f)
	}
}

// detail tells one red result.
func (t *table) detail(f failure) {
	s, l := f.scenario, lookOf(f.scenario.Verdict)
	title := fmt.Sprintf("%s %s", l.Glyph, s.Verdict)
	fmt.Fprintf(t, "%s %s on %s\n", t.in(l.Family, result.Printable(title)),
		t.in("bold", oneLine(result.Printable(s.Name))), oneLine(result.Printable(f.lines())))
	if s.Reason != "" {
		t.WriteString("    " + oneLine(result.Printable(s.Reason)) + "\n")
	}
	t.WriteString(indent(firstLines(diffText(s), tableDiff), "    "))
	if len(s.Differences) == 0 && s.Console != "" {
		tail := lastLines(result.Printable(unixLines(s.Console)), tableConsole)
		t.WriteString("    console:\n" + indent(tail, "      "))
	}
	if s.Reproduce != "" {
		t.WriteString("    reproduce: " + oneLine(result.Printable(s.Reproduce)) + "\n")
	}
	t.WriteByte('\n')
}

// shorten makes a name safe and at most limit characters wide. The end of a name tells most.
func shorten(name string, limit int) string {
	runes := []rune(oneLine(result.Printable(name)))
	if len(runes) <= limit {
		return string(runes)
	}
	return "…" + string(runes[len(runes)-limit+1:])
}
