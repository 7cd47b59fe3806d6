package report

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// clip shortens a log to about limit bytes. It keeps the beginning and, since the end of a log
// tells most, three times as much of the end.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	head, tail := limit/4, len(s)-(limit-limit/4)
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	if i := strings.LastIndexByte(s[:head], '\n'); i >= 0 {
		head = i + 1
	}
	if i := strings.IndexByte(s[tail:], '\n'); i >= 0 && tail+i+1 < len(s) {
		tail += i + 1
	}
	note := fmt.Sprintf("[... %d bytes left out; results.json has them ...]\n", tail-head)
	if head > 0 && s[head-1] != '\n' {
		note = "\n" + note
	}
	return s[:head] + note + s[tail:]
}

// unixLines ends lines as files do; a serial console ends them with a return as well.
func unixLines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

// firstLines returns the first n lines of s and a note on how many more there are.
func firstLines(s string, n int) string {
	lines := strings.SplitAfter(strings.TrimRight(s, "\n"), "\n")
	if len(lines) <= n {
		return s
	}
	return strings.Join(lines[:n], "") + fmt.Sprintf("[... %d more lines]\n", len(lines)-n)
}

// lastLines returns the last n lines of s that are not blank.
func lastLines(s string, n int) string {
	var lines []string
	for l := range strings.Lines(s) {
		if strings.TrimSpace(l) != "" {
			lines = append(lines, strings.TrimRight(l, "\n"))
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// indent puts prefix before every line of s that has text.
func indent(s, prefix string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		if strings.TrimSpace(l) != "" {
			b.WriteString(prefix)
		}
		b.WriteString(l)
	}
	if s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}

// oneLine folds s to one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
