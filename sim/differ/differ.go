package differ

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Differ plays cases on both sides. It is not safe for concurrent use.
type Differ struct {
	kernels map[int]*kernel // by table size; loaded when first needed
}

// New returns a Differ. What it loads needs root, and a bpffs at /sys/fs/bpf.
func New() *Differ { return &Differ{kernels: map[int]*kernel{}} }

// Close unloads the datapaths.
func (d *Differ) Close() error {
	var errs []error
	for _, k := range d.kernels {
		errs = append(errs, k.close())
	}
	clear(d.kernels)
	return errors.Join(errs...)
}

// side is one of the two that are compared.
type side interface {
	step(*Step) error
	state() (*State, error)
}

// kernel returns a datapath that is ready for the case.
func (d *Differ) kernel(c *Case) (*kernel, error) {
	k := d.kernels[c.table()]
	if k == nil {
		var err error
		if k, err = load(c.table()); err != nil {
			return nil, err
		}
		d.kernels[c.table()] = k
	}
	return k, k.start(c)
}

// Play plays a case on both sides and returns what they say at its end. The error is about the
// play, such as a kernel that refuses a frame.
func (d *Differ) Play(c *Case) (datapath, reference *State, err error) {
	defer onOneCPU()()
	k, err := d.kernel(c)
	if err != nil {
		return nil, nil, err
	}
	if datapath, err = play(k, c); err != nil {
		return nil, nil, fmt.Errorf("the datapath: %w", err)
	}
	reference, err = play(newReference(c), c)
	return datapath, reference, err
}

func play(s side, c *Case) (*State, error) {
	for i := range c.Steps {
		if err := s.step(&c.Steps[i]); err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return s.state()
}

// onOneCPU keeps the thread on one CPU until the function it returns is called: flow ids are drawn
// on each CPU, and in the order of the packets only there.
func onOneCPU() func() {
	runtime.LockOSThread()
	var all, one unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil {
		return runtime.UnlockOSThread
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	_ = unix.SchedSetaffinity(0, &one)
	return func() {
		_ = unix.SchedSetaffinity(0, &all)
		runtime.UnlockOSThread()
	}
}

// Same tells whether both states say the same.
func Same(a, b *State) bool { return slices.Equal(a.Lines(), b.Lines()) }

// Diff lists what only one of two states says: "- " before the lines of want, "+ " before those
// of got. Lines that stand in another order are named when nothing else differs.
func Diff(want, got *State) []string {
	w, g := want.Lines(), got.Lines()
	if slices.Equal(w, g) {
		return nil
	}
	count := map[string]int{}
	for _, l := range w {
		count[l]++
	}
	for _, l := range g {
		count[l]--
	}
	var diff []string
	for _, side := range []struct {
		mark  string
		sign  int
		lines []string
	}{{"- ", 1, w}, {"+ ", -1, g}} {
		for _, l := range side.lines {
			if count[l]*side.sign > 0 {
				count[l] -= side.sign
				diff = append(diff, side.mark+l)
			}
		}
	}
	if len(diff) == 0 {
		for i := range w {
			if w[i] != g[i] {
				diff = append(diff, "- order: "+w[i], "+ order: "+g[i])
			}
		}
	}
	return diff
}
