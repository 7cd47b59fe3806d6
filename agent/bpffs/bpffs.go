// Package bpffs sees to it that there is a BPF file system to pin things in.
package bpffs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Folder is where the BPF file system belongs (Documentation/bpf of the kernel).
const Folder = "/sys/fs/bpf"

// Ensure makes sure that a pin path lies on a BPF file system, mounting it at its usual
// place when it is missing there.
func Ensure(pin string) error {
	on, err := isBPF(pin)
	if err != nil || on {
		return err
	}
	rel, err := filepath.Rel(Folder, pin)
	if err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("pin: %s is not on a BPF file system; use a folder below %s", pin, Folder)
	}
	if err := unix.Mount("bpf", Folder, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a BPF file system on %s: %w", Folder, err)
	}
	return nil
}

// isBPF looks at the nearest Folder that exists.
func isBPF(path string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, os.ErrNotExist) || path == filepath.Dir(path) {
			return false, fmt.Errorf("look at the pin Folder %s: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}
