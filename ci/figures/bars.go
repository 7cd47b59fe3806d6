package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// bar is something that weir holds itself to.
type bar struct {
	name string
	bar  string // as it is printed
	what string
	// usual tells whether it is measured when nobody chooses.
	usual   func(*options) bool
	measure func(*meter, context.Context) figure
}

const (
	matrixLimit = 120 * time.Second
	coldLimit   = 300 * time.Second
	oneLimit    = 3 * time.Second
	oneKernel   = "6.1"
	oneScenario = "^tcp/handshake-v4$"
)

func always(*options) bool { return true }

// bars are all of them.
var bars = slices.Concat(harnessBars, laneBars, exactBars, tableBars, speedBars, labelBars)

// harnessBars are about the harness, the quick ones first.
var harnessBars = []bar{
	{"bad-input", "0 wrong", "bad scenario files: one clear error each, exit code 2",
		always, (*meter).badInput},
	{"one-warm", "<= 3 s", "one scenario on one kernel, from command to verdict, kernel cached",
		always, (*meter).oneWarm},
	{"faults", "0 wrong", "the harness's own faults each get their verdict",
		always, (*meter).faultTests},
	{"matrix-warm", "<= 120 s", "all scenarios on all kernels, kernels cached",
		always, (*meter).matrixWarm},
	{"host-flakes", "0 red", "runs of all scenarios on this kernel, busy loops beside them",
		func(o *options) bool { return o.hostRuns > 0 }, (*meter).hostFlakes},
	{"matrix-flakes", "0 red", "runs of the matrix, busy loops beside them",
		func(o *options) bool { return o.matrixRuns > 0 }, (*meter).matrixFlakes},
	{"cold", "<= 300 s", "all scenarios on all kernels, nothing but the kernels' packages there",
		func(o *options) bool { return o.cold }, (*meter).coldRun},
}

// matrixArgs are the arguments that run all scenarios on all kernels.
func (m *meter) matrixArgs(more ...string) []string {
	return append([]string{"vm", "run", "--kernel", m.kernels, m.scenarios}, more...)
}

// matrixWarm measures `make vmtest` when everything is cached.
func (m *meter) matrixWarm(ctx context.Context) figure {
	if f, ok := m.warm(ctx, m.matrixArgs("--run", oneScenario)...); !ok {
		return f
	}
	r := m.judged(ctx, m.matrixArgs()...)
	return r.timed(matrixLimit)
}

// oneWarm measures one scenario on one kernel. All of its runs have to be fast enough.
func (m *meter) oneWarm(ctx context.Context) figure {
	args := []string{"vm", "run", "--kernel", oneKernel, "--run", oneScenario, m.scenarios}
	if f, ok := m.warm(ctx, args...); !ok {
		return f
	}
	var times []time.Duration
	for range m.oneRuns {
		o := m.weir(ctx, nil, args...)
		if o.code != result.ExitGood {
			return figure{text: seconds(o.took), verdict: short, note: "a run ended with " + o.String()}
		}
		times = append(times, o.took)
	}
	return atMost(slices.Max(times), oneLimit, "the slowest of %d runs; median %s",
		len(times), seconds(median(times)))
}

// coldRun measures the matrix with an empty cache. Fetching and unpacking are timed apart.
func (m *meter) coldRun(ctx context.Context) figure {
	dir, err := os.MkdirTemp("", "weir-figures-*")
	if err != nil {
		return notMeasured("%v", err)
	}
	defer os.RemoveAll(dir)
	cache := []string{"WEIR_CACHE=" + dir}
	lines := strings.Split(m.kernels, ",")
	pull := m.weir(ctx, cache, append([]string{"vm", "pull"}, lines...)...)
	if pull.code != result.ExitGood {
		return notMeasured("fetching the kernels ended with %s", pull)
	}
	r := m.judgedWith(ctx, cache, m.matrixArgs()...)
	f := r.timed(coldLimit)
	f.note += ", and before it " + seconds(pull.took) + " to fetch and unpack the kernels"
	return f
}

// hostFlakes runs all scenarios on this kernel again and again.
func (m *meter) hostFlakes(ctx context.Context) figure {
	if os.Getuid() != 0 {
		return notMeasured("running scenarios on this machine needs root")
	}
	return m.flakes(ctx, m.hostRuns, "sim", "run", m.scenarios)
}

func (m *meter) matrixFlakes(ctx context.Context) figure {
	if f, ok := m.warm(ctx, m.matrixArgs("--run", oneScenario)...); !ok {
		return f
	}
	return m.flakes(ctx, m.matrixRuns, m.matrixArgs()...)
}

var totals = regexp.MustCompile(`(?m)^(\d+) passed, (\d+) failed`)

// faultTests reads the last line of `weir vm selftest`.
func (m *meter) faultTests(ctx context.Context) figure {
	o := m.weir(ctx, nil, "vm", "selftest", "--kernel", m.faults)
	return judgeFaults(o, m.faults)
}

func judgeFaults(o outcome, kernels string) figure {
	found := totals.FindStringSubmatch(o.stdout)
	if found == nil {
		return notMeasured("the fault tests ended with %s", o)
	}
	var passed, failed int
	fmt.Sscan(found[1], &passed)
	fmt.Sscan(found[2], &failed)
	note := "on " + kernels
	for l := range strings.Lines(o.stdout) {
		if strings.Contains(l, "WRONG") {
			note += "; " + strings.Join(strings.Fields(l), " ")
			break
		}
	}
	f := none(failed, passed+failed, "wrong", note)
	if o.code != result.ExitGood || passed == 0 {
		f.verdict = short
	}
	return f
}
