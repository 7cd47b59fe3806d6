package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Kernel is a kernel that is ready to be booted.
type Kernel struct {
	Line    string // what was asked for
	Release string // uname -r, where the package tells; else the folder's or the file's name
	Package string // packages and version it came from; empty for a path
	SHA256  string // of the package with the image, or of the image when given by path
	Image   string // path of the bzImage
	Modules string // folder of the modules (lib/modules/<release>); empty when there are none
}

// ErrUnavailable is in the chain when the archive has no kernel for a line, in contrast to an
// archive that cannot be asked.
var ErrUnavailable = errors.New("not in the archive")

// manifest is what is written beside a kernel's files.
type manifest struct {
	Release string    `json:"release"`
	Version string    `json:"version"`
	Debs    []deb     `json:"packages"`
	Fetched time.Time `json:"fetched"`
}

// deb is a package file that a kernel was unpacked from.
type deb struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// kernel makes a Kernel of the unpacked files in dir.
func (m manifest) kernel(line, dir string) Kernel {
	names := make([]string, len(m.Debs))
	for i, d := range m.Debs {
		names[i] = d.Name
	}
	return Kernel{
		Line:    line,
		Release: m.Release,
		Package: strings.Join(names, " + ") + " " + m.Version,
		SHA256:  m.Debs[0].SHA256,
		Image:   filepath.Join(dir, imageName),
		Modules: filepath.Join(dir, "lib", "modules", m.Release),
	}
}

// FromPath makes a Kernel of files on this machine: a bzImage, or a folder in little-vm-helper's
// layout (boot/vmlinuz-*, lib/modules/*).
func FromPath(path string) (Kernel, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Kernel{}, fmt.Errorf("find kernel: %w", err)
	}
	k := Kernel{Line: path, Release: filepath.Base(path), Image: path}
	if fi.IsDir() {
		images, err := filepath.Glob(filepath.Join(path, "boot", "vmlinuz*"))
		if err != nil || len(images) == 0 {
			return Kernel{}, fmt.Errorf("find kernel: no boot/vmlinuz* below %s", path)
		}
		if len(images) > 1 {
			return Kernel{}, fmt.Errorf("find kernel: %d of boot/vmlinuz* below %s, want one",
				len(images), path)
		}
		k.Image = images[0]
		k.Release = strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
		if mods, _ := filepath.Glob(filepath.Join(path, "lib", "modules", "*")); len(mods) == 1 {
			k.Modules, k.Release = mods[0], filepath.Base(mods[0])
		}
	}
	k.SHA256, _, err = hashFile(k.Image)
	return k, err
}
