// Package suite finds scenario files and the golden files that belong to them.
package suite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
)

const (
	scenariosFolder = "scenarios"
	goldenFolder    = "golden"
	suffix          = ".yaml"
)

// ErrNoMatch is returned by Find when there are scenarios, but none whose name matches.
var ErrNoMatch = errors.New("no scenario's name matches")

// noMatch is an ErrNoMatch that says which scenarios there are.
type noMatch string

// Error implements error.
func (e noMatch) Error() string { return string(e) }

// Is makes it an ErrNoMatch.
func (e noMatch) Is(target error) bool { return target == ErrNoMatch }

// Whole tells whether paths name a whole suite: nothing, or a folder called "scenarios".
func Whole(paths []string) bool {
	return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool {
		return filepath.Base(p) == scenariosFolder
	})
}

// Find returns the scenarios in the given files and folders (all of ./scenarios when there are
// none) whose names match; nil matches all. A scenario's name is its path below the nearest
// folder called "scenarios", without .yaml, and "[variant]" where it has a matrix; its golden file
// has the same path below the folder "golden" beside that one. Finding nothing is an error.
func Find(paths []string, match *regexp.Regexp) ([]runner.Job, error) {
	if len(paths) == 0 {
		paths = []string{scenariosFolder}
	}
	var files []string
	for _, p := range paths {
		found, err := filesIn(p)
		if err != nil {
			return nil, fmt.Errorf("find scenarios: %w", err)
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	var jobs []runner.Job
	seen := map[string]bool{}
	for _, f := range files {
		abs, err := filepath.Abs(f)
		if err != nil {
			return nil, fmt.Errorf("find scenarios: %w", err)
		}
		if seen[abs] {
			continue
		}
		seen[abs] = true
		variants, err := read(f)
		if err != nil {
			return nil, err
		}
		for _, job := range variants {
			if match == nil || match.MatchString(job.Name) {
				jobs = append(jobs, job)
			}
		}
	}
	if len(jobs) == 0 && match != nil {
		return nil, noMatch(fmt.Sprintf("find scenarios: none of the %d in %s matches %q",
			len(files), strings.Join(paths, " "), match))
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("find scenarios: no %s file in %s", suffix, strings.Join(paths, " "))
	}
	return jobs, nil
}

// Check parses all scenarios, so that a mistake in one shows before any is run. Of a file with a
// matrix the first variant that has mistakes tells them.
func Check(jobs []runner.Job) error {
	var errs []error
	told := map[string]bool{}
	for _, j := range jobs {
		if told[j.File] {
			continue
		}
		sc, err := j.Scenario()
		if err == nil && sc.Agent.Program != nil {
			_, err = spec.ParseFlowMap(j.MapFile, j.Map)
		}
		if err != nil {
			errs, told[j.File] = append(errs, err), true
		}
	}
	return errors.Join(errs...)
}

func filesIn(path string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(p, suffix) || p == path) {
			files = append(files, filepath.Clean(p))
		}
		return err
	})
	return files, err
}

// read makes the jobs of one file: one for each variant.
func read(file string) ([]runner.Job, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	root, name, err := split(file)
	if err != nil {
		return nil, err
	}
	var jobs []runner.Job
	for _, v := range spec.Variants(file, data) {
		job := runner.Job{Name: name, File: file, Variant: v, Spec: data}
		if v != "" {
			job.Name += "[" + v + "]"
		}
		golden, err := readGolden(filepath.Join(filepath.Dir(root), goldenFolder, name), v, "")
		if err != nil {
			return nil, err
		}
		job.GoldenFile, job.Golden = golden.File, golden.Data
		if err := addFiles(&job); err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// readGolden reads a golden file, see goldenFiles. One that is not there has a name and no data.
func readGolden(base, variant, kernel string) (f runner.GoldenFile, err error) {
	for _, f.File = range goldenFiles(base, variant, kernel) {
		f.Data, err = os.ReadFile(f.File)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return f, fmt.Errorf("read the golden file: %w", err)
		}
	}
	return f, nil
}

// addFiles reads the files that a scenario names: golden files of kernels, captures, and the map of another program. What is
// wrong with the scenario itself, or with a capture's name, is for Check to say.
func addFiles(job *runner.Job) (err error) {
	sc, err := spec.ParseVariant(job.File, job.Spec, job.Variant)
	if err != nil {
		return nil
	}
	for _, e := range sc.Expect.Golden {
		own, err := readGolden(goldenBase(job), job.Variant, e.Kernel)
		if err != nil {
			return err
		}
		if own.Data == nil {
			continue
		}
		if job.KernelGoldens == nil {
			job.KernelGoldens = map[string]runner.GoldenFile{}
		}
		job.KernelGoldens[e.Kernel] = own
	}
	if err := addCaptures(job, sc.Steps); err != nil || sc.Agent.Program == nil {
		return err
	}
	job.MapFile = sc.Agent.Program.Map
	if !filepath.IsAbs(job.MapFile) {
		job.MapFile = filepath.Join(filepath.Dir(job.File), job.MapFile)
	}
	if job.Map, err = os.ReadFile(job.MapFile); err != nil {
		return fmt.Errorf("read the program's map for %s: %w", job.File, err)
	}
	return nil
}

// maxCapture bounds a capture that is replayed, in bytes: it goes to guests over a serial line.
const maxCapture = 1 << 20

func addCaptures(job *runner.Job, steps []spec.Step) error {
	for i := range steps {
		r := steps[i].Replay
		if r == nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(filepath.Dir(job.File), r.File))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("read the capture for %s: %w", job.File, err)
		case len(data) > maxCapture:
			return fmt.Errorf("read the capture for %s: %s has %d bytes; at most %d are replayed", job.File,
				r.File, len(data), maxCapture)
		}
		if job.Captures == nil {
			job.Captures = map[string][]byte{}
		}
		job.Captures[r.File] = data
	}
	return nil
}

// goldenFiles are the golden files of a variant, the first that is there being its own: one for
// what it is judged by, and the one of all variants. Base is their path without the rest; kernel is the
// line that has its own, or "".
func goldenFiles(base, variant, kernel string) []string {
	end := suffix
	if kernel != "" {
		end = kernelMark + kernel + suffix
	}
	files := []string{base + end}
	if judged := spec.Judged(variant); judged != "" {
		files = slices.Insert(files, 0, base+"["+judged+"]"+end)
	}
	return files
}

// kernelMark stands before the kernel line in the name of its own golden file.
const kernelMark = "@"

// goldenBase is the path of a job's golden files, without what tells variants and kernels apart.
func goldenBase(job *runner.Job) string {
	base, _, _ := strings.Cut(strings.TrimSuffix(job.GoldenFile, suffix), "[")
	return base
}

// split finds the scenarios folder that a file is in, and the scenario's name.
func split(file string) (root, name string, err error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", "", err
	}
	root = filepath.Dir(abs)
	for dir := root; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) == scenariosFolder {
			root = dir
			break
		}
	}
	rel, err := filepath.Rel(root, abs)
	if err != nil {
		return "", "", err
	}
	if wd, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(wd, root); err == nil && filepath.IsLocal(short) {
			root = short
		}
	}
	return root, strings.TrimSuffix(filepath.ToSlash(rel), suffix), nil
}

// WriteGolden writes a scenario's golden file. The file of all variants is that of the first one;
// another has one of its own only if it differs. Kernel is the line whose own golden file it is, or "".
func WriteGolden(job runner.Job, kernel, text string) error {
	if err := os.MkdirAll(filepath.Dir(job.GoldenFile), 0o755); err != nil {
		return err
	}
	files := goldenFiles(goldenBase(&job), job.Variant, kernel)
	own, all := files[0], files[len(files)-1]
	first := spec.Variants(job.File, job.Spec)[0]
	if own == all || spec.Judged(job.Variant) == spec.Judged(first) {
		if err := os.WriteFile(all, []byte(text), 0o644); err != nil || own == all {
			return err
		}
		return remove(own)
	}
	have, err := os.ReadFile(all)
	switch {
	case err == nil && string(have) == text:
		return remove(own)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	return os.WriteFile(own, []byte(text), 0o644)
}

// remove removes a file that need not be there.
func remove(file string) error {
	if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
