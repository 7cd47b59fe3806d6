package suite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOrphans(t *testing.T) {
	tree(t, map[string]string{
		"scenarios/tcp/open.yaml": "o", "scenarios/tcp/close.yaml": "c",
		"golden/tcp/open.yaml": "g", "golden/tcp/gone.yaml": "g", "golden/old/one.yaml": "g",
		"golden/README.md":      "",
		"more/scenarios/a.yaml": "a", "more/golden/b.yaml": "b",
	})
	for name, paths := range map[string][]string{
		"all": nil, "a part": {"scenarios/tcp/close.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			jobs, err := Find(paths, nil)
			require.NoError(t, err)
			orphans, err := Orphans(jobs)
			require.NoError(t, err)
			require.Equal(t, []string{"golden/old/one.yaml", "golden/tcp/gone.yaml"}, orphans)
		})
	}
	jobs, err := Find([]string{"more"}, nil)
	require.NoError(t, err)
	orphans, err := Orphans(jobs)
	require.NoError(t, err)
	require.Equal(t, []string{"more/golden/b.yaml"}, orphans)
}

func TestOrphansWithoutGoldens(t *testing.T) {
	tree(t, map[string]string{"scenarios/tcp/open.yaml": "o"})
	jobs, err := Find(nil, nil)
	require.NoError(t, err)
	orphans, err := Orphans(jobs)
	require.NoError(t, err)
	require.Empty(t, orphans)
}

// TestWatch plays an author: each change is made when the one before was seen.
func TestWatch(t *testing.T) {
	dir := tree(t, map[string]string{"scenarios/a.yaml": "1", "scenarios/b.yaml": "1"})
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	steps := []struct {
		change func()
		want   []string // names; nil: an error
	}{
		{func() { write("scenarios/b.yaml", "2") }, []string{"a", "b"}},
		{func() { write("golden/a.yaml", "1") }, []string{"b"}},
		{func() { write("scenarios/c.yaml", "1") }, []string{"a"}},
		{func() { require.NoError(t, os.RemoveAll("scenarios")) }, []string{"c"}},
		{func() { write("scenarios/c.yaml", "2") }, nil},
		{cancel, []string{"c"}},
	}
	for jobs, err := range Watch(ctx, nil, nil, time.Millisecond) {
		require.NotEmpty(t, steps, "nothing has changed, but %v", names(jobs))
		require.Equal(t, steps[0].want == nil, err != nil)
		require.Equal(t, steps[0].want, names(jobs))
		steps[0].change()
		steps = steps[1:]
	}
	require.Empty(t, steps)
}
