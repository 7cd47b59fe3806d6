package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/bench"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

func TestChoose(t *testing.T) {
	var speed []string
	for _, b := range slices.Concat(exactBars, tableBars, speedBars, labelBars) {
		speed = append(speed, b.name)
	}
	for name, c := range map[string]struct {
		args, want []string
	}{
		"usual": {nil, slices.Concat([]string{"bad-input", "one-warm", "faults", "matrix-warm",
			"host-flakes", "matrix-flakes", "exact", "smp"}, speed)},
		"cold": {[]string{"--cold"}, slices.Concat([]string{"bad-input", "one-warm", "faults",
			"matrix-warm", "host-flakes", "matrix-flakes", "cold", "exact", "smp"}, speed)},
		"without the long ones": {[]string{"--host-runs=0", "--matrix-runs=0", "--exact-runs=0"},
			slices.Concat([]string{"bad-input", "one-warm", "faults", "matrix-warm", "smp"}, speed)},
		"one":          {[]string{"--only", "bad-input"}, []string{"bad-input"}},
		"two":          {[]string{"--only", "faults, bad-input"}, []string{"bad-input", "faults"}},
		"cold by name": {[]string{"--only", "cold"}, []string{"cold"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, chosen, err := parse(c.args, &bytes.Buffer{})
			require.NoError(t, err)
			var got []string
			for _, b := range chosen {
				got = append(got, b.name)
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestBadUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--only", "warmth"}, {"--host-runs", "-1"}, {"--one-runs", "0"}, {"--what"}, {"word"},
		{"--weir", "/nonexistent/weir"},
	} {
		var stderr bytes.Buffer
		require.Equal(t, result.ExitUsage, run(t.Context(), args, &stderr, &stderr), args)
		require.NotEmpty(t, stderr.String())
	}
	var out bytes.Buffer
	require.Equal(t, result.ExitGood, run(t.Context(), []string{"--list", "--cold"}, &out, &out))
	require.Equal(t, len(bars), strings.Count(out.String(), "\n"))
}

func TestExact(t *testing.T) {
	passed := "    conservation_test.go:1: 7 sweeps, 9 connections ended\n--- PASS: TestChurn (1s)\n"
	judgeChurn := func(o outcome) figure { return judgeTest(o, "TestChurn", 5, "connections ended") }
	require.Equal(t, holds, judgeChurn(outcome{stdout: passed}).verdict)
	require.Contains(t, judgeChurn(outcome{stdout: passed}).note, "9 connections ended")
	failed := outcome{code: 1, stdout: "  Error:   Not equal\n--- FAIL: TestChurn (1s)\n"}
	require.Equal(t, short, judgeChurn(failed).verdict)
	require.Equal(t, unknown, judgeChurn(outcome{code: 1, stdout: "build failed"}).verdict)
	require.Equal(t, unknown, judgeChurn(outcome{stdout: "--- SKIP: TestChurn"}).verdict)

	require.Equal(t, holds, judgeFuzz(outcome{}).verdict)
	require.Equal(t, short, judgeFuzz(outcome{code: result.ExitRed}).verdict)
	require.Equal(t, unknown, judgeFuzz(outcome{code: result.ExitHarness}).verdict)
}

func TestTableFigures(t *testing.T) {
	gone := func(text string) figure { return judgeExpired(outcome{stdout: "x: " + text + ", or earlier\n"}) }
	f := gone("4194304 connections were gone 29.9 s after they had expired")
	require.Equal(t, []any{holds, "29.9 s"}, []any{f.verdict, f.text})
	require.Equal(t, short, gone("4194304 connections were gone 30.1 s after they had expired").verdict)
	require.Equal(t, unknown, gone("20000 connections were gone 0.1 s after they had expired").verdict, "not as many")

	count := func(many string) figure {
		return judgeCount(parseBenchmarks("BenchmarkTableStats/1000-2 5 100 ns/op\nBenchmarkTableStats/4194304-2 5 " + many + "\n"))
	}
	require.Equal(t, figure{text: "1.50x", verdict: holds, note: "150 over 100 ns"}, count("150 ns/op"))
	require.Equal(t, short, count("151 ns/op").verdict)
	require.Equal(t, unknown, count("").verdict)

	f = judgeResize(parseBenchmarks("BenchmarkResizeUnderLoad-2 4 1 ns/op 400000 packets/s 1.5 s/resize\n"))
	require.Equal(t, figure{text: "0 of 4 lost", verdict: holds, note: "1.5 s each, 400000 packets/s meanwhile"}, f)
	require.Equal(t, unknown, judgeResize(benchmarks{}).verdict)

	idle := func(text string) figure { return judgeResident(outcome{stdout: "x: " + text + " resident\n"}) }
	f = idle("idle, 0 connections: 60.0 MB")
	require.Equal(t, []any{holds, "60.0 MB"}, []any{f.verdict, f.text})
	require.Equal(t, short, idle("idle, 0 connections: 60.1 MB").verdict)
	require.Equal(t, unknown, idle("full, 1 connections: 1.0 MB").verdict)

	require.Nil(t, failedTest(outcome{}))
	require.Equal(t, short, failedTest(outcome{code: 1, stdout: "--- FAIL: BenchmarkResizeUnderLoad\n"}).verdict)
	require.Equal(t, unknown, failedTest(outcome{code: 1, stdout: "[build failed]"}).verdict)
}

func TestExitCode(t *testing.T) {
	good, bad := figure{verdict: holds}, figure{verdict: short}
	none := notMeasured("no %s", "root")
	for name, c := range map[string]struct {
		figures []figure
		want    int
	}{
		"none":               {nil, result.ExitGood},
		"holds":              {[]figure{good, good}, result.ExitGood},
		"falls short":        {[]figure{good, bad, good}, result.ExitRed},
		"not measured":       {[]figure{good, none, good}, result.ExitHarness},
		"both, short first":  {[]figure{bad, none}, result.ExitRed},
		"both, short second": {[]figure{none, bad}, result.ExitRed},
	} {
		t.Run(name, func(t *testing.T) {
			i := -1
			var out bytes.Buffer
			code := printAll(&out, make([]bar, len(c.figures)), func(bar) figure {
				i++
				return c.figures[i]
			})
			require.Equal(t, c.want, code)
			require.Equal(t, len(c.figures), strings.Count(out.String(), "\n"))
		})
	}
}

func TestFigures(t *testing.T) {
	require.Equal(t, holds, atMost(3*time.Second, 3*time.Second, "").verdict)
	require.Equal(t, short, atMost(3*time.Second+1, 3*time.Second, "").verdict)
	require.Equal(t, holds, none(0, 50, "red", "").verdict)
	require.Equal(t, "1 of 50 red", none(1, 50, "red", "").text)
	require.Equal(t, short, none(1, 50, "red", "").verdict)
	require.Equal(t, time.Duration(2), median([]time.Duration{9, 1, 2}))
	require.Equal(t, time.Duration(1), median([]time.Duration{9, 1}))
	f := atMost(1500*time.Millisecond, oneLimit, "%s", strings.Repeat("ü", 500))
	line := f.line(bar{name: "one-warm", bar: "<= 3 s"})
	require.Contains(t, line, "one-warm       1.5 s          <= 3 s     holds         ü")
	require.Less(t, len([]rune(line)), 250)
}

func TestJudgeFaults(t *testing.T) {
	for name, c := range map[string]struct {
		out  outcome
		want verdict
		text string
	}{
		"right":     {outcome{stdout: "5.10  fault/hang  ok\n58 passed, 0 failed\n"}, holds, "0 of 58 wrong"},
		"one wrong": {outcome{stdout: "WRONG: x\n57 passed, 1 failed\n", code: 3}, short, "1 of 58 wrong"},
		"no checks": {outcome{stdout: "0 passed, 0 failed\n", code: 3}, short, "0 of 0 wrong"},
		"no QEMU":   {outcome{stderr: "weir: find QEMU", code: 3}, unknown, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			f := judgeFaults(c.out, "5.10")
			require.Equal(t, c.want, f.verdict)
			require.Equal(t, c.text, f.text)
		})
	}
}

func TestListed(t *testing.T) {
	require.Equal(t, "", listed(nil))
	require.Equal(t, ": 3 x b, 1 x a, 1 x c", listed(map[string]int{"a": 1, "b": 3, "c": 1}))
	many := map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1}
	require.Equal(t, ": 1 x a, 1 x b, 1 x c, 1 x d, 1 x e, 2 more", listed(many))
}

func TestLabelling(t *testing.T) {
	m := &meter{progress: &bytes.Buffer{}, labels: parseBenchmarks("pkg: x\nBenchmarkLabelFlow/node-2  \t 5 \t 250.5 ns/op\t 0 B/op\t 0 allocs/op\n" +
		"BenchmarkLabelFlow/node-2 5 300 ns/op 0 B/op 2 allocs/op\nBenchmarkLabelFlow/node-2 5 900 ns/op 0 B/op 2 allocs/op\n" +
		"BenchmarkLabelFlowWhileChanging 5 401 ns/op 9899 changes/s\nok x 1s\n")}
	verdicts := map[string]figure{}
	for _, b := range labelBars {
		verdicts[b.name] = m.measure(t.Context(), b)
	}
	require.Equal(t, figure{text: "300", verdict: holds, note: "ns"}, verdicts["label-flow"])
	require.Equal(t, short, verdicts["label-allocs"].verdict)
	require.Equal(t, short, verdicts["label-changes"].verdict)
	require.Equal(t, short, verdicts["label-absorbed"].verdict)
	require.Equal(t, unknown, verdicts["cloud4"].verdict)
	require.Contains(t, verdicts["ranges-load"].note, "WEIR_CLOUD_RANGES")
}

// TestInputs checks that every bad file has one mistake: the sound one has none.
func TestInputs(t *testing.T) {
	_, err := spec.Parse("sound.yaml", []byte(sound))
	require.NoError(t, err)
	for _, in := range inputs {
		_, err := spec.Parse(in.name+".yaml", in.text())
		require.Error(t, err, in.name)
	}
	require.Len(t, noise(), 10<<20)
}

func TestCheckInput(t *testing.T) {
	in := inputs[0]
	good := "weir: /tmp/typo.yaml:7:1: trafic: unknown key; did you mean \"traffic\"?\n"
	require.NoError(t, in.check(outcome{code: 2, stderr: good}, "/tmp/typo.yaml"))
	for name, c := range map[string]struct {
		out  outcome
		says string
	}{
		"other code":   {outcome{code: 1, stderr: good}, "exit code 1"},
		"two lines":    {outcome{code: 2, stderr: good + good}, "2 lines"},
		"silence":      {outcome{code: 2}, "does not say what"},
		"output":       {outcome{code: 2, stderr: good, stdout: "Usage:"}, "standard output"},
		"escape":       {outcome{code: 2, stderr: "typo.yaml:7:1: traffic \x1b[2J"}, "plain text"},
		"no file":      {outcome{code: 2, stderr: "7:1: traffic"}, "name the file"},
		"no place":     {outcome{code: 2, stderr: "typo.yaml: traffic"}, "the place"},
		"no mistake":   {outcome{code: 2, stderr: "typo.yaml:7:1: no"}, "does not say \"traffic\""},
		"long":         {outcome{code: 2, stderr: good + strings.Repeat("x", 999)}, "lines"},
		"long message": {outcome{code: 2, stderr: "typo.yaml" + strings.Repeat("x", 999)}, "bytes"},
		"slow":         {outcome{code: 2, stderr: good, took: time.Minute}, "takes"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, in.check(c.out, "/tmp/typo.yaml"), c.says)
		})
	}
}

func TestFirstProblem(t *testing.T) {
	o := outcome{code: 2, stdout: "typo.yaml:7:1: trafic: unknown key\n1 problems in 1 scenarios\n"}.firstProblem()
	require.Equal(t, outcome{code: 2, stderr: "typo.yaml:7:1: trafic: unknown key"}, o)
	require.ErrorContains(t, inputs[0].check(outcome{code: 2}.firstProblem(), "typo.yaml"), "does not say what")
}

// fake writes a program that stands for weir.
func fake(t *testing.T, script string) *meter {
	file := filepath.Join(t.TempDir(), "weir")
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755))
	return &meter{binary: file, progress: &bytes.Buffer{},
		options: options{kernels: "matrix", scenarios: "scenarios", oneRuns: 2}}
}

func TestOneWarm(t *testing.T) {
	require.Equal(t, holds, fake(t, "exit 0").oneWarm(t.Context()).verdict)
	require.Equal(t, short, fake(t, "exit 1").oneWarm(t.Context()).verdict)
	f := fake(t, "echo no QEMU >&2; exit 3").oneWarm(t.Context())
	require.Equal(t, short, f.verdict)
	require.Contains(t, f.note, "no QEMU")
}

func TestFlakes(t *testing.T) {
	m := fake(t, `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n + 1)) > "$0.n"
[ $n != 2 ] || { echo boom >&2; exit 1; }`)
	f := m.flakes(t.Context(), 5, "sim", "run")
	require.Equal(t, "1 of 5 red", f.text)
	require.Equal(t, short, f.verdict)
	require.Contains(t, f.note, "1 x exit code 1: boom")
	require.Equal(t, holds, fake(t, "exit 0").flakes(t.Context(), 3).verdict)
	require.Equal(t, unknown, fake(t, "exit 0").flakes(t.Context(), 0).verdict)
}

// TestSpeed judges a run of `weir bench` that was made up.
func TestSpeed(t *testing.T) {
	value := func(v float64) *bench.Value { return &bench.Value{Median: v} }
	m := &meter{}
	m.speed.done = true
	m.speed.result = bench.Result{LoadMS: 51, Programs: map[string]int{"a": 1, "b": 10_000},
		Figures: []bench.Figure{
			{Name: "tcp4/hot", Ours: value(45), Peer: value(180), Ratio: 0.25},
			{Name: "tcp6/hot", Ours: value(70), Peer: value(100), Ratio: 0.7},
			{Name: "tcp4/8000", Ours: value(1)},
			{Name: "tcp4/131000", Ours: value(100), Peer: value(100), Ratio: 1, Note: "disturbed"},
			{Name: "tcp4/full", Ours: value(120)},
			{Name: "tcp4/room", Ours: value(100)},
			{Name: "tcp4/90000", Ours: value(100)},
			{Name: "tcp4/new", Ours: value(260)},
			{Name: "tcp4/insert", Ours: value(150)},
			{Name: "sampled-out", Ours: value(12), Unit: bench.PerPacket},
			{Name: "sweep/100000/changed-100", Ours: value(500), Peer: value(4000), Ratio: 0.125},
		}}
	want := map[string]figure{
		"tcp4-hot":      {"0.25x", holds, "45 over 180 "},
		"tcp4-new":      {"2.60x", short, "260 over 100 ; inserting an empty entry takes 150"},
		"tcp6-hot":      {"0.70x", short, "70 over 100 "},
		"tcp4-8000":     notMeasured("needs the peer's compiled object: --object FILE --program NAME"),
		"tcp4-131000":   notMeasured("disturbed"),
		"table-full":    {"1.20x", holds, "120 over 100 "},
		"sampled-out":   {"12", short, "ns/packet; 6 where the peer's hot packet takes 90 ns, not 180 as here"},
		"sweep-changed": {"0.12x", holds, "500 over 4000 "},
		"memory":        notMeasured("weir bench does not give memory/conn4 "),
		"verifier":      {"10000", holds, "instructions for b"},
		"load":          {"51", short, "ms for all programs and maps, the median; 26 where the peer's hot packet takes 90 ns, not 180 as here"},
	}
	for _, b := range speedBars {
		if f, ok := want[b.name]; ok {
			require.Equal(t, f, b.measure(m, t.Context()), b.name)
		}
	}
	m.speed.err = errors.New("no")
	require.Equal(t, unknown, speedBars[0].measure(m, t.Context()).verdict)
}
