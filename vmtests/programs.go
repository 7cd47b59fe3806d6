package vmtests

import (
	"context"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/programs"
	"github.com/weirnet/weir/vmtests/wire"
)

// programsOf finds the programs that scenarios run in the agent's place, for the guests of those.
func programsOf(ctx context.Context, jobs []runner.Job) (func([]runner.Job) []wire.File, error) {
	needed, all := map[string][]string{}, []string(nil)
	for _, j := range jobs {
		if names := j.Programs(); len(names) > 0 {
			needed[j.Name] = names
			all = append(all, names...)
		}
	}
	set, err := programs.Find(ctx, all)
	if err != nil {
		return nil, err
	}
	return func(some []runner.Job) []wire.File {
		var names []string
		for _, j := range some {
			names = append(names, needed[j.Name]...)
		}
		return set.Of(names)
	}, nil
}
