package process

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controllers are those of cgroups that limits need.
var controllers = []string{"memory", "cpu", "pids"}

// period is the time in which a share of the CPU is measured, in microseconds: the kernel's default.
const period = 100_000

// groups are where the cgroups of a Supervisor's processes are made.
type groups struct {
	// roots are folders of ours, one in each hierarchy that is used; the first is of version 2, if there is one.
	roots []root
	// missing says of controllers why they cannot be used.
	missing map[string]error
}

// root is our folder in a hierarchy.
type root struct {
	dir         string
	v2          bool
	controllers []string // that limit what is below
}

// hierarchy is a cgroup file system that is mounted.
type hierarchy struct {
	dir     string
	v2      bool
	options []string // of version 1: its controllers, and others
}

// hierarchies reads /proc/self/mountinfo (proc(5)).
func hierarchies(mountinfo string) (all []hierarchy) {
	for line := range strings.Lines(mountinfo) {
		mount, kind, found := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(mount), strings.Fields(kind)
		if !found || len(fields) < 5 || len(kinds) < 3 {
			continue
		}
		h := hierarchy{dir: fields[4], v2: kinds[0] == "cgroup2", options: strings.Split(kinds[2], ",")}
		if h.v2 {
			all = slices.Insert(all, 0, h)
		} else if kinds[0] == "cgroup" {
			all = append(all, h)
		}
	}
	return all
}

// openGroups makes folders for cgroups where this process may. That it may not is no error as long as no limit needs
// them. What an earlier Supervisor of the same name has left in them is ended.
func openGroups(name string) (*groups, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for cgroups: %w", err)
	}
	g := &groups{missing: map[string]error{}}
	for _, c := range controllers {
		g.missing[c] = fmt.Errorf("there is no cgroup controller %s here", c)
	}
	for _, h := range hierarchies(string(mountinfo)) {
		if err := g.open(h, name); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// open uses a hierarchy for the controllers that it has and that are still missing.
func (g *groups) open(h hierarchy, name string) error {
	has, err := h.controllers()
	has = slices.DeleteFunc(has, func(c string) bool { return g.missing[c] == nil })
	if err == nil && len(has) == 0 && !h.v2 {
		return nil
	}
	dir := filepath.Join(h.dir, name)
	if err == nil {
		err = mkdir(dir)
	}
	if err != nil {
		for _, c := range has {
			g.missing[c] = fmt.Errorf("the cgroup controller %s cannot be used: %w", c, err)
		}
		return nil
	}
	r := root{dir: dir, v2: h.v2}
	for _, c := range has {
		if h.v2 {
			err = errors.Join(enable(h.dir, c), enable(dir, c))
		}
		if err != nil {
			g.missing[c] = fmt.Errorf("the cgroup controller %s cannot be used: %w", c, err)
			continue
		}
		delete(g.missing, c)
		r.controllers = append(r.controllers, c)
	}
	g.roots = append(g.roots, r)
	return r.clear()
}

func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// controllers are those of ours that the hierarchy has.
func (h *hierarchy) controllers() ([]string, error) {
	have := h.options
	if h.v2 {
		text, err := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
		if err != nil {
			return nil, err
		}
		have = strings.Fields(string(text))
	}
	return slices.DeleteFunc(slices.Clone(controllers), func(c string) bool { return !slices.Contains(have, c) }), nil
}

// enable makes a controller limit what is below a folder of version 2.
func enable(dir, controller string) error {
	return writeFile(dir, "cgroup.subtree_control", "+"+controller)
}

func writeFile(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0)
}

// provide tells whether limits can be kept.
func (g *groups) provide(l Limits) error {
	var errs []error
	for _, c := range slices.Sorted(maps.Keys(l.values(true))) {
		errs = append(errs, g.missing[c])
	}
	return errors.Join(errs...)
}

// setting is a file of a cgroup and what is to be in it. Optional ones may not be there: they belong to swap.
type setting struct {
	file, value string
	optional    bool
}

// values are the settings for limits, by controller.
func (l Limits) values(v2 bool) map[string][]setting {
	all := map[string][]setting{}
	memory, quota := strconv.FormatInt(int64(l.Memory), 10), strconv.FormatInt(int64(l.CPU*period), 10)
	if l.Memory > 0 && v2 {
		all["memory"] = []setting{{"memory.max", memory, false}, {"memory.swap.max", "0", true}, {"memory.oom.group", "1", false}}
	} else if l.Memory > 0 {
		all["memory"] = []setting{{"memory.limit_in_bytes", memory, false}, {"memory.memsw.limit_in_bytes", memory, true}}
	}
	if l.CPU > 0 && v2 {
		all["cpu"] = []setting{{"cpu.max", fmt.Sprintf("%s %d", quota, period), false}}
	} else if l.CPU > 0 {
		all["cpu"] = []setting{{"cpu.cfs_period_us", strconv.Itoa(period), false}, {"cpu.cfs_quota_us", quota, false}}
	}
	if l.PIDs > 0 {
		all["pids"] = []setting{{"pids.max", strconv.Itoa(l.PIDs), false}}
	}
	return all
}

// group is the cgroup of a process: a folder in each hierarchy.
type group []root

// make makes the cgroup of a process.
func (g *groups) make(name string, l Limits) (group, error) {
	var all group
	for _, r := range g.roots {
		own := root{dir: filepath.Join(r.dir, name), v2: r.v2}
		all = append(all, own)
		if err := mkdir(own.dir); err != nil {
			return nil, errors.Join(fmt.Errorf("make the cgroup: %w", err), all.remove())
		}
		values := l.values(r.v2)
		for _, c := range r.controllers {
			if err := own.set(values[c]); err != nil {
				return nil, errors.Join(fmt.Errorf("limit %s: %w", c, err), all.remove())
			}
		}
	}
	return all, nil
}

func (r root) set(all []setting) error {
	for _, s := range all {
		err := writeFile(r.dir, s.file, s.value)
		if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// join are the files that a process writes 0 to, to be in the group.
func (g group) join() (files []string) {
	for _, r := range g {
		files = append(files, filepath.Join(r.dir, "cgroup.procs"))
	}
	return files
}

// patience is how long what was killed may take to be gone.
const patience = 5 * time.Second

// remove kills all that are in the group, and removes it.
func (g group) remove() error {
	var errs []error
	for _, r := range g {
		errs = append(errs, r.remove())
	}
	return errors.Join(errs...)
}

func (r root) remove() error {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		left, err := r.kill()
		if err == nil {
			err = os.Remove(r.dir) // EBUSY as long as one is in it
		}
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			return nil
		case !errors.Is(err, unix.EBUSY), time.Now().After(end):
			return fmt.Errorf("end the %d processes of a cgroup: %w", left, err)
		}
	}
}

// kill kills what is in the group, and tells how many there were.
func (r root) kill() (left int, err error) {
	file, err := os.Open(filepath.Join(r.dir, "cgroup.procs"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); left++ {
		if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended already
		}
	}
	return left, nil
}

// clear ends and removes all groups in the folder.
func (r root) clear() error {
	files, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("list the cgroups: %w", err)
	}
	for _, f := range files {
		if f.IsDir() {
			if err := (root{dir: filepath.Join(r.dir, f.Name())}).remove(); err != nil {
				return err
			}
		}
	}
	return nil
}

// close removes the folders. An agent that has given up its privileges may not do that, and leaves them empty.
func (g *groups) close() error {
	var errs []error
	for _, r := range g.roots {
		if err := os.Remove(r.dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, fmt.Errorf("remove the cgroups: %w", err))
		}
	}
	return errors.Join(errs...)
}
