package report

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// renderers are all the forms a report can take.
var renderers = map[string]func(io.Writer, *result.Report) error{
	"json": JSON, "junit": JUnit, "markdown": Markdown, "html": HTML, "annotations": Annotations,
	"table":       func(w io.Writer, r *result.Report) error { return Table(w, r, false) },
	"color table": func(w io.Writer, r *result.Report) error { return Table(w, r, true) },
}

// render renders r to a string.
func render(t *testing.T, f func(io.Writer, *result.Report) error, r *result.Report) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, f(&b, r))
	return b.String()
}

func TestWriteRead(t *testing.T) {
	for name, r := range map[string]*result.Report{
		"sample": sample(), "evil": evil(), "empty": {}, "large": large(40, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out", "report")
			require.NoError(t, Write(dir, r))
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
				info, err := e.Info()
				require.NoError(t, err)
				require.Equal(t, os.FileMode(0o644), info.Mode())
			}
			require.Equal(t, []string{HTMLFile, JUnitFile, ResultsFile, MarkdownFile}, names)

			data, err := os.ReadFile(filepath.Join(dir, ResultsFile))
			require.NoError(t, err)
			require.NoError(t, Validate(data))
			fromDir, err := Read(dir)
			require.NoError(t, err)
			fromFile, err := Read(filepath.Join(dir, ResultsFile))
			require.NoError(t, err)
			require.Equal(t, fromDir, fromFile)
			if name != "evil" { // it has broken UTF-8, which JSON cannot hold
				require.Equal(t, string(data), render(t, JSON, fromDir))
				require.Equal(t, normal(r), fromDir)
			}
		})
	}
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Write(dir, evil()))
	require.NoError(t, Write(dir, sample()))
	r, err := Read(dir)
	require.NoError(t, err)
	require.Equal(t, sample().Totals(), r.Totals())
}

func TestRenderersLeaveReportAlone(t *testing.T) {
	for name, f := range renderers {
		r := sample()
		r.SchemaVersion = 0
		r.Kernels[6].Scenarios = nil
		want := sample()
		want.SchemaVersion = 0
		render(t, f, r)
		require.Equal(t, want, r, name)
	}
}

func TestWriteErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorContains(t, Write(file, sample()), "create the report's folder")

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, JUnitFile), 0o755))
	require.ErrorContains(t, Write(dir, sample()), JUnitFile)
}

func TestReadErrors(t *testing.T) {
	valid := render(t, JSON, sample())
	for name, tc := range map[string]struct{ text, want string }{
		"empty":     {"", "the file is empty"},
		"blank":     {" \n", "the file is empty"},
		"noise":     {strings.Repeat("\x17noise", 1<<20), "line 1, column 1: invalid character"},
		"cut off":   {valid[:len(valid)/2], "unexpected end of JSON"},
		"trailing":  {valid + "{}", "invalid character '{' after top-level value"},
		"comma":     {"{\n  \"schema_version\": 1,\n  }", "line 3, column 3: invalid character"},
		"a list":    {"[]", "cannot unmarshal array"},
		"other":     {"{}", "not a weir report"},
		"newer":     {`{"schema_version": 2}`, "schema version 2 is newer"},
		"old":       {`{"schema_version": 0}`, "/schema_version: value must be 1"},
		"no fields": {`{"schema_version": 1}`, "missing properties 'started', 'ms'"},
		"verdict": {strings.Replace(valid, `"verdict": "hang"`, `"verdict": "hung"`, 1),
			"/verdict: value must be one of 'pass'"},
		"verdict in capitals": {strings.Replace(valid, `"verdict": "hang"`,
			`"verdict": "hang", "VERDICT": "hung"`, 1), `unknown verdict "hung"`},
		"type": {strings.Replace(valid, `"boot_ms": 2300`, `"boot_ms": "2300"`, 1),
			"/kernels/0/boot_ms: got string, want integer"},
		"time": {strings.Replace(valid, `2026-03-14T`, `2026-03-44T`, 1), "/started"},
		"many": {strings.ReplaceAll(valid, `"verdict": "pass"`, `"verdict": 1`), "and 128 more"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "r.json")
			require.NoError(t, os.WriteFile(file, []byte(tc.text), 0o600))
			_, err := Read(file)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "read results: "+file)
			require.Less(t, len(err.Error()), 1500)
		})
	}
	_, err := Read(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Read(t.TempDir())
	require.ErrorContains(t, err, "no ")
}

func TestReadKeepsUnknownFieldsOut(t *testing.T) {
	text := strings.Replace(render(t, JSON, sample()), `{`, `{"new_field": [1],`, 1)
	r, err := Decode([]byte(text))
	require.NoError(t, err)
	require.Equal(t, normal(sample()), r)
}

// TestSchemaCoversTypes keeps the schema and the Go types in step.
func TestSchemaCoversTypes(t *testing.T) {
	type object struct {
		Required   []string                   `json:"required"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	var doc struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(Schema(), &doc))
	for name, tc := range map[string]struct {
		schema object
		typ    reflect.Type
	}{
		"report":     {doc.object, reflect.TypeFor[result.Report]()},
		"kernel":     {doc.Defs["kernel"], reflect.TypeFor[result.Kernel]()},
		"scenario":   {doc.Defs["scenario"], reflect.TypeFor[result.Scenario]()},
		"difference": {doc.Defs["difference"], reflect.TypeFor[result.Difference]()},
		"field":      {doc.Defs["field"], reflect.TypeFor[result.Field]()},
	} {
		var all, required []string
		for i := range tc.typ.NumField() {
			tag, options, _ := strings.Cut(tc.typ.Field(i).Tag.Get("json"), ",")
			all = append(all, tag)
			if options == "" {
				required = append(required, tag)
			}
		}
		var have []string
		for p := range tc.schema.Properties {
			have = append(have, p)
		}
		require.ElementsMatch(t, all, have, name)
		require.ElementsMatch(t, required, tc.schema.Required, name)
	}
	var verdicts []string
	for _, l := range looks {
		verdicts = append(verdicts, string(l.Verdict))
		require.Equal(t, l.Verdict.Red(), l.Red, l.Verdict)
	}
	for _, v := range verdicts {
		require.Contains(t, string(Schema()), `"`+v+`"`)
	}
}

func TestSampleHasAllVerdicts(t *testing.T) {
	seen := counts{}
	for _, k := range sample().Kernels {
		for v, n := range countsOf(&k) {
			seen[v] += n
		}
	}
	for _, l := range looks {
		require.Positive(t, seen[l.Verdict], l.Verdict)
	}
}

func TestWorstOfSeveralIsShown(t *testing.T) {
	r := &result.Report{Kernels: []result.Kernel{{Line: "a", Scenarios: []result.Scenario{
		{Name: "x", Verdict: result.Pass}, {Name: "x", Verdict: result.Hang},
		{Name: "x", Verdict: result.Fail},
	}}, {Line: "a"}}}
	m := newMatrix(r)
	require.Len(t, m.rows, 1)
	require.Equal(t, result.Hang, m.rows[0].cells[0].Verdict)
	require.Equal(t, []string{"a", "a~2"}, m.keys)
}

func TestClip(t *testing.T) {
	require.Equal(t, "short", clip("short", 5))
	text := strings.Repeat("0123456789 ü\n", 100)
	for _, limit := range []int{0, 1, 13, 50, 200, 1000} {
		got := clip(text, limit)
		require.Contains(t, got, "bytes left out")
		require.LessOrEqual(t, len(got), limit+100)
		require.NotContains(t, got, "\ufffd")
	}
	require.True(t, strings.HasSuffix(clip(text, 100), "0123456789 ü\n"))
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"schema_version":1,"started":"2026-03-14T15:09:26Z","ms":1,"command":"",` +
		`"weir":"","kernels":[{"line":"","ms":0,"scenarios":[{"name":"a","verdict":"fail","ms":0}]}]}`))
	for _, r := range []*result.Report{small(), evil()} {
		var b bytes.Buffer
		if err := JSON(&b, r); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		for _, render := range renderers {
			require.NoError(t, render(io.Discard, r))
		}
		var b bytes.Buffer
		require.NoError(t, JSON(&b, r))
		again, err := Decode(b.Bytes())
		require.NoError(t, err)
		var b2 bytes.Buffer
		require.NoError(t, JSON(&b2, again))
		require.Equal(t, b.String(), b2.String())
	})
}
