package suite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/runner"
)

// Orphans returns the golden files beside the scenarios' folders that belong to no scenario, in
// order. Whether a scenario is there is asked of the disk: jobs may be a part of a suite.
func Orphans(jobs []runner.Job) ([]string, error) {
	roots := map[string]string{} // folder of goldens: folder of scenarios
	for _, j := range jobs {
		name := filepath.FromSlash(j.Name) + suffix
		golden, ok := strings.CutSuffix(j.GoldenFile, name)
		scenarios, same := strings.CutSuffix(j.File, name)
		if ok && same {
			roots[filepath.Clean(golden)] = filepath.Clean(scenarios)
		}
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
		_, err = os.Stat(filepath.Join(scenarios, rel))
		if errors.Is(err, os.ErrNotExist) {
			orphans = append(orphans, path)
			return nil
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) { // there is no golden file yet
		return nil, nil
	}
	return orphans, err
}
