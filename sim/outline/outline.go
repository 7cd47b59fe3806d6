// Package outline tells reports what scenarios are about.
package outline

import (
	"fmt"

	"github.com/weirnet/weir/sim/chart"
	"github.com/weirnet/weir/sim/coverage"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

// Of makes the outlines of jobs, by name. Jobs that are no scenarios have none.
func Of(jobs []runner.Job) (map[string]result.Outline, error) {
	all := map[string]result.Outline{}
	for _, j := range jobs {
		if len(j.Spec) == 0 {
			continue
		}
		sc, err := j.Scenario()
		if err != nil {
			return nil, fmt.Errorf("outline %s: %w", j.Name, err)
		}
		drawing, err := chart.New(sc, j.Spec)
		if err != nil {
			return nil, fmt.Errorf("outline %s: %w", j.Name, err)
		}
		all[j.Name] = result.Outline{Tags: coverage.Tags(sc), Chart: drawing.Result()}
	}
	return all, nil
}
