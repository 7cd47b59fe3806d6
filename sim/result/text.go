package result

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// marks are the one-letter marks of the kinds of difference, as people know them from diff.
var marks = map[string]string{"missing": "-", "extra": "+", "duplicate": "=", "differs": "~"}

// DiffText writes differences as text for people: one heading for each run of differences of the
// same section and origin, one line per record, and want and got of every field that differs in
// columns. What would steer a terminal is written escaped. The error is the writer's.
func DiffText(w io.Writer, diffs []Difference) error {
	var b bytes.Buffer
	for len(diffs) > 0 {
		n := 1
		for n < len(diffs) && diffs[n].Section == diffs[0].Section &&
			diffs[n].Against == diffs[0].Against {
			n++
		}
		head(&b, diffs[:n])
		for _, d := range diffs[:n] {
			d.text(&b)
		}
		diffs = diffs[n:]
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write differences: %w", err)
	}
	return nil
}

// head writes the heading of differences that have section and origin in common.
func head(b *bytes.Buffer, diffs []Difference) {
	b.WriteString(line(diffs[0].Section))
	if diffs[0].Against != "" {
		fmt.Fprintf(b, " against %s", line(diffs[0].Against))
	}
	noun := "differences"
	if len(diffs) == 1 {
		noun = "difference"
	}
	fmt.Fprintf(b, ": %d %s\n", len(diffs), noun)
}

// text writes one difference, indented below its heading.
func (d Difference) text(b *bytes.Buffer) {
	mark, ok := marks[d.Kind]
	if !ok {
		mark = "?"
	}
	fmt.Fprintf(b, "  %s %-9s %s\n", mark, line(d.Kind), line(d.Record))
	var name, want int
	for _, f := range d.Fields {
		name = max(name, utf8.RuneCountInString(line(f.Name)))
		want = max(want, utf8.RuneCountInString(quoteEmpty(f.Want)))
	}
	for _, f := range d.Fields {
		fmt.Fprintf(b, "      %-*s  want %-*s  got %s", name, line(f.Name),
			want, quoteEmpty(f.Want), quoteEmpty(f.Got))
		if delta, ok := f.Delta(); ok {
			fmt.Fprintf(b, "  (%s)", delta)
		}
		b.WriteByte('\n')
	}
}

// Delta is got minus want with its sign, when both are whole numbers.
func (f Field) Delta() (string, bool) {
	want, err := strconv.ParseInt(f.Want, 10, 64)
	if err != nil {
		return "", false
	}
	got, err := strconv.ParseInt(f.Got, 10, 64)
	if err != nil || (got < 0) != (want < 0) { // of unlike signs the difference may overflow
		return "", false
	}
	return fmt.Sprintf("%+d", got-want), true
}

// quoteEmpty makes an absent value visible.
func quoteEmpty(s string) string {
	if s == "" {
		return "(none)"
	}
	return line(s)
}

// line is Printable text on a single line.
func line(s string) string { return strings.ReplaceAll(Printable(s), "\n", `\n`) }

// Printable returns s with everything that a terminal would obey rather than show written as an
// escape: control characters, escape sequences, direction overrides, broken UTF-8. Newlines and
// tabs stay.
func Printable(s string) string {
	if !needsEscape(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case shown(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// needsEscape tells whether Printable has anything to do.
func needsEscape(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !shown(r) {
			return true
		}
	}
	return false
}

// shown tells whether a terminal shows r as it is.
func shown(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) }
