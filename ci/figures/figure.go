package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// verdict says what a figure says about its bar.
type verdict string

const (
	holds   verdict = "holds"
	short   verdict = "falls short"
	unknown verdict = "not measured"
)

// figure is what was measured for a bar.
type figure struct {
	text    string // the figure as it is printed
	verdict verdict
	note    string // what was measured, or why not
}

// line is the printed form.
func (f figure) line(b bar) string {
	note := f.note
	if r := []rune(note); len(r) > noteLimit {
		note = string(r[:noteLimit-1]) + "…"
	}
	return fmt.Sprintf("%-14s %-14s %-10s %-12s  %s", b.name, f.text, b.bar, f.verdict, note)
}

// noteLimit bounds a note, in characters: an error of the verifier can be in it.
const noteLimit = 160

// notMeasured is for what this machine cannot do.
func notMeasured(format string, args ...any) figure {
	return figure{text: "-", verdict: unknown, note: fmt.Sprintf(format, args...)}
}

// atMost judges a time, of something that went well.
func atMost(took, limit time.Duration, format string, args ...any) figure {
	f := figure{text: seconds(took), verdict: holds, note: fmt.Sprintf(format, args...)}
	if took > limit {
		f.verdict = short
	}
	return f
}

// none judges a count of what should not happen, out of n.
func none(bad, n int, what, note string) figure {
	f := figure{text: fmt.Sprintf("%d of %d %s", bad, n, what), verdict: holds, note: note}
	if bad > 0 {
		f.verdict = short
	}
	return f
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// median is the middle one of figures, the lower one of two.
func median[T cmp.Ordered](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)/2]
}
