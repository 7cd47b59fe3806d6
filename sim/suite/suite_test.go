package suite

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/runner"
)

// tree writes files into a new folder and makes it the working directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	t.Chdir(dir)
	return dir
}

func names(jobs []runner.Job) []string {
	var all []string
	for _, j := range jobs {
		all = append(all, j.Name)
	}
	return all
}

func TestFind(t *testing.T) {
	dir := tree(t, map[string]string{
		"scenarios/tcp/close.yaml": "c", "scenarios/tcp/open.yaml": "o", "scenarios/udp.yaml": "u",
		"scenarios/README.md": "", "golden/tcp/open.yaml": "gold",
		"more/scenarios/a/b/deep.yaml": "d", "loose/one.yaml": "l", "loose/two.txt": "t",
	})
	all := []string{"tcp/close", "tcp/open", "udp"}
	tests := []struct {
		name  string
		paths []string
		match string
		want  []string
	}{
		{"default", nil, "", all},
		{"folder", []string{"scenarios"}, "", all},
		{"absolute", []string{filepath.Join(dir, "scenarios")}, "", all},
		{"inside", []string{"scenarios/tcp"}, "", all[:2]},
		{"file", []string{"scenarios/tcp/open.yaml"}, "", all[1:2]},
		{"the same twice", []string{"scenarios/udp.yaml", "./scenarios", "scenarios/"}, "", all},
		{"match", nil, "^tcp/", all[:2]},
		{"nearest folder called scenarios", []string{"more"}, "", []string{"a/b/deep"}},
		{"no folder called scenarios", []string{"loose"}, "", []string{"one"}},
		{"a file by any name", []string{"loose/two.txt"}, "", []string{"two.txt"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var match *regexp.Regexp
			if test.match != "" {
				match = regexp.MustCompile(test.match)
			}
			jobs, err := Find(test.paths, match)
			require.NoError(t, err)
			require.Equal(t, test.want, names(jobs))
		})
	}
}

func TestFindTheSameByTwoPaths(t *testing.T) {
	dir := tree(t, map[string]string{"scenarios/udp.yaml": "u"})
	jobs, err := Find([]string{"scenarios", filepath.Join(dir, "scenarios")}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"udp"}, names(jobs), "a relative and an absolute path of one file")
}

func TestFindReadsGoldens(t *testing.T) {
	tree(t, map[string]string{"scenarios/tcp/open.yaml": "spec", "golden/tcp/open.yaml": "gold",
		"scenarios/udp.yaml": "spec"})
	jobs, err := Find(nil, nil)
	require.NoError(t, err)
	require.Equal(t, []runner.Job{
		{Name: "tcp/open", File: "scenarios/tcp/open.yaml", Spec: []byte("spec"),
			GoldenFile: "golden/tcp/open.yaml", Golden: []byte("gold")},
		{Name: "udp", File: "scenarios/udp.yaml", Spec: []byte("spec"), GoldenFile: "golden/udp.yaml"},
	}, jobs)
}

func TestFindsNothing(t *testing.T) {
	tree(t, map[string]string{"empty/x.txt": "", "scenarios/udp.yaml": "u",
		"golden/dir.yaml/x": "", "scenarios/sub/dir.yaml": ""})
	_, err := Find([]string{"empty"}, nil)
	require.EqualError(t, err, "find scenarios: no .yaml file in empty")
	_, err = Find(nil, regexp.MustCompile("tpc"))
	require.EqualError(t, err, `find scenarios: none of the 2 in scenarios matches "tpc"`)
	require.ErrorIs(t, err, ErrNoMatch)
	_, err = Find([]string{"gone"}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "gone")
}

func TestWhole(t *testing.T) {
	for _, paths := range [][]string{nil, {"scenarios"}, {"./scenarios/"}, {"a.yaml", "/x/scenarios"}} {
		require.True(t, Whole(paths), "%q", paths)
	}
	for _, paths := range [][]string{{"scenarios/tcp"}, {"scenarios/udp.yaml"}, {"."}} {
		require.False(t, Whole(paths), "%q", paths)
	}
}

func TestGoldenIsNoFile(t *testing.T) {
	tree(t, map[string]string{"scenarios/x.yaml": "", "golden/x.yaml/y": ""})
	_, err := Find(nil, nil)
	require.ErrorContains(t, err, "read the golden file")
}

func TestCheckTellsAll(t *testing.T) {
	err := Check([]runner.Job{{File: "a.yaml"}, {File: "b.yaml", Spec: []byte("x: [")}})
	require.ErrorContains(t, err, "a.yaml: the file is empty")
	require.ErrorContains(t, err, "b.yaml:1:")
}
