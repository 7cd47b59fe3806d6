package suite

import (
	"bytes"
	"context"
	"iter"
	"regexp"
	"time"

	"github.com/weirnet/weir/sim/runner"
)

// Watch finds scenarios as Find does and yields them all, and from then on, whenever files have
// changed, those of them that are not as they were yielded before. An error, of which there may
// be many while somebody types, is yielded once and does not end it; the context's end does.
//
// Files are read every so often and their contents compared: that works on every file system, and
// a file that is saved unchanged is none that has changed.
func Watch(ctx context.Context, paths []string, match *regexp.Regexp, every time.Duration) iter.Seq2[[]runner.Job, error] {
	return func(yield func([]runner.Job, error) bool) {
		known, told := map[string]runner.Job{}, ""
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			jobs, err := Find(paths, match)
			if err != nil && err.Error() != told && !yield(nil, err) {
				return
			}
			told = ""
			if err != nil {
				told = err.Error()
			}
			if changed := changes(known, jobs); len(changed) > 0 && !yield(changed, nil) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// changes are the jobs that are not as known; from then on they are.
func changes(known map[string]runner.Job, jobs []runner.Job) []runner.Job {
	var changed []runner.Job
	for _, j := range jobs {
		before, ok := known[j.Name]
		if !ok || !bytes.Equal(before.Spec, j.Spec) || !bytes.Equal(before.Golden, j.Golden) {
			changed = append(changed, j)
		}
		known[j.Name] = j
	}
	return changed
}
