package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// TestTree: the process is in the group while something is made, and is back where it was; groups below one
// another go together.
func TestTree(t *testing.T) {
	tree, err := NewTree("weir-test")
	if errors.Is(err, ErrNone) || errors.Is(err, os.ErrPermission) {
		kerneltest.Lacking(t, fmt.Sprintf("control groups that it may make (%v)", err))
	}
	require.NoError(t, err)
	before := ownUnified(t)
	failed := errors.New("failed")
	err = tree.In("a/b", func() error {
		require.Equal(t, "/"+filepath.Base(tree.dir)+"/a/b", strings.TrimPrefix(ownUnified(t), strings.TrimSuffix(before, "/")))
		return failed
	})
	require.ErrorIs(t, err, failed)
	require.Equal(t, before, ownUnified(t))
	require.NoError(t, tree.In("a", func() error { return nil }))
	require.NoError(t, tree.Close())
	require.NoDirExists(t, tree.dir)
}

func ownUnified(t *testing.T) string {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	path, ok := unified(string(own))
	require.True(t, ok)
	return path
}

func TestUnified(t *testing.T) {
	for own, want := range map[string]string{"0::/\n": "/", "4:memory:/x\n0::/a/b\n": "/a/b", "4:memory:/x\n": ""} {
		got, ok := unified(own)
		require.Equal(t, want, got)
		require.Equal(t, want != "", ok)
	}
}

// TestSweepTrees removes what a run that was killed has left.
func TestSweepTrees(t *testing.T) {
	tree, err := NewTree("weir-test-swept")
	if errors.Is(err, ErrNone) || errors.Is(err, os.ErrPermission) {
		kerneltest.Lacking(t, fmt.Sprintf("control groups that it may make (%v)", err))
	}
	require.NoError(t, err)
	require.NoError(t, tree.In("a/b", func() error { return nil }))
	require.NoError(t, sweepTrees("weir-test-swept", func(string) bool { return false }))
	require.DirExists(t, tree.dir)
	require.NoError(t, sweepTrees("weir-test-swept", func(dir string) bool { return dir == tree.dir }))
	require.NoDirExists(t, tree.dir)
}
