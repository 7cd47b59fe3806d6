package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// Kernels writes the page of the documentation that says which kernels are supported: what ran on each, and
// what it does not have.
func Kernels(w io.Writer, r *result.Report) error {
	var b bytes.Buffer
	m := newMatrix(r)
	b.WriteString("# Kernels\n\n" +
		"<!-- Written by weir report kernels; run it again, do not edit. -->\n\n" +
		"Every scenario runs on every one of these kernels, in virtual machines, and must give the same golden file. " +
		"`make vmtest` does it again on your machine, and `weir report kernels out/report` then writes this page.\n\n")
	fmt.Fprintf(&b, "The run: %s, %s, in %s, by weir %s.\n\n", mdText(r.Command),
		r.Started.UTC().Format(time.DateOnly), duration(r.Millis), mdText(r.Weir))
	b.WriteString("| line | kernel | package | scenarios that passed | failed | skipped |" +
		" instructions walked by the verifier, at most |\n|---|---|---|--:|--:|--:|--:|\n")
	for _, k := range m.kernels {
		if k.Unavailable != "" {
			fmt.Fprintf(&b, "| `%s` | unavailable: %s | | | | | |\n", k.Line, mdText(k.Unavailable))
			continue
		}
		c := countsOf(k)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d | %d | %d | %s |\n", k.Line, mdText(k.Version), mdText(k.Package),
			c.passed(), c.failed(), c.skipped(), verified(k))
	}
	m.mdMissing(&b)
	m.mdRed(&b)
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the kernels: %w", err)
	}
	return nil
}

// absence is a reason to skip, and where.
type absence struct {
	reason             string
	kernels, scenarios []string
}

// absences gathers skipped scenarios by their reason.
func (m *matrix) absences() []absence {
	var all []absence
	for _, w := range m.rows {
		for i, s := range w.cells {
			if s == nil || s.Verdict != result.Skip {
				continue
			}
			at := slices.IndexFunc(all, func(a absence) bool { return a.reason == s.Reason })
			if at < 0 {
				at = len(all)
				all = append(all, absence{reason: s.Reason})
			}
			all[at].kernels = appendNew(all[at].kernels, m.kernels[i].Line)
			all[at].scenarios = appendNew(all[at].scenarios, w.name)
		}
	}
	return all
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// mdMissing writes what kernels do not have.
func (m *matrix) mdMissing(b *bytes.Buffer) {
	all := m.absences()
	if len(all) == 0 {
		return
	}
	b.WriteString("\n## What a kernel does not have\n\n| why | on | skipped |\n|---|---|---|\n")
	for _, a := range all {
		fmt.Fprintf(b, "| %s | %s | %s |\n", mdText(a.reason), mdText(strings.Join(a.kernels, ", ")),
			mdText(strings.Join(a.scenarios, ", ")))
	}
}

// mdRed writes what failed.
func (m *matrix) mdRed(b *bytes.Buffer) {
	all := m.failures()
	if len(all) == 0 {
		return
	}
	b.WriteString("\n## What failed\n\n| scenario | on | verdict | |\n|---|---|---|---|\n")
	for _, f := range all {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", mdText(f.scenario.Name), mdText(f.lines()),
			mdText(string(f.scenario.Verdict)), mdText(f.scenario.Reason))
	}
}
