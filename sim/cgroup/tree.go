package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/podgroup"
)

// Tree is a folder of control groups of version 2, in which things are made that belong to a group for life, as
// sockets do.
type Tree struct {
	mount string
	dir   string
}

// NewTree makes a tree whose name begins with a prefix. Close removes it. The error is ErrNone where there are no
// groups of version 2.
func NewTree(prefix string) (*Tree, error) {
	mount, err := podgroup.Mount()
	if errors.Is(err, podgroup.ErrNone) {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(mount, prefix+"-*")
	if err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	return &Tree{mount: mount, dir: dir}, nil
}

// In runs f with this process in the group of a path, which is made if it is not there: what f makes belongs to it,
// and so does what other goroutines make meanwhile.
func (t *Tree) In(path string, f func() error) error {
	dir := filepath.Join(t.dir, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a control group: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("find this process's control group: %w", err)
	}
	home, ok := unified(string(own))
	if !ok {
		return fmt.Errorf("find this process's control group: none of version 2 in %q", own)
	}
	group := Group{dir: dir}
	if err := group.Add(os.Getpid()); err != nil {
		return err
	}
	back := Group{dir: filepath.Join(t.mount, home)}
	return errors.Join(f(), back.Add(os.Getpid()))
}

// unified is the group of version 2 in /proc/self/cgroup.
func unified(own string) (path string, ok bool) {
	for line := range strings.Lines(own) {
		if path, ok = strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n"), true
		}
	}
	return "", false
}

// Close removes the tree, in which no process is any more.
func (t *Tree) Close() error { return removeAll(t.dir) }

// removeAll removes a group and those below it. Their files vanish with them.
func removeAll(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil && d.IsDir():
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		group := Group{dir: d}
		err = errors.Join(err, group.Close())
	}
	return err
}

// sweepTrees removes the trees whose names begin with a prefix and whose owner has ended.
func sweepTrees(prefix string, abandoned func(dir string) bool) error {
	mount, err := podgroup.Mount()
	if errors.Is(err, podgroup.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(mount, prefix+"*"))
	for _, dir := range found {
		if abandoned(dir) {
			err = errors.Join(err, removeAll(dir))
		}
	}
	return err
}
