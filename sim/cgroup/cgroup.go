// Package cgroup bounds the memory of processes by control groups, of version 2 or 1, whichever has the
// memory controller on this machine, and makes groups of version 2 for sockets to belong to.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNone is returned where no group can be made: with New, whose memory is bounded.
var ErrNone = errors.New("no control groups")

// Group is a control group for memory.
type Group struct {
	dir string
	one bool // of version 1
}

// place is where groups are made: in version 2 at the top of what this process sees, for below a group with
// processes there are none; in version 1 below its own group. The error is ErrNone where there is no such place.
func place() (dir string, one bool, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", false, fmt.Errorf("find control groups: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false, fmt.Errorf("find control groups: %w", err)
	}
	if dir, one = memoryIn(string(mounts), string(own)); dir == "" {
		return "", false, ErrNone
	}
	return dir, one, nil
}

// memoryIn finds the place in /proc/self/mountinfo and /proc/self/cgroup.
func memoryIn(mounts, own string) (dir string, one bool) {
	for line := range strings.Lines(mounts) {
		// id parent major:minor root mount-point options [optional...] - type source super-options
		before, after, _ := strings.Cut(line, " - ")
		at, of := strings.Fields(before), strings.Fields(after)
		if len(at) < 5 || len(of) < 3 {
			continue
		}
		switch {
		case of[0] == "cgroup" && slices.Contains(strings.Split(of[2], ","), "memory"):
			return filepath.Join(at[4], strings.TrimPrefix(ownGroup(own), at[3])), true
		case of[0] == "cgroup2" && handsOutMemory(at[4]):
			dir = at[4]
		}
	}
	return dir, false
}

// ownGroup is this process's group for memory in version 1.
func ownGroup(own string) string {
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && slices.Contains(strings.Split(parts[1], ","), "memory") {
			return parts[2]
		}
	}
	return "/"
}

func handsOutMemory(dir string) bool {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(controllers)), "memory")
}

// New makes a group whose name begins with a prefix. Close removes it.
func New(prefix string) (*Group, error) {
	parent, one, err := place()
	if err != nil {
		return nil, err
	}
	if !one { // groups have the controllers that the one above hands down
		if err := write(parent, "cgroup.subtree_control", "+memory"); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
	}
	dir, err := os.MkdirTemp(parent, prefix+"-*")
	if err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	return &Group{dir: dir, one: one}, nil
}

// Add moves a process into the group. What it holds already is not reckoned to the group.
func (g *Group) Add(pid int) error {
	if err := write(g.dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("move process %d into a control group: %w", pid, err)
	}
	return nil
}

// tries is how often a limit is set to what is held, which changes meanwhile.
const tries = 100

// Limit bounds the group's memory, in bytes. Where it holds more, the kernel takes back what it can, and
// then kills processes: at once, or in version 1 when they next ask for memory.
func (g *Group) Limit(bytes uint64) error {
	file := "memory.max"
	if g.one {
		file = "memory.limit_in_bytes"
	}
	err := write(g.dir, file, strconv.FormatUint(bytes, 10))
	for range tries { // version 1 does not go below what is held: as near as it goes
		if !g.one || !errors.Is(err, unix.EBUSY) {
			break
		}
		var held uint64
		if held, err = g.held(); err == nil {
			err = write(g.dir, file, strconv.FormatUint(held, 10))
		}
	}
	if err != nil {
		return fmt.Errorf("bound a control group's memory: %w", err)
	}
	return nil
}

// held is how many bytes a group of version 1 holds.
func (g *Group) held() (uint64, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, "memory.usage_in_bytes"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// Killed is how many processes the kernel has killed for want of memory.
func (g *Group) Killed() (int, error) {
	file := "memory.events"
	if g.one {
		file = "memory.oom_control"
	}
	f, err := os.Open(filepath.Join(g.dir, file))
	if err != nil {
		return 0, fmt.Errorf("ask a control group for what was killed: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, fmt.Errorf("ask a control group for what was killed: %s does not tell", file)
}

// Close removes the group, whose processes have ended.
func (g *Group) Close() error {
	if err := os.Remove(g.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a control group: %w", err)
	}
	return nil
}

// Sweep removes the groups and trees whose names begin with a prefix and whose owner has ended, as abandoned
// tells by their path. Where there are no groups there is nothing to do.
func Sweep(prefix string, abandoned func(dir string) bool) error {
	return errors.Join(sweepTrees(prefix, abandoned), sweepGroups(prefix, abandoned))
}

func sweepGroups(prefix string, abandoned func(dir string) bool) error {
	parent, _, err := place()
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, dir := range found {
		if abandoned(dir) {
			g := Group{dir: dir}
			err = errors.Join(err, g.Close())
		}
	}
	return err
}

func write(dir, file, text string) error {
	return os.WriteFile(filepath.Join(dir, file), []byte(text), 0)
}
