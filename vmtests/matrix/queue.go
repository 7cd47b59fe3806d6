package matrix

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// task is a piece of a run that needs one machine.
type task struct {
	lane *lane
	boot bool  // make sure that there is a snapshot first, and plan the rest
	jobs []int // to run otherwise
	cost time.Duration
}

// queue hands out tasks, the most expensive first.
type queue struct {
	mu      sync.Mutex
	changed *sync.Cond
	waiting []task
	running int
}

func newQueue() *queue {
	q := &queue{}
	q.changed = sync.NewCond(&q.mu)
	return q
}

func (q *queue) push(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, t)
	q.changed.Broadcast()
}

// work does tasks until there are none and none can come any more.
func (q *queue) work(do func(task)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.waiting) == 0 {
			if q.running == 0 {
				return
			}
			q.changed.Wait()
		}
		t := q.take()
		q.running++
		q.mu.Unlock()
		do(t)
		q.mu.Lock()
		q.running--
		q.changed.Broadcast()
	}
}

// take removes the task that costs most; kernels come before parts of kernels, because they
// bring parts.
func (q *queue) take() task {
	best := 0
	for i, t := range q.waiting {
		if b := q.waiting[best]; t.boot && !b.boot || t.boot == b.boot && t.cost > b.cost {
			best = i
		}
	}
	t := q.waiting[best]
	q.waiting = append(q.waiting[:best], q.waiting[best+1:]...)
	return t
}

// costs remembers how long scenarios took.
type costs struct {
	file   string
	millis map[string]int64
}

// unknownCost is what a scenario counts for that has never run.
const unknownCost = 500 * time.Millisecond

func loadCosts(cache string) *costs {
	c := &costs{file: filepath.Join(cache, "costs.json"), millis: map[string]int64{}}
	data, err := os.ReadFile(c.file)
	if err == nil && json.Unmarshal(data, &c.millis) != nil {
		c.millis = map[string]int64{}
	}
	return c
}

func (c *costs) of(name string) time.Duration {
	if ms, ok := c.millis[name]; ok {
		return time.Duration(ms) * time.Millisecond
	}
	return unknownCost
}

// save remembers what a run has shown. That it can fail does not matter: it is only about order.
func (c *costs) save(kernels []result.Kernel) {
	sum, n := map[string]int64{}, map[string]int64{}
	for _, k := range kernels {
		for _, s := range k.Scenarios {
			if s.Verdict == result.Pass || s.Verdict == result.Fail {
				sum[s.Name] += s.Millis
				n[s.Name]++
			}
		}
	}
	for name := range sum {
		c.millis[name] = sum[name] / n[name]
	}
	data, err := json.Marshal(c.millis)
	if err != nil {
		return
	}
	tmp := c.file + ".tmp"
	if os.WriteFile(tmp, data, 0o644) == nil {
		_ = os.Rename(tmp, c.file)
	}
}
