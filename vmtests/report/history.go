package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weirnet/weir/sim/result"
)

// AddHistory adds to a report what is known from earlier runs, the latest last: what has changed since that
// one, and which scenarios are flaky.
func AddHistory(r *result.Report, before []*result.Report) {
	r.Flaky = Flakes(append(slices.Clone(before), r))
	if len(before) == 0 {
		return
	}
	old := map[string]result.Verdict{}
	for _, k := range before[len(before)-1].Kernels {
		for _, s := range k.Scenarios {
			old[k.Line+" "+s.Name] = s.Verdict
		}
	}
	for i := range r.Kernels {
		k := &r.Kernels[i]
		for j := range k.Scenarios {
			s := &k.Scenarios[j]
			was, known := old[k.Line+" "+s.Name]
			switch {
			case !known:
				s.Change = "is new"
			case was != s.Verdict:
				s.Change = fmt.Sprintf("was %s", was)
			default:
				s.Change = ""
			}
		}
	}
}

// flakeKey is what must be the same for runs to have the same result.
type flakeKey struct{ scenario, kernel, version, weir string }

// Flakes is the ledger of scenarios that were red in some runs and green in others, of one binary on one
// version of a kernel. A report can hold several runs. Skips are no runs.
func Flakes(reports []*result.Report) []result.Flake {
	all := map[flakeKey]*result.Flake{}
	for _, r := range reports {
		for _, k := range r.Kernels {
			for _, s := range k.Scenarios {
				if s.Verdict == result.Skip {
					continue
				}
				key := flakeKey{s.Name, k.Line, k.Version, r.Weir}
				f := all[key]
				if f == nil {
					f = &result.Flake{Scenario: s.Name, Kernel: k.Line, Version: k.Version, Weir: r.Weir}
					all[key] = f
				}
				f.Runs++
				if s.Verdict.Red() {
					f.Red++
					f.Reason = cmp.Or(s.Reason, string(s.Verdict))
				}
			}
		}
	}
	var flaky []result.Flake
	for _, f := range all {
		if f.Red > 0 && f.Red < f.Runs {
			flaky = append(flaky, *f)
		}
	}
	slices.SortFunc(flaky, func(a, b result.Flake) int {
		return cmp.Or(cmp.Compare(a.Scenario, b.Scenario), cmp.Compare(a.Kernel, b.Kernel),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.Weir, b.Weir))
	})
	return flaky
}
