package main

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

const (
	churned = 10_000_000
	fuzzed  = 1_000_000
	swapped = 1000
)

// exactBars are about what must never happen, however long one looks.
var exactBars = []bar{
	{"churn", "0 wrong", "connections opened and ended with the same tuples over and over, on two CPUs",
		always, (*meter).churn},
	{"fuzz", "0 differ", "random packets through the datapath and the reference model",
		always, (*meter).fuzz},
	{"chain-swap", "0 wrong", "random changes of a chain at each hook, while each CPU sends without a pause",
		always, (*meter).chainSwap},
}

// churn runs a test of the agent for long.
func (m *meter) churn(ctx context.Context) figure {
	if os.Getuid() != 0 {
		return notMeasured("network namespaces need root")
	}
	o := command(ctx, nil, "go", "test", "./agent", "-count=1", "-timeout=30m", "-v",
		"-run=^TestChurn$", "-churn="+strconv.Itoa(churned))
	return judgeTest(o, "TestChurn", churned, "connections ended")
}

// chainSwap runs a test of chains for long.
func (m *meter) chainSwap(ctx context.Context) figure {
	if os.Getuid() != 0 {
		return notMeasured("network namespaces need root")
	}
	o := command(ctx, nil, "go", "test", "./agent/chain", "-count=1", "-timeout=2h", "-v",
		"-run=^TestSwapUnderLoad$", "-swaps="+strconv.Itoa(swapped))
	return judgeTest(o, "TestSwapUnderLoad", swapped, "changes under")
}

// judgeTest judges a test that did something count times. Of what it says, errors and lines with
// noted are for the note.
func judgeTest(o outcome, name string, count int, noted string) figure {
	if !strings.Contains(o.stdout, "--- PASS: "+name) && !strings.Contains(o.stdout, "--- FAIL: "+name) {
		return notMeasured("the test ended with %s", o)
	}
	bad, note := 0, seconds(o.took)
	for l := range strings.Lines(o.stdout) {
		if strings.Contains(l, "Error:") || strings.Contains(l, noted) {
			_, said, _ := strings.Cut(strings.TrimSpace(l), ": ")
			note += "; " + said
		}
	}
	if o.code != result.ExitGood {
		bad = 1
	}
	return none(bad, count, "wrong", note)
}

// fuzz runs `weir sim fuzz`.
func (m *meter) fuzz(ctx context.Context) figure {
	if os.Getuid() != 0 {
		return notMeasured("loading programs needs root")
	}
	return judgeFuzz(m.weir(ctx, nil, "sim", "fuzz", "--packets", strconv.Itoa(fuzzed)))
}

func judgeFuzz(o outcome) figure {
	switch o.code {
	case result.ExitGood:
		return none(0, fuzzed, "differ", o.String())
	case result.ExitRed:
		return none(1, fuzzed, "differ", o.String())
	}
	return notMeasured("weir sim fuzz ended with %s", o)
}
