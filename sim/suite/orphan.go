package suite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
)

// Orphans returns the golden files beside the scenarios' folders that belong to no scenario, in
// order. Whether a scenario is there is asked of the disk: jobs may be a part of a suite.
func Orphans(jobs []runner.Job) ([]string, error) {
	roots := map[string]string{} // folder of goldens: folder of scenarios
	for _, j := range jobs {
		scenarios, _, err := split(j.File)
		if err != nil {
			return nil, err
		}
		roots[filepath.Join(filepath.Dir(scenarios), goldenFolder)] = scenarios
	}
	var orphans []string
	for golden, scenarios := range roots {
		found, err := orphansIn(golden, scenarios)
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, found...)
	}
	slices.Sort(orphans)
	return orphans, nil
}

func orphansIn(golden, scenarios string) ([]string, error) {
	var orphans []string
	err := filepath.WalkDir(golden, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		rel, err := filepath.Rel(golden, path)
		if err != nil {
			return err
		}
		owned, err := isOwned(filepath.Join(scenarios, rel))
		if err == nil && !owned {
			orphans = append(orphans, path)
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) { // there is no golden file yet
		return nil, nil
	}
	return orphans, err
}

// isOwned tells whether there is a scenario for a golden file, and the variant and the kernel for which
// it is. File is where the scenario is looked for: the golden file's place in the scenarios' folder.
func isOwned(file string) (bool, error) {
	base, kernel := strings.TrimSuffix(file, suffix), ""
	if m := ofKernel.FindStringSubmatch(base); m != nil {
		base, kernel = m[1], m[2]
	}
	base, judged, varied := strings.Cut(base, "[")
	data, err := os.ReadFile(base + suffix)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil || !varied && kernel == "" {
		return err == nil, err
	}
	sc, err := spec.Parse(base+suffix, data)
	if err != nil {
		return true, nil // as long as nobody knows its variants and kernels
	}
	if kernel != "" && !slices.ContainsFunc(sc.Expect.Golden, func(e spec.Exception) bool { return e.Kernel == kernel }) {
		return false, nil
	}
	return !varied || slices.ContainsFunc(spec.Variants(base+suffix, data), func(v string) bool {
		return spec.Judged(v)+"]" == judged
	}), nil
}

// ofKernel matches the name of a kernel's own golden file.
var ofKernel = regexp.MustCompile(`^(.*)` + kernelMark + `([0-9]+\.[0-9]+)$`)
