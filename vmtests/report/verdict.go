package report

import (
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/kernel"
)

// ExitCode is the report's exit code, but for kernels that could not be had: a run that silently
// lost one must not look like a good one, unless it is allowed to. Kernels that the archive need not
// hold never count.
func ExitCode(r *result.Report, allowUnavailable bool) int {
	ran := 0
	lost := false
	for _, k := range r.Kernels {
		switch {
		case k.Unavailable == "":
			ran++
		case !allowUnavailable && !kernel.Optional(k.Line):
			lost = true
		}
	}
	if ran == 0 || lost {
		return result.ExitHarness
	}
	return r.ExitCode()
}

// look is how a verdict is shown: never by colour alone.
type look struct {
	Verdict result.Verdict `json:"verdict"`
	Glyph   string         `json:"glyph"`
	Family  string         `json:"family"` // its colour
	What    string         `json:"what"`   // what it means, for the legend
	Red     bool           `json:"red"`
}

// looks are the verdicts in the order legends list them: the worst last.
var looks = []look{
	{result.Pass, "✓", "pass", "as expected", false},
	{result.Skip, "-", "skip", "a requirement is not met here", false},
	{result.Fail, "✗", "fail", "a difference from the expected", true},
	{result.Missing, "?", "fail", "no record came", true},
	{result.Hang, "H", "kernel", "no sign of life", true},
	{result.Exit, "X", "kernel", "the guest ended early", true},
	{result.Splat, "W", "kernel", "the kernel warned", true},
	{result.Panic, "P", "kernel", "the kernel panicked", true},
	{result.Corrupt, "C", "harness", "a frame did not check", true},
	{result.Error, "E", "harness", "the harness failed", true},
}

// rank is the place of v in looks; of an unknown verdict it is the last one's.
func rank(v result.Verdict) int {
	for i, l := range looks {
		if l.Verdict == v {
			return i
		}
	}
	return len(looks) - 1
}

// lookOf is how v is shown.
func lookOf(v result.Verdict) look { return looks[rank(v)] }

// The glyphs of cells without a verdict.
const (
	glyphNone        = "·" // the scenario was not planned there
	glyphUnavailable = "∅" // the kernel could not be had
)

// counts counts verdicts.
type counts map[result.Verdict]int

// countsOf counts the verdicts of a kernel.
func countsOf(k *result.Kernel) counts {
	c := counts{}
	for _, s := range k.Scenarios {
		c[s.Verdict]++
	}
	return c
}

// passed, skipped and failed are the three heaps that totals speak of.
func (c counts) passed() int  { return c[result.Pass] }
func (c counts) skipped() int { return c[result.Skip] }
func (c counts) failed() int {
	n := 0
	for v, m := range c {
		if v.Red() {
			n += m
		}
	}
	return n
}
