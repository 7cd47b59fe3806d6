package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// worker runs functions on a thread of its own that does not leave its CPU.
type worker struct {
	work chan func()
}

func newWorker(cpu int) (*worker, error) {
	w := &worker{work: make(chan func())}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its affinity
		var set unix.CPUSet
		set.Set(cpu)
		started <- unix.SchedSetaffinity(0, &set)
		for fn := range w.work {
			fn()
		}
	}()
	if err := <-started; err != nil {
		close(w.work)
		return nil, fmt.Errorf("stay on CPU %d: %w", cpu, err)
	}
	return w, nil
}

// newWorkers starts a worker on each CPU.
func newWorkers(cpus []int) ([]*worker, error) {
	var all []*worker
	for _, cpu := range cpus {
		w, err := newWorker(cpu)
		if err != nil {
			stop(all)
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

func stop(workers []*worker) {
	for _, w := range workers {
		close(w.work)
	}
}

// atOnce runs fn on each worker and waits. They begin when all of them have their CPU: each
// spins until then.
func atOnce(workers []*worker, fn func(i int) error) error {
	errs := make([]error, len(workers))
	var here atomic.Int32
	var done sync.WaitGroup
	for i, w := range workers {
		done.Add(1)
		w.work <- func() {
			defer done.Done()
			for here.Add(1); here.Load() < int32(len(workers)); {
				continue
			}
			errs[i] = fn(i)
		}
	}
	done.Wait()
	return errors.Join(errs...)
}

// oneCore is below what two cores need to pass a word on, and above what two threads of one core
// need, in ns: 160 and 25 on an AMD EPYC.
const oneCore = 60

// handovers is how often two CPUs pass a word to each other to tell how far apart they are.
const handovers = 5000

// handover returns how long it takes one CPU to see what the other wrote, in ns: the best of some
// rounds, or 0 without two CPUs. A virtual machine's CPUs wander over the host's, whose topology it
// does not see: at one time they are two cores, at another two threads of one, which share their
// cache and do not contend.
func handover(workers []*worker) (ns float64, err error) {
	if len(workers) < 2 {
		return 0, nil
	}
	for range 5 {
		var word atomic.Int64
		var end time.Time
		begin := time.Now()
		err = atOnce(workers[:2], func(i int) error {
			if i == 0 {
				begin = time.Now()
			}
			for n := int64(i); n < handovers; n += 2 {
				for word.Load() != n {
					continue
				}
				word.Store(n + 1)
			}
			if i == 1 {
				end = time.Now()
			}
			return nil
		})
		if took := float64(end.Sub(begin)) / handovers; ns == 0 || took < ns {
			ns = took
		}
	}
	return ns, err
}

// span is when a run began and ended, and how much of that time it ran on its CPU.
type span struct {
	begin, end time.Time
	ran        time.Duration
}

// simultaneous tells whether all runs were on their CPUs for most of the time of the longest one.
// CPUs that send the same number of packets do not take quite the same time.
func simultaneous(spans []span) bool {
	begin, end, longest := spans[0].begin, spans[0].end, time.Duration(0)
	for _, s := range spans {
		took := s.end.Sub(s.begin)
		if s.ran < took*3/4 {
			return false // something else had its CPU
		}
		if s.begin.After(begin) {
			begin = s.begin
		}
		if s.end.Before(end) {
			end = s.end
		}
		longest = max(longest, took)
	}
	return end.Sub(begin) > longest*3/4
}

// pickCPUs gives up to two CPUs that this process may use, and tells whether they are threads
// of one core: two cores are taken where there are two.
func pickCPUs() (cpus []int, siblings bool, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, false, fmt.Errorf("ask for the CPUs: %w", err)
	}
	var all []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	for _, other := range all[1:] {
		if core(other) != core(all[0]) {
			return []int{all[0], other}, false, nil
		}
	}
	return all[:min(2, len(all))], len(all) > 1, nil
}

// core is a name of the core that a CPU is a thread of.
func core(cpu int) string {
	text, err := os.ReadFile("/sys/devices/system/cpu/cpu" + strconv.Itoa(cpu) +
		"/topology/thread_siblings_list")
	if err != nil {
		return strconv.Itoa(cpu)
	}
	return strings.TrimSpace(string(text))
}

// freeMemory is how much memory the machine can still give, in bytes.
func freeMemory() (uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var kib uint64
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("read /proc/meminfo: %w", err)
	}
	return kib << 10, nil
}
