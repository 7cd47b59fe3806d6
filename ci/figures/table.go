package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// expiring is how many connections expire at once.
const expiring = 4 << 20

// tableBars are about the connection table as it grows.
var tableBars = []bar{
	ratio("collect", "collect/524288/alike", 0.25,
		"collecting the half of 524 288 connections that has expired, over batches and single deletions of as many entries"),
	{"expired-gone", "<= 30 s", "after it has expired a connection is gone, of 4 194 304 in an agent with its own pace",
		always, (*meter).expired},
	{"resident", "<= 60 MB", "memory of the agent's process without a connection; each of a million then adds up to 200 bytes",
		always, (*meter).resident},
	{"count", "<= 1.50x", "how full the tables are, asked of 4 194 304 connections, over 1 000",
		always, (*meter).count},
	{"resize", "0 lost", "resizes of 500 000 connections, while two CPUs send as fast as they can",
		always, (*meter).resize},
}

var goneAfter = regexp.MustCompile(`(\d+) connections were gone ([\d.]+) s after`)

// expired runs a test of the agent with many connections.
func (m *meter) expired(ctx context.Context) figure {
	o, bad := goTest(ctx, "-run=^TestExpiredAreGone$", "-v", "-patience=2m", "-expired.interval=5s", "-expired="+strconv.Itoa(expiring))
	if bad != nil {
		return *bad
	}
	return judgeExpired(o)
}

func judgeExpired(o outcome) figure {
	found := goneAfter.FindStringSubmatch(o.stdout)
	if found == nil || found[1] != strconv.Itoa(expiring) {
		return notMeasured("the test says nothing: %s", o)
	}
	s, _ := strconv.ParseFloat(found[2], 64) // digits
	f := below(s, 30, " s", seconds(o.took)+" in all")
	f.text = found[2] + " s"
	return f
}

var idleMemory = regexp.MustCompile(`idle, 0 connections: ([\d.]+) MB resident`)

// resident runs the agent with a million connections. The test fails when it takes too much.
func (m *meter) resident(ctx context.Context) figure {
	o, bad := goTest(ctx, "-run=^TestResident$", "-v", "-patience=2m", "-resident=1000000")
	if bad != nil {
		return *bad
	}
	return judgeResident(o)
}

func judgeResident(o outcome) figure {
	found := idleMemory.FindStringSubmatch(o.stdout)
	if found == nil {
		return notMeasured("the test says nothing: %s", o)
	}
	mb, _ := strconv.ParseFloat(found[1], 64) // digits
	f := below(mb, 60, " MB", seconds(o.took)+" in all")
	f.text = found[1] + " MB"
	return f
}

func (m *meter) count(ctx context.Context) figure {
	o, bad := goTest(ctx, "-run=^$", "-bench=^BenchmarkTableStats$", "-benchtime=10000x")
	if bad != nil {
		return *bad
	}
	return judgeCount(parseBenchmarks(o.stdout))
}

func judgeCount(all benchmarks) figure {
	few, many := all["TableStats/1000"]["ns/op"], all["TableStats/4194304"]["ns/op"]
	if len(few) == 0 || len(many) == 0 {
		return notMeasured("the benchmark gives no figures")
	}
	return below(median(many)/median(few), 1.5, "x", fmt.Sprintf("%.0f over %.0f ns", median(many), median(few)))
}

// resizes is how often tables change their size.
const resizes = 4

func (m *meter) resize(ctx context.Context) figure {
	o, bad := goTest(ctx, "-run=^$", "-bench=^BenchmarkResizeUnderLoad$", "-patience=2m", "-benchtime="+strconv.Itoa(resizes)+"x")
	if bad != nil {
		return *bad
	}
	return judgeResize(parseBenchmarks(o.stdout))
}

// judgeResize: the benchmark fails when a packet is missing or a connection has not gone on.
func judgeResize(all benchmarks) figure {
	rate, took := all["ResizeUnderLoad"]["packets/s"], all["ResizeUnderLoad"]["s/resize"]
	if len(rate) == 0 || len(took) == 0 {
		return notMeasured("the benchmark gives no figures")
	}
	return none(0, resizes, "lost", fmt.Sprintf("%.1f s each, %.0f packets/s meanwhile", median(took), median(rate)))
}

// goTest runs tests of the agent, and says if they do not pass.
func goTest(ctx context.Context, args ...string) (outcome, *figure) {
	if os.Getuid() != 0 {
		bad := notMeasured("network namespaces need root")
		return outcome{}, &bad
	}
	o := command(ctx, nil, "go", append([]string{"test", "./agent", "-count=1", "-timeout=30m"}, args...)...)
	return o, failedTest(o)
}

func failedTest(o outcome) *figure {
	bad := notMeasured("the test ended with %s", o)
	switch {
	case o.code == result.ExitGood:
		return nil
	case strings.Contains(o.stdout, "--- FAIL: "):
		bad = figure{text: "failed", verdict: short, note: o.String()}
	}
	return &bad
}
