package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// Changes is what is different in a later run.
type Changes struct {
	// Worse are regressions: what has become red, is gone or skipped, or needs more than a tenth more of
	// the verifier's instructions.
	Worse []string
	// Better is what is no longer red, Other the rest: new scenarios, other versions of a kernel.
	Better, Other []string
}

// costTolerance is by how much instructions, those that the verifier walks and those for a packet, may grow before it is told.
const costTolerance = 0.1

// Compare tells in words what has changed from one run to a later one. Kernels are the same when they
// were asked for by the same line.
func Compare(before, after *result.Report) *Changes {
	c := &Changes{}
	old, now := byLine(before), byLine(after)
	for _, line := range lines(before, after) {
		switch a, b := old[line], now[line]; {
		case b == nil:
			c.worse("kernel %s is gone", line)
		case a == nil:
			c.other("kernel %s is new: %s", line, verdicts(totals(b)))
		default:
			c.kernel(a, b)
		}
	}
	return c
}

func totals(k *result.Kernel) result.Totals {
	return (&result.Report{Kernels: []result.Kernel{*k}}).Totals()
}

func byLine(r *result.Report) map[string]*result.Kernel {
	kernels := map[string]*result.Kernel{}
	for i := range r.Kernels {
		kernels[r.Kernels[i].Line] = &r.Kernels[i]
	}
	return kernels
}

// lines are those of all kernels, those of the first report first.
func lines(reports ...*result.Report) []string {
	var all []string
	for _, r := range reports {
		for _, k := range r.Kernels {
			if !slices.Contains(all, k.Line) {
				all = append(all, k.Line)
			}
		}
	}
	return all
}

func (c *Changes) worse(format string, args ...any) {
	c.Worse = append(c.Worse, fmt.Sprintf(format, args...))
}
func (c *Changes) better(format string, args ...any) {
	c.Better = append(c.Better, fmt.Sprintf(format, args...))
}
func (c *Changes) other(format string, args ...any) {
	c.Other = append(c.Other, fmt.Sprintf(format, args...))
}

// kernel compares a kernel's two runs.
func (c *Changes) kernel(a, b *result.Kernel) {
	switch {
	case b.Unavailable != "" && a.Unavailable == "":
		c.worse("kernel %s could not be had: %s", b.Line, b.Unavailable)
		return
	case b.Unavailable != "":
		return
	case a.Unavailable != "":
		c.better("kernel %s could be had: %s", b.Line, verdicts(totals(b)))
		return
	case a.Version != b.Version:
		c.other("kernel %s is %s, was %s", b.Line, b.Version, a.Version)
	}
	c.scenarios(a, b)
	for _, program := range slices.Sorted(maps.Keys(b.Verified)) {
		was, is := a.Verified[program], b.Verified[program]
		if was > 0 && float64(is) > float64(was)*(1+costTolerance) {
			c.worse("%s on %s: the verifier walks %d instructions, was %d", program, b.Line, is, was)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(b.Instructions)) {
		was, is := a.Instructions[kind], b.Instructions[kind]
		if was > 0 && is > was*(1+costTolerance) {
			c.worse("%s on %s: %v instructions per packet, was %v", kind, b.Line, is, was)
		}
	}
}

func (c *Changes) scenarios(a, b *result.Kernel) {
	now := map[string]*result.Scenario{}
	for i := range b.Scenarios {
		now[b.Scenarios[i].Name] = &b.Scenarios[i]
	}
	for i := range a.Scenarios {
		was := &a.Scenarios[i]
		if is := now[was.Name]; is != nil {
			c.scenario(b.Line, was, is)
		} else {
			c.worse("%s on %s is gone, was %s", was.Name, b.Line, was.Verdict)
		}
		delete(now, was.Name)
	}
	for i := range b.Scenarios {
		s := &b.Scenarios[i]
		switch {
		case now[s.Name] == nil:
		case s.Verdict.Red():
			c.worse("%s on %s is new: %s", s.Name, b.Line, verdict(s))
		default:
			c.other("%s on %s is new: %s", s.Name, b.Line, verdict(s))
		}
	}
}

func (c *Changes) scenario(line string, was, is *result.Scenario) {
	text := fmt.Sprintf("%s on %s: %s, was %s", is.Name, line, verdict(is), was.Verdict)
	switch {
	case was.Verdict == is.Verdict:
	case is.Verdict == result.Pass:
		c.better("%s", text)
	case is.Verdict.Red() && was.Verdict.Red():
		c.other("%s", text)
	default:
		c.worse("%s", text)
	}
}

// verdict is a verdict and its reason.
func verdict(s *result.Scenario) string {
	if s.Reason == "" {
		return string(s.Verdict)
	}
	return fmt.Sprintf("%s (%s)", s.Verdict, s.Reason)
}

// Text writes the changes, the worst first.
func (c *Changes) Text(w io.Writer) error {
	var b strings.Builder
	for _, part := range []struct {
		title string
		lines []string
	}{{"worse", c.Worse}, {"better", c.Better}, {"other", c.Other}} {
		for i, l := range part.lines {
			if i == 0 {
				fmt.Fprintf(&b, "%s:\n", part.title)
			}
			fmt.Fprintf(&b, "  %s\n", oneLine(result.Printable(l)))
		}
	}
	fmt.Fprintf(&b, "%d worse, %d better, %d other\n", len(c.Worse), len(c.Better), len(c.Other))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write changes: %w", err)
	}
	return nil
}
