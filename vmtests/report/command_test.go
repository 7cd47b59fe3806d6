package report

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// run runs `weir report` with args.
func run(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := Command()
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestCommandRenders(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Write(dir, sample()))
	for name, f := range map[string]func(io.Writer, *result.Report) error{
		"html": HTML, "junit": JUnit, "markdown": Markdown, "annotations": Annotations,
		"table": renderers["table"],
	} {
		t.Run(name, func(t *testing.T) {
			want := render(t, f, sample())
			got, err := run(name, dir)
			require.NoError(t, err)
			require.Equal(t, want, got)

			file := filepath.Join(t.TempDir(), "out")
			got, err = run(name, filepath.Join(dir, ResultsFile), "-o", file)
			require.NoError(t, err)
			require.Empty(t, got)
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, want, string(data))
		})
	}
	got, err := run("table", "--color", dir)
	require.NoError(t, err)
	require.Contains(t, got, "\x1b[")
}

func TestCommandWrite(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	require.NoError(t, Write(from, sample()))
	_, err := run("write", from, "--dir", to)
	require.NoError(t, err)
	for _, f := range []string{ResultsFile, JUnitFile, MarkdownFile, HTMLFile} {
		a, err := os.ReadFile(filepath.Join(from, f))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(to, f))
		require.NoError(t, err)
		require.Equal(t, string(a), string(b), f)
	}
}

func TestCommandSchema(t *testing.T) {
	got, err := run("schema")
	require.NoError(t, err)
	require.Equal(t, string(Schema()), got)
}

func TestCommandErrors(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"absent":        {"html", filepath.Join(dir, "none")},
		"no results":    {"table", dir},
		"no argument":   {"junit"},
		"two arguments": {"junit", dir, dir},
		"no --dir":      {"write", dir},
		"unknown":       {"pdf", dir},
		"no folder":     {"html", dir, "-o", filepath.Join(dir, "a", "b")},
	} {
		_, err := run(args...)
		require.Error(t, err, name)
	}
}

func TestCommandHistory(t *testing.T) {
	dir := t.TempDir()
	before, after := filepath.Join(dir, "before"), filepath.Join(dir, "after")
	require.NoError(t, Write(before, oneRun("a", "6.1.0", result.Fail)))
	require.NoError(t, Write(after, oneRun("a", "6.1.0", result.Pass)))
	_, err := run("write", after, "--history", before, "--dir", after)
	require.NoError(t, err)
	r, err := Read(after)
	require.NoError(t, err)
	require.Equal(t, "was fail", r.Kernels[0].Scenarios[0].Change)
	require.Len(t, r.Flaky, 1)

	out, err := run("flakes", before, after)
	require.Contains(t, out, "tcp/reset on 6.1 (6.1.0): red in 1 of 2 runs of weir a: why")
	var code interface{ ExitCode() int }
	require.ErrorAs(t, err, &code)
	require.Equal(t, result.ExitFlaky, code.ExitCode())
	out, err = run("flakes", after)
	require.NoError(t, err)
	require.Contains(t, out, "none is flaky")
	_, err = run("write", after, "--history", filepath.Join(dir, "none"), "--dir", after)
	require.Error(t, err)
}
