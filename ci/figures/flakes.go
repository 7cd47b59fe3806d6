package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// flakes runs a command n times beside busy loops and counts the runs that are not green.
func (m *meter) flakes(ctx context.Context, n int, args ...string) figure {
	if n == 0 {
		return notMeasured("no runs were asked for")
	}
	stop, err := startBusy(m.busy)
	if err != nil {
		return notMeasured("start busy loops: %v", err)
	}
	defer stop()
	bad, reds := 0, map[string]int{}
	var total time.Duration
	for i := range n {
		r := m.judged(ctx, args...)
		if ctx.Err() != nil {
			return notMeasured("interrupted after %d runs, %d of them red", i, bad)
		}
		total += r.took
		if r.code == result.ExitGood {
			continue
		}
		bad++
		for _, s := range r.reds() {
			reds[s]++
		}
		fmt.Fprintf(m.progress, "that was run %d of %d\n", i+1, n)
	}
	note := fmt.Sprintf("%d busy loops beside, %s a run", m.busy, seconds(total/time.Duration(n)))
	return none(bad, n, "red", note+listed(reds))
}

// listed names what was red, the most frequent first.
func listed(reds map[string]int) string {
	const most = 5
	names := make([]string, 0, len(reds))
	for name, n := range reds {
		names = append(names, fmt.Sprintf("%d x %s", n, name))
	}
	if len(names) == 0 {
		return ""
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := reds[a[strings.Index(a, " x ")+3:]], reds[b[strings.Index(b, " x ")+3:]]
		if x != y {
			return y - x
		}
		return strings.Compare(a, b)
	})
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d more", len(names)-most))
	}
	return ": " + strings.Join(names, ", ")
}
