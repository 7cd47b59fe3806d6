package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/report"
)

// judgement is a run with its report.
type judgement struct {
	outcome
	report *result.Report // nil: none was written
}

// judged runs a command that judges scenarios.
func (m *meter) judged(ctx context.Context, args ...string) judgement {
	return m.judgedWith(ctx, nil, args...)
}

func (m *meter) judgedWith(ctx context.Context, env []string, args ...string) judgement {
	dir, err := os.MkdirTemp("", "weir-figures-*")
	if err != nil {
		return judgement{outcome: outcome{code: -1, stderr: err.Error()}}
	}
	defer os.RemoveAll(dir)
	j := judgement{outcome: m.weir(ctx, env, append(args, "--report", dir)...)}
	if r, err := report.Read(filepath.Join(dir, report.ResultsFile)); err == nil {
		j.report = r
	}
	if ctx.Err() == nil {
		m.explain(j)
	}
	return j
}

// explain tells on the progress why a run is not green.
func (m *meter) explain(j judgement) {
	if j.code == result.ExitGood {
		return
	}
	fmt.Fprintf(m.progress, "not green, exit code %d\n", j.code)
	if j.report == nil {
		fmt.Fprintln(m.progress, "  "+j.outcome.String())
		return
	}
	n := 0
	for _, k := range j.report.Kernels {
		for _, s := range k.Scenarios {
			if !s.Verdict.Red() {
				continue
			}
			if n++; n <= explained {
				fmt.Fprintf(m.progress, "  %s on %s: %s: %s\n", s.Name, k.Line, s.Verdict, s.Reason)
			}
		}
	}
	if n > explained {
		fmt.Fprintf(m.progress, "  and %d more\n", n-explained)
	}
}

// explained bounds the red results of a run that are told on the progress.
const explained = 10

// warm fills the caches by a run of one scenario, for each build of weir makes snapshots of its
// own. A run that fails at that is a figure already.
func (m *meter) warm(ctx context.Context, args ...string) (figure, bool) {
	j := m.judged(ctx, args...)
	if j.harness() {
		return figure{text: "-", verdict: short,
			note: "the run that fills the caches: " + strings.Join(j.reds(), ", ")}, false
	}
	return figure{}, true
}

// timed judges the time of a run, which must be green.
func (j judgement) timed(limit time.Duration) figure {
	f := atMost(j.took, limit, "%s", j.scope())
	if j.code != result.ExitGood {
		f.verdict = short
		f.note = j.scope() + ": " + strings.Join(j.reds(), ", ")
	}
	return f
}

// scope says how much ran.
func (j judgement) scope() string {
	if j.report == nil {
		return "there is no report"
	}
	t := j.report.Totals()
	return fmt.Sprintf("%d kernels, %d passed, %d failed, %d skipped, %d kernels unavailable",
		len(j.report.Kernels)-t.Unavailable, t.Passed, t.Failed, t.Skipped, t.Unavailable)
}

// reds names what was not green.
func (j judgement) reds() []string {
	var names []string
	if j.report != nil {
		for _, k := range j.report.Kernels {
			for _, s := range k.Scenarios {
				if s.Verdict.Red() {
					names = append(names, fmt.Sprintf("%s on %s (%s)", s.Name, k.Line, s.Verdict))
				}
			}
		}
	}
	if names == nil {
		names = []string{j.outcome.String()}
	}
	return names
}
