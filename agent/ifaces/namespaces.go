package ifaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Own names the network namespace of the process in a list of namespaces.
const Own = "own"

// Namespace is a network namespace.
type Namespace struct {
	Name  string // by name below Folder or by path; "" is the process's own
	Inode uint64
}

// CheckNamespace tells what is wrong with an item of a list of namespaces.
func CheckNamespace(item string) error {
	if _, err := path.Match(item, ""); err != nil || item == "" {
		return fmt.Errorf("%q: want %s, a name or a pattern below %s like \"*\", or a path", item, Own, Folder)
	}
	return nil
}

// list finds the namespaces that items name, each once, under the first name it has. What does not
// exist is left out: it may come.
func list(items []string) ([]Namespace, error) {
	var all []Namespace
	known := map[uint64]bool{}
	add := func(name, file string) error {
		inode, err := inodeOf(file)
		if err != nil || inode == 0 || known[inode] {
			return err
		}
		known[inode] = true
		all = append(all, Namespace{name, inode})
		return nil
	}
	for _, item := range items {
		err := error(nil)
		switch {
		case item == Own:
			err = add("", "/proc/self/ns/net")
		case strings.Contains(item, "/"):
			err = add(item, item)
		default:
			err = matching(item, add)
		}
		if err != nil {
			return nil, fmt.Errorf("find network namespaces %s: %w", item, err)
		}
	}
	return all, nil
}

// matching shows the namespaces below Folder whose names fit a pattern.
func matching(pattern string, add func(name, file string) error) error {
	entries, err := os.ReadDir(Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fits, err := path.Match(pattern, e.Name()); err != nil || !fits {
			continue // CheckNamespace was asked
		}
		if err := add(e.Name(), filepath.Join(Folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// inodeOf is the inode of a network namespace, or 0 where there is none: a file below Folder comes
// before what is mounted on it, and stays for a while when that has gone.
func inodeOf(file string) (uint64, error) {
	var in unix.Statfs_t
	if err := unix.Statfs(file, &in); err != nil {
		return 0, unlessGone(err)
	}
	if in.Type != unix.NSFS_MAGIC {
		return 0, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, unlessGone(err)
	}
	return st.Ino, nil
}

func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// Enter is Do, in the network namespace with an inode: another one that has got its name since is not
// entered, and the error is os.ErrNotExist then.
func Enter(ns Namespace, fn func() error) error {
	return Do(ns.Name, func() error {
		inode, err := inodeOf("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("find the network namespace's inode: %w", err)
		}
		if inode != ns.Inode {
			return fmt.Errorf("network namespace %s is another one now: %w", ns.Name, os.ErrNotExist)
		}
		return fn()
	})
}
