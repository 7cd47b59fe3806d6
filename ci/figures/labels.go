package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// labelBars judge one run of the labeler's benchmarks, each by the median of its runs. All but
// those of files have 100 000 pods and 100 000 prefixes loaded.
var labelBars = []bar{
	goBench("label-flow", "LabelFlow/node", "ns/op", 400, 1, "ns", "labelling both ends of a flow of this node"),
	goBench("label-allocs", "LabelFlow/node", "allocs/op", 0, 1, "", "allocations for that"),
	goBench("label-any", "LabelFlow/anywhere", "ns/op", 400, 1, "ns",
		"labelling both ends of a flow between any two of all pods"),
	goBench("label-changes", "LabelFlowWhileChanging", "ns/op", 400, 1, "ns",
		"labelling both ends of a flow while 10 000 pods a second come or go"),
	{"label-absorbed", ">= 9900", "pods that come or go each second, taken in meanwhile", always, (*meter).absorbed},
	goBench("cloud4", "CloudLookup/v4", "ns/op", 60, 1, "ns", "looking up an IPv4 address's range"),
	goBench("cloud6", "CloudLookup/v6", "ns/op", 60, 1, "ns", "looking up an IPv6 address's range"),
	goBench("ranges-load", "LoadRanges", "ns/op", 300, 1e6, "ms", "reading the four providers' files"),
	goBench("ranges-memory", "LoadRanges", "B/op", 40, 1e6, "MB",
		"memory for that: all that is allocated, which the peak cannot exceed"),
}

// labelRuns is how often each benchmark runs.
const labelRuns = "5"

// goBench is a bar on a benchmark's figure in a unit of its own, told in a larger one.
func goBench(name, of, unit string, limit, scale float64, told, what string) bar {
	return bar{name, strings.TrimSpace(fmt.Sprintf("<= %.0f %s", limit, told)), what, always,
		func(m *meter, ctx context.Context) figure {
			got, err := m.labelling(ctx, of, unit)
			if err != nil {
				return notMeasured("%v", err)
			}
			return below(got/scale, limit, "", told)
		}}
}

// absorbed is the one figure that must be high. The churn has a clock of its own: a hundredth is
// what the benchmark's clock may run longer.
func (m *meter) absorbed(ctx context.Context) figure {
	got, err := m.labelling(ctx, "LabelFlowWhileChanging", "changes/s")
	if err != nil {
		return notMeasured("%v", err)
	}
	f := figure{text: fmt.Sprintf("%.0f", got), verdict: holds, note: "a second, of 10 000"}
	if got < 9900 {
		f.verdict = short
	}
	return f
}

// labelling is the median of what a benchmark gives.
func (m *meter) labelling(ctx context.Context, name, unit string) (float64, error) {
	if m.labels == nil {
		o := command(ctx, nil, "go", "test", "./agent/labeler", "-run=^$", "-count="+labelRuns,
			"-bench=^Benchmark(LabelFlow|LabelFlowWhileChanging|CloudLookup|LoadRanges)$")
		if o.code != result.ExitGood {
			return 0, fmt.Errorf("the benchmarks ended with %s", o)
		}
		m.labels = parseBenchmarks(o.stdout)
	}
	all := m.labels[name][unit]
	if len(all) == 0 {
		if name == "LoadRanges" {
			return 0, errors.New("needs the providers' own files: WEIR_CLOUD_RANGES names their folder")
		}
		return 0, fmt.Errorf("the benchmarks do not give %s of %s", unit, name)
	}
	return median(all), nil
}

// benchmarks are results by benchmark and unit.
type benchmarks map[string]map[string][]float64

// parseBenchmarks reads the lines "BenchmarkName-CPUS runs value unit value unit" of go test.
func parseBenchmarks(text string) benchmarks {
	all := benchmarks{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(words[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i >= 0 {
			name = name[:i]
		}
		if all[name] == nil {
			all[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil {
				all[name][words[i+1]] = append(all[name][words[i+1]], v)
			}
		}
	}
	return all
}
