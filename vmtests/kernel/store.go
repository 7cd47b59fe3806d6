package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Store keeps kernels below a folder: kernels/<release>_<version>/{vmlinuz,lib/modules/...}, and
// in kernels/lines.json what each line was resolved to. Several processes can use one store.
type Store struct {
	Dir    string // the cache folder
	Mirror Mirror // where to fetch from; zero: where the machine's apt does
	// Log is called with one line when something slow begins. It may be nil.
	Log func(format string, args ...any)
}

// CacheDir is the folder that weir caches in: $WEIR_CACHE, else weir below the user's cache
// folder.
func CacheDir() (string, error) {
	if d := os.Getenv("WEIR_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder (set WEIR_CACHE): %w", err)
	}
	return filepath.Join(d, "weir"), nil
}

// Found is the outcome for one line: a kernel, or why there is none.
type Found struct {
	Line     string
	Kernel   Kernel
	Err      error     // ErrUnavailable in its chain: the archive has none
	Resolved time.Time // when the archive was last asked; zero: never, or a path
}

// resolution is what lines.json holds for a line.
type resolution struct {
	Lines       []string  `json:"lines,omitempty"` // of Every: what it stands for
	Key         string    `json:"key,omitempty"`   // folder of the kernel
	Unavailable string    `json:"unavailable,omitempty"`
	Resolved    time.Time `json:"resolved"`
}

// Cached looks lines up without the network. A line that was never asked for has an error that
// is fs.ErrNotExist. For Every there are all lines that the archive had when it was last asked.
func (s *Store) Cached(lines []string) []Found {
	known := s.load()
	lines = expand(known, lines)
	found := make([]Found, len(lines))
	for i, line := range lines {
		found[i] = s.cached(known, line)
	}
	return found
}

// expand puts the lines that Every stands for in its place, if they are known.
func expand(known map[string]resolution, lines []string) []string {
	var all []string
	for _, line := range lines {
		add := []string{line}
		if line == Every && len(known[Every].Lines) > 0 {
			add = known[Every].Lines
		}
		for _, l := range add {
			if !slices.Contains(all, l) {
				all = append(all, l)
			}
		}
	}
	return all
}

func (s *Store) cached(known map[string]resolution, line string) Found {
	f := Found{Line: line}
	if IsPath(line) {
		f.Kernel, f.Err = FromPath(line)
		return f
	}
	r, ok := known[line]
	f.Resolved = r.Resolved
	switch {
	case !ok:
		f.Err = fmt.Errorf("kernel %s is not fetched: %w", line, fs.ErrNotExist)
	case r.Unavailable != "":
		f.Err = unavailable(r.Unavailable)
	default:
		f.Kernel, f.Err = s.open(line, r.Key)
	}
	return f
}

func (s *Store) open(line, key string) (Kernel, error) {
	dir := filepath.Join(s.Dir, "kernels", key)
	data, err := os.ReadFile(filepath.Join(dir, "kernel.json"))
	if err != nil {
		return Kernel{}, fmt.Errorf("open cached kernel: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil || len(m.Debs) == 0 {
		return Kernel{}, fmt.Errorf("open cached kernel %s: bad kernel.json: %w", key, err)
	}
	return m.kernel(line, dir), nil
}

// Get gives the kernels of lines from the cache, and fetches those that were never asked for.
func (s *Store) Get(ctx context.Context, lines []string) []Found {
	found := s.Cached(lines)
	var missing []string
	for _, f := range found {
		if errors.Is(f.Err, fs.ErrNotExist) && !IsPath(f.Line) {
			missing = append(missing, f.Line)
		}
	}
	if len(missing) == 0 {
		return found
	}
	if slices.Contains(missing, Every) { // only the archive knows what lines it has
		return s.fetch(ctx, lines, false)
	}
	fetched := map[string]Found{}
	for _, f := range s.fetch(ctx, missing, false) {
		fetched[f.Line] = f
	}
	for i := range found {
		if f, ok := fetched[found[i].Line]; ok {
			found[i] = f
		}
	}
	return found
}

// Pull asks the archive for the newest package of each line and fetches what is new. When the
// archive cannot be asked, a line that is cached stays as it is and the error says so.
func (s *Store) Pull(ctx context.Context, lines []string) []Found {
	return s.fetch(ctx, lines, true)
}

// fetch resolves and fetches lines under the store's lock.
func (s *Store) fetch(ctx context.Context, lines []string, refresh bool) []Found {
	found := make([]Found, len(lines))
	all := func(err error) []Found {
		for i, line := range lines {
			found[i] = Found{Line: line, Err: err}
		}
		return found
	}
	unlock, err := s.lock()
	if err != nil {
		return all(err)
	}
	defer unlock()
	if !refresh { // another process may have fetched them while this one waited
		if found = s.Cached(lines); !anyMissing(found) {
			return found
		}
	}
	client := apt{dir: filepath.Join(s.Dir, "apt"), mirror: s.Mirror}
	defer os.RemoveAll(filepath.Join(client.dir, "cache")) // apt's own index of the lists: large
	s.log("reading the archive's package lists")
	if err := client.ready(ctx); err != nil {
		return all(err)
	}
	if err := client.update(ctx, refresh); err != nil {
		return all(err)
	}
	archive, err := client.kernels(ctx)
	if err != nil {
		return all(err)
	}
	known := s.load()
	if slices.Contains(lines, Every) {
		every := linesOf(whole(archive))
		for _, line := range linesOf(archive) {
			if !slices.Contains(every, line) {
				s.log("left out: %s, of which the archive has no %s", line, lack(archive, line))
			}
		}
		known[Every] = resolution{Lines: every, Resolved: time.Now().UTC().Truncate(time.Second)}
		lines = expand(known, lines)
		found = make([]Found, len(lines))
	}
	for i, line := range lines {
		if IsPath(line) {
			found[i] = s.cached(nil, line)
			continue
		}
		r := resolution{Resolved: time.Now().UTC().Truncate(time.Second)}
		r.Key, err = s.resolve(ctx, client, archive, line)
		if errors.Is(err, ErrUnavailable) {
			r.Unavailable = err.Error()
		} else if err != nil {
			found[i] = Found{Line: line, Err: err}
			continue
		}
		known[line] = r
		found[i] = s.cached(known, line)
		if err := s.save(known); err != nil {
			return all(err)
		}
	}
	return found
}

func anyMissing(found []Found) bool {
	for _, f := range found {
		if errors.Is(f.Err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// resolve fetches the best kernel of a line that can be had, and gives its folder's name.
func (s *Store) resolve(
	ctx context.Context, c apt, archive []archived, line string,
) (string, error) {
	choices := choose(whole(archive), line)
	if lacks := lack(archive, line); len(choices) == 0 && lacks != "" {
		return "", fmt.Errorf("line %s: the archive has no %s: %w", line, lacks, ErrUnavailable)
	}
	if len(choices) == 0 {
		return "", fmt.Errorf("no cloud-amd64 kernel of line %s: %w", line, ErrUnavailable)
	}
	var first error
	for _, k := range choices {
		key := strings.TrimSuffix(k.ABI, "-unsigned") + "_" + k.Version
		if _, err := s.open(line, key); err == nil {
			return key, nil
		}
		s.log("fetching kernel %s: %s %s", line, k.Debs[0].Package, k.Version)
		err := s.unpack(ctx, c, k, key)
		if err == nil {
			return key, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// unpack fetches the packages of k and puts their files in place in one step.
func (s *Store) unpack(ctx context.Context, c apt, k archived, key string) error {
	root := filepath.Join(s.Dir, "kernels")
	tmp, err := os.MkdirTemp(root, ".new-*")
	if err != nil {
		return fmt.Errorf("make kernel folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	m := manifest{Version: k.Version, Fetched: time.Now().UTC().Truncate(time.Second)}
	dir := filepath.Join(tmp, "kernel")
	for _, r := range k.Debs {
		file, err := c.download(ctx, tmp, r)
		if err != nil {
			return err
		}
		d := deb{Name: r.Package}
		if d.SHA256, d.Bytes, err = hashFile(file); err != nil {
			return err
		}
		if d.SHA256 != r.SHA256 {
			return fmt.Errorf("check %s: its SHA-256 is %s, the index says %s",
				r.Package, d.SHA256, r.SHA256)
		}
		m.Debs = append(m.Debs, d)
		release, err := extract(ctx, file, dir)
		if err != nil {
			return err
		}
		if release != "" {
			m.Release = release
		}
	}
	if _, err := os.Stat(filepath.Join(dir, imageName)); err != nil || m.Release == "" {
		return fmt.Errorf("unpack %s: no kernel image or no modules in it", k.Debs[0].Package)
	}
	if err := writeJSON(filepath.Join(dir, "kernel.json"), m); err != nil {
		return err
	}
	final := filepath.Join(root, key)
	_ = os.RemoveAll(final) // a folder without a manifest
	if err := os.Rename(dir, final); err != nil {
		return fmt.Errorf("place kernel: %w", err)
	}
	return nil
}

func (s *Store) log(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}

// lock makes the store's folder and keeps other processes from writing to it.
func (s *Store) lock() (unlock func(), err error) {
	dir := filepath.Join(s.Dir, "kernels")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// load reads lines.json. A file that is missing or bad counts as empty: it is a cache.
func (s *Store) load() map[string]resolution {
	known := map[string]resolution{}
	data, err := os.ReadFile(filepath.Join(s.Dir, "kernels", "lines.json"))
	if err == nil && json.Unmarshal(data, &known) != nil {
		return map[string]resolution{}
	}
	return known
}

func (s *Store) save(known map[string]resolution) error {
	return writeJSON(filepath.Join(s.Dir, "kernels", "lines.json"), known)
}

// writeJSON writes v so that readers see the old file or the new one.
func writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	if err := os.WriteFile(name+".tmp", append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return os.Rename(name+".tmp", name)
}

// unavailable gives a remembered reason its error value back.
type unavailable string

func (u unavailable) Error() string        { return string(u) }
func (u unavailable) Is(target error) bool { return target == ErrUnavailable }
