package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/spelling"
)

// Error is one mistake in a scenario file, with its place.
type Error struct {
	File   string
	Line   int    // from 1; 0 when the mistake is the file as a whole
	Column int    // from 1, in characters
	Key    string // the offending key, or "" when there is none
	Msg    string // what is wrong
	Hint   string // what would be right, or ""
}

// Error is "file:line:column: key: what is wrong; what would be right".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Msg)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Errors is several mistakes of one file, in file order. Each is an *Error.
type Errors []*Error

// Error has one line for each mistake.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As and errors.Is see each mistake.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// maxErrors bounds a report: whoever gets more has the wrong file, not ten typing mistakes.
const maxErrors = 10

// list collects mistakes while a file is read.
type list struct {
	lines []string // the text, for scripts
	file  string
	errs  Errors
}

// add notes a mistake.
func (l *list) add(n *node, msg, hint string) {
	l.errs = append(l.errs,
		&Error{File: l.file, Line: n.line, Column: n.column, Key: n.key, Msg: msg, Hint: hint})
}

// addOnce notes a mistake unless the same words are noted already: a misspelt host that ten
// steps name is one mistake.
func (l *list) addOnce(n *node, msg, hint string) {
	if !slices.ContainsFunc(l.errs, func(e *Error) bool { return e.Msg == msg }) {
		l.add(n, msg, hint)
	}
}

// in says of all mistakes in which variant they are.
func (l *list) in(variant string) *list {
	for _, e := range l.errs {
		if variant != "" {
			e.Msg += fmt.Sprintf(" (in the variant %s)", variant)
		}
	}
	return l
}

// err is nil, one *Error, or Errors.
func (l *list) err() error {
	slices.SortStableFunc(l.errs, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	switch {
	case len(l.errs) == 0:
		return nil
	case len(l.errs) == 1:
		return l.errs[0]
	}
	return l.errs[:min(len(l.errs), maxErrors)]
}

// suggest is a hint: the nearest of the known words when one is near, else all of them.
func suggest(word string, known []string) string {
	if near := spelling.Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	return "known: " + strings.Join(known, ", ")
}
