// Package report turns what a run found into what people and machines read.
//
// results.json is the source: a [result.Report] in JSON, described by the JSON Schema that
// [Schema] returns. Everything else is made from it and can be made again at any time: one
// self-contained HTML page, JUnit XML, a Markdown summary, a table for the terminal and
// annotations for GitHub. No function here changes the report it is given; all may run at once.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// The names of the files that Write writes.
const (
	ResultsFile  = "results.json"
	JUnitFile    = "junit.xml"
	MarkdownFile = "summary.md"
	HTMLFile     = "index.html"
)

// Write writes results.json and all that is made from it into dir, which it creates if need be.
// Each file is replaced as a whole: whoever reads it sees the old one or the new one. The error
// names the file that could not be written; files before it are in place then.
func Write(dir string, r *result.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the report's folder: %w", err)
	}
	for _, f := range []struct {
		name   string
		render func(io.Writer, *result.Report) error
	}{
		{ResultsFile, JSON}, {JUnitFile, JUnit}, {MarkdownFile, Markdown}, {HTMLFile, HTML},
	} {
		path := filepath.Join(dir, f.name)
		if err := writeFile(path, r, f.render); err != nil {
			return err
		}
	}
	return nil
}

// writeFile renders r into path, by way of a temporary file beside it.
func writeFile(path string, r *result.Report, render func(io.Writer, *result.Report) error) error {
	var b bytes.Buffer
	if err := render(&b, r); err != nil {
		return fmt.Errorf("render %s: %w", filepath.Base(path), err)
	}
	if err := replaceFile(path, b.Bytes()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// replaceFile writes data to path atomically. A device or a pipe is written to as it is.
func replaceFile(path string, data []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o644)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// JSON writes the report as results.json holds it. A report without a schema version gets the
// current one.
func JSON(w io.Writer, r *result.Report) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(normal(r)); err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	return nil
}

// normal returns r as the schema wants it: with a version and with empty lists for absent ones.
func normal(r *result.Report) *result.Report {
	n := *r
	if n.SchemaVersion == 0 {
		n.SchemaVersion = result.SchemaVersion
	}
	n.Kernels = append([]result.Kernel{}, r.Kernels...)
	for i := range n.Kernels {
		if n.Kernels[i].Scenarios == nil {
			n.Kernels[i].Scenarios = []result.Scenario{}
		}
	}
	return &n
}

// Read reads a report from path: a results.json, or a folder that holds one. The error says what
// is wrong at which place; results of a newer schema version than this program knows are refused.
func Read(path string) (*result.Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ResultsFile)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read results: no %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	r, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("read results: %s: %w", path, err)
	}
	return r, nil
}

// ReadAll reads several reports.
func ReadAll(paths []string) ([]*result.Report, error) {
	var all []*result.Report
	for _, path := range paths {
		r, err := Read(path)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Decode reads a report from the bytes of a results.json. Fields it does not know are left out.
func Decode(data []byte) (*result.Report, error) {
	var head struct {
		Version *int `json:"schema_version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, place(data, err)
	}
	switch {
	case head.Version == nil:
		return nil, errors.New("not a weir report: there is no schema_version")
	case *head.Version > result.SchemaVersion:
		return nil, fmt.Errorf("schema version %d is newer than this weir, which reads up to %d",
			*head.Version, result.SchemaVersion)
	}
	if err := Validate(data); err != nil {
		return nil, err
	}
	var r result.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, place(data, err)
	}
	// The decoder takes keys in any case, so it may have seen what the schema did not look at.
	for _, k := range r.Kernels {
		for _, s := range k.Scenarios {
			if lookOf(s.Verdict).Verdict != s.Verdict {
				return nil, fmt.Errorf("%s on %s: unknown verdict %q", s.Name, k.Line, s.Verdict)
			}
		}
	}
	if r.SchemaVersion != *head.Version {
		return nil, errors.New("there are two schema versions")
	}
	return normal(&r), nil
}

// place adds line and column to an error of the JSON decoder that knows where it happened.
func place(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var offset int64
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("the file is empty")
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	default:
		return err
	}
	before := string(data[:min(max(offset-1, 0), int64(len(data)))])
	line := 1 + strings.Count(before, "\n")
	column := len(before) - strings.LastIndex(before, "\n")
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}
