package runner

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/cgroup"
)

// prefix begins the names of a scenario's folders: of the agent's files in the temporary
// folder, of its pinned tables, and of its control groups. The process id of their owner follows.
const prefix = "weir-scenario-"

// bpfFolder is where scenarios pin.
const bpfFolder = "/sys/fs/bpf"

// sweepFiles removes the folders and control groups of runners that are no more.
func sweepFiles() error {
	errs := []error{cgroup.Sweep(prefix, abandoned)}
	for _, parent := range []string{os.TempDir(), bpfFolder} {
		found, err := filepath.Glob(filepath.Join(parent, prefix+"*"))
		errs = append(errs, err)
		for _, dir := range found {
			if abandoned(dir) {
				errs = append(errs, os.RemoveAll(dir))
			}
		}
	}
	return errors.Join(errs...)
}

// abandoned tells whether a folder's owner has ended. A process id that was given away again
// keeps the folder until that process ends, too.
func abandoned(dir string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
	n, err := strconv.Atoi(pid)
	return err == nil && errors.Is(unix.Kill(n, 0), unix.ESRCH)
}
