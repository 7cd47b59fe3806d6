package vmtests

import (
	"fmt"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/suite"
)

// update writes the golden files of scenarios that only their golden file fails, on every kernel
// and with the same content, and makes those results green.
func update(r *result.Report, jobs []runner.Job) error {
	for _, job := range jobs {
		for kernel, all := range byGolden(r, job.Name) {
			text, ok := agreed(all)
			if !ok {
				continue
			}
			if err := suite.WriteGolden(job, kernel, text); err != nil {
				return fmt.Errorf("write the golden file of %s: %w", job.Name, err)
			}
			for _, s := range all {
				if s.Verdict != result.Skip {
					s.Verdict, s.Reason = result.Pass, "golden file written"
					s.Differences, s.Golden = nil, ""
				}
			}
		}
	}
	return nil
}

// byGolden are a scenario's results by the kernel line whose own golden file judges them; most have "",
// that of all kernels.
func byGolden(r *result.Report, name string) map[string][]*result.Scenario {
	all := map[string][]*result.Scenario{}
	for k := range r.Kernels {
		for i := range r.Kernels[k].Scenarios {
			if s := &r.Kernels[k].Scenarios[i]; s.Name == name {
				all[s.GoldenKernel] = append(all[s.GoldenKernel], s)
			}
		}
	}
	return all
}

// agreed returns the golden file that all results would write.
func agreed(all []*result.Scenario) (text string, ok bool) {
	for _, s := range all {
		switch {
		case s.Verdict == result.Skip:
		case s.Golden == "" || text != "" && s.Golden != text:
			return "", false
		default:
			text = s.Golden
		}
	}
	return text, text != ""
}
