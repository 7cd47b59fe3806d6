package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bpfFolder is where the BPF file system belongs (Documentation/bpf of the kernel).
const bpfFolder = "/sys/fs/bpf"

// mountBPF makes sure that a pin path lies on a BPF file system, mounting it at its usual
// place when it is missing there.
func mountBPF(pin string) error {
	on, err := isBPF(pin)
	if err != nil || on {
		return err
	}
	rel, err := filepath.Rel(bpfFolder, pin)
	if err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("pin: %s is not on a BPF file system; use a folder below %s", pin, bpfFolder)
	}
	if err := unix.Mount("bpf", bpfFolder, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a BPF file system on %s: %w", bpfFolder, err)
	}
	return nil
}

// isBPF looks at the nearest folder that exists.
func isBPF(path string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, os.ErrNotExist) || path == filepath.Dir(path) {
			return false, fmt.Errorf("look at the pin folder %s: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}
