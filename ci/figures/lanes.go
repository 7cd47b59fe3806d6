package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// exactScenarios are of what could differ from run to run: ids drawn at random, a sweep, a router, real
// sockets of the guest's kernel, and a fault that is put right.
const exactScenarios = "^(tcp/handshake-v4|tcp/real-reset.*|udp/one-way|l3/routed|dns/no-response)$"

// smpScenarios are those in which CPUs can get in each other's way.
const smpScenarios = "^(load|tcp|lifecycle|sample|fragments)(/|$)"

// laneBars are about machines other than the usual ones.
var laneBars = []bar{
	{"exact", "0 differ", "runs of exact machines: results that are the same, byte for byte, on every kernel",
		func(o *options) bool { return o.exactRuns > 0 }, (*meter).exact},
	{"smp", "0 red", "scenarios on kernels with two CPUs",
		always, (*meter).smp},
}

// exact runs the same scenarios in exact machines again and again, and compares what comes out.
func (m *meter) exact(ctx context.Context) figure {
	first := map[string][]byte{} // by kernel
	differ := map[string]int{}
	for i := range m.exactRuns {
		r := m.judged(ctx, "vm", "run", "--exact", "--kernel", m.kernels, "--run", exactScenarios, m.scenarios)
		switch {
		case ctx.Err() != nil:
			return notMeasured("interrupted after %d runs", i)
		case r.report == nil || r.code != result.ExitGood:
			return figure{text: "-", verdict: short, note: fmt.Sprintf("run %d: %s", i+1, strings.Join(r.reds(), ", "))}
		}
		for _, k := range r.report.Kernels {
			got, err := json.Marshal(k.Scenarios)
			if err != nil {
				return notMeasured("%v", err)
			}
			if first[k.Line] == nil {
				first[k.Line] = got
			} else if !bytes.Equal(got, first[k.Line]) {
				differ[k.Line]++
			}
		}
	}
	return judgeExact(m.exactRuns, first, differ)
}

func judgeExact(runs int, first map[string][]byte, differ map[string]int) figure {
	bad, note := 0, fmt.Sprintf("%d runs of %d kernels", runs, len(first))
	var lines []string
	for line, n := range differ {
		bad += n
		lines = append(lines, fmt.Sprintf("%s: %d", line, n))
	}
	if len(lines) > 0 {
		slices.Sort(lines)
		note += "; differ on " + strings.Join(lines, ", ")
	}
	if runs < 2 || len(first) == 0 {
		return notMeasured("%s: nothing to compare", note)
	}
	return none(bad, runs*len(first), "differ", note)
}

// smp runs a part of the scenarios in machines of two CPUs.
func (m *meter) smp(ctx context.Context) figure {
	r := m.judged(ctx, "vm", "run", "--smp", "2", "--kernel", m.kernels, "--run", smpScenarios, m.scenarios)
	if r.report == nil {
		return notMeasured("%s", r.outcome)
	}
	t := r.report.Totals()
	f := none(t.Failed, t.Passed+t.Failed, "red", r.scope())
	if r.code != result.ExitGood {
		f.verdict, f.note = short, f.note+": "+strings.Join(r.reds(), ", ")
	}
	return f
}
