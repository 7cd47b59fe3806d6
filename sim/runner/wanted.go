package runner

import (
	"fmt"
	"time"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// wanted is what golden files say. Each is nil when it is not there.
type wanted struct {
	all *golden.Golden // of all kernels
	own *golden.Golden // of this kernel alone
	// why this kernel has a golden file of its own, which may have to be written; nil: it has none.
	why      *spec.Exception
	tolerate []spec.Tolerance
}

// wantedOf reads the golden files that a job is judged by on a kernel of that release (uname -r).
func wantedOf(job *Job, e *spec.Expect, release string) (*wanted, error) {
	w := &wanted{why: e.GoldenOn(release), tolerate: e.Tolerate}
	var err error
	if len(job.Golden) > 0 {
		if w.all, err = golden.Decode(job.GoldenFile, job.Golden, e.Free...); err != nil {
			return nil, err
		}
	}
	if w.why == nil {
		return w, nil
	}
	if own, ok := job.KernelGoldens[w.why.Kernel]; ok {
		w.own, err = golden.Decode(own.File, own.Data, e.Free...)
	}
	return w, err
}

// golden is the one to judge by.
func (w *wanted) golden() *golden.Golden {
	if w.why != nil {
		return w.own
	}
	return w.all
}

// compare compares what a run has told with the golden file, if there is one.
func (w *wanted) compare(got *golden.Golden, out *result.Scenario) []result.Difference {
	want := w.golden()
	if want == nil {
		return nil
	}
	diffs, allowed := golden.CompareWithin(want, got, "golden", w.tolerate)
	out.Notes = append(out.Notes, tolerated(w.tolerate, allowed)...)
	return diffs
}

// tolerated tells what tolerances have let pass, and which have let nothing pass.
func tolerated(all []spec.Tolerance, allowed []golden.Allowed) (notes []string) {
	used := map[string]bool{}
	for _, a := range allowed {
		used[a.Tolerance.Field] = true
		notes = append(notes, "tolerated: "+a.String())
	}
	for _, t := range all {
		if !used[t.Field] {
			notes = append(notes, fmt.Sprintf("not needed here: the tolerance of %s within %s", t.Field, t.Within))
		}
	}
	return notes
}

// except tells that the kernel has a golden file of its own. That is red when its day is over, and when the
// golden file of all kernels fits as well.
func (w *wanted) except(got *golden.Golden, now time.Time, out *result.Scenario) {
	if w.why == nil {
		return
	}
	out.GoldenKernel = w.why.Kernel
	until := w.why.Until.Format(time.DateOnly)
	out.Notes = append(out.Notes, fmt.Sprintf("%s has a golden file of its own until %s: %s", w.why.Kernel, until,
		w.why.Told()))
	stale := ""
	if w.all != nil {
		if diffs, _ := golden.CompareWithin(w.all, got, "golden", w.tolerate); len(diffs) == 0 {
			stale = fmt.Sprintf("fits the golden file of all kernels, although %s has its own: %s; take that out of expect.golden",
				w.why.Kernel, w.why.Told())
		}
	}
	switch {
	case stale != "":
		out.Verdict, out.Reason, out.Golden = result.Fail, stale, ""
	case w.why.Expired(now):
		if out.Reason != "" {
			out.Reason += "; "
		}
		out.Verdict = result.Fail
		out.Reason += fmt.Sprintf("the golden file of %s was good until %s: %s", w.why.Kernel, until, w.why.Told())
	}
}
