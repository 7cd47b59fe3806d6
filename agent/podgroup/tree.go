package podgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxGroups bounds how many control groups a Tree remembers. A machine with 250 pods has some 1500.
const maxGroups = 1 << 16

// ErrNone is returned where control groups of version 2 are not mounted.
var ErrNone = errors.New("no control groups of version 2 are mounted; the agent needs the host's /sys/fs/cgroup")

// Mount finds where control groups of version 2 are mounted: of several places, as containers have that mount the
// host's, the one from which most is seen.
func Mount() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find control groups: %w", err)
	}
	dir := mountIn(string(mounts))
	if dir == "" {
		return "", ErrNone
	}
	return dir, nil
}

// mountIn finds it in /proc/self/mountinfo. What is mounted from further up than this process's own root of
// control groups begins with as many "/.." (cgroup_namespaces(7)).
func mountIn(mounts string) (dir string) {
	most := -1
	for line := range strings.Lines(mounts) {
		// id parent major:minor root mount-point options [optional...] - type source super-options
		before, after, _ := strings.Cut(line, " - ")
		at, of := strings.Fields(before), strings.Fields(after)
		if len(at) < 5 || len(of) < 1 || of[0] != "cgroup2" {
			continue
		}
		root := at[3]
		up := strings.Count(root, "/..")
		if root != "/" && up == 0 {
			continue // a group, and not the root
		}
		if up > most {
			dir, most = at[4], up
		}
	}
	return dir
}

// Tree finds control groups by their ids. Its methods may not be called concurrently.
type Tree struct {
	root   string
	groups map[uint64]group
	fresh  bool // it was read since Refresh
	reads  uint64
}

type group struct {
	uid string // of its pod, or ""
	at  uint64 // the last read in which it was there
}

// Open begins to know the groups below a folder, which must be of control groups of version 2.
func Open(root string) (*Tree, error) {
	var at syscall.Statfs_t
	if err := syscall.Statfs(root, &at); err != nil {
		return nil, fmt.Errorf("look at control groups: %w", err)
	}
	const magic = 0x63677270 // CGROUP2_SUPER_MAGIC in linux/magic.h
	if at.Type != magic {
		return nil, fmt.Errorf("%s: %w", root, ErrNone)
	}
	t := &Tree{root: root, groups: map[uint64]group{}}
	return t, t.read()
}

// Part tells that groups above the root are not seen, as in a container that has not mounted the host's: the kernel's
// root alone is of no type (cgroups(7)).
func (t *Tree) Part() bool {
	_, err := os.Stat(filepath.Join(t.root, "cgroup.type"))
	return err == nil
}

// Refresh lets the tree be read once more, for the next id that is not known. There may be many such ids, and a read
// goes through all groups.
func (t *Tree) Refresh() { t.fresh = false }

// UID finds the UID of the pod that a group belongs to; "" is of no pod. known is false when the group is not there and
// was not when the tree was read; what was is remembered when it has gone.
func (t *Tree) UID(id uint64) (uid string, known bool, err error) {
	g, known := t.groups[id]
	if !known && !t.fresh {
		err = t.read()
		g, known = t.groups[id]
	}
	return g.uid, known, err
}

// read goes through the tree. The id of a group is the inode of its folder (kernfs).
func (t *Tree) read() error {
	t.fresh = true
	t.reads++
	now := 0
	err := filepath.WalkDir(t.root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it has gone meanwhile
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil // likewise
		}
		if now++; now > maxGroups {
			return fs.SkipAll
		}
		t.groups[info.Sys().(*syscall.Stat_t).Ino] = group{UID(strings.TrimPrefix(path, t.root)), t.reads}
		return nil
	})
	t.forget()
	if err != nil {
		return fmt.Errorf("read control groups: %w", err)
	}
	return nil
}

// forget lets go of groups that have gone, where there are too many.
func (t *Tree) forget() {
	if len(t.groups) <= maxGroups {
		return
	}
	for id, g := range t.groups {
		if g.at != t.reads {
			delete(t.groups, id)
		}
	}
}
