package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every namespace of ours.
const prefix = "weir-"

// owner is the file that tells whose the namespaces of a network are. Its name is the prefix of
// theirs; its lines are their paths.
type owner struct {
	id   string // weir-<pid>-<number of the network within the process>
	path string
	lock int // a descriptor and not an os.File: it must not be closed by the garbage collector
}

const (
	ownerSuffix = ".owner"
	newPrefix   = "new-" // of owner files that are not complete
)

// newOwner makes and locks an owner file before there is any namespace to own. It appears under
// its name only when it is complete and locked, so Sweep never sees half of one.
func newOwner(opts Options, hosts []string) (*owner, error) {
	if err := os.MkdirAll(opts.RunDir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of owner files: %w", err)
	}
	for number := 0; ; number++ {
		o := &owner{id: fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), number)}
		o.path = filepath.Join(opts.RunDir, o.id+ownerSuffix)
		err := o.claim(opts, hosts)
		switch {
		case err == nil:
			return o, nil
		case errors.Is(err, os.ErrNotExist): // Sweep took the file before it was locked
		case !errors.Is(err, os.ErrExist):
			return nil, fmt.Errorf("make owner file: %w", err)
		}
	}
}

func (o *owner) claim(opts Options, hosts []string) error {
	f, err := os.CreateTemp(opts.RunDir, newPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var lines strings.Builder
	for _, h := range hosts {
		fmt.Fprintln(&lines, filepath.Join(opts.NetnsDir, o.namespace(h)))
	}
	_, err = f.WriteString(lines.String())
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Link(f.Name(), o.path)
	}
	if err == nil { // a duplicate shares the lock
		o.lock, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	}
	return err
}

// namespace is the name of a host's namespace.
func (o *owner) namespace(host string) string { return o.id + "-" + host }

// release removes the file and gives the lock back.
func (o *owner) release() error {
	return errors.Join(os.Remove(o.path), unix.Close(o.lock))
}

// Sweep removes the networks of processes that have ended without doing so. It returns the
// names of the namespaces that it removed. Networks of live processes, and namespaces that are
// not weir's, are left alone.
func Sweep(opts Options) ([]string, error) {
	opts = opts.withDefaults()
	entries, err := os.ReadDir(opts.RunDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list owner files: %w", err)
	}
	var removed []string
	var errs []error
	for _, e := range entries {
		complete := strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), ownerSuffix)
		if !complete && !strings.HasPrefix(e.Name(), newPrefix) {
			continue
		}
		names, err := sweepOne(filepath.Join(opts.RunDir, e.Name()))
		removed = append(removed, names...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("sweep: %w", err)
	}
	return removed, nil
}

// sweepOne removes one network if nobody holds its lock.
func sweepOne(path string) ([]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // its owner has just removed it
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, nil // its owner lives
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := strings.TrimSuffix(filepath.Base(path), ownerSuffix)
	var removed []string
	for _, ns := range strings.Fields(string(data)) {
		// Whatever came to be in the file: nothing is removed that is not named as ours.
		if !strings.HasPrefix(filepath.Base(ns), id+"-") {
			continue
		}
		if _, err := os.Lstat(ns); err != nil {
			continue
		}
		if err := removeNamespace(ns); err != nil {
			return removed, err
		}
		removed = append(removed, filepath.Base(ns))
	}
	return removed, os.Remove(path)
}
