package vmtests

import (
	"context"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/programs"
)

// programsOf are the programs that scenarios run in the agent's place, for guests.
func programsOf(ctx context.Context, jobs []runner.Job) ([]initramfs.File, error) {
	var names []string
	for _, j := range jobs {
		names = append(names, j.Programs()...)
	}
	return programs.Find(ctx, names)
}
