package matrix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/kernel"
)

func TestPanicCause(t *testing.T) {
	tests := map[string]struct {
		console, cause string
		ok             bool
	}{
		"none": {"[    1.0] all is well\n", "", false},
		"plain": {"[    1.0] Kernel panic - not syncing: sysrq triggered crash\n[    1.1] CPU: 0\n",
			"kernel panic: sysrq triggered crash", true},
		"with a cause": {"[    1.0] BUG: kernel NULL pointer dereference, address: 0\n" +
			"[    1.1] Kernel panic - not syncing: Fatal exception in interrupt\n",
			"kernel panic: Fatal exception in interrupt " +
				"(BUG: kernel NULL pointer dereference, address: 0)", true},
		"lockup": {"[   22.0][    C0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1]\n" +
			"[   22.1][    C0] Kernel panic - not syncing: softlockup: hung tasks\n",
			"kernel panic: softlockup: hung tasks " +
				"(watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1])", true},
		"in a sentence": {"the text says Kernel panic - not syncing: x\n", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cause, ok := panicCause(tt.console)
			require.Equal(t, tt.ok, ok)
			require.Equal(t, tt.cause, cause)
		})
	}
}

func TestShorten(t *testing.T) {
	line, log := shorten("short")
	require.Equal(t, "short", line)
	require.Empty(t, log)
	long := "first\n" + strings.Repeat("ä", reasonKept)
	line, log = shorten(long)
	require.NotContains(t, line, "\n")
	require.LessOrEqual(t, len(line), reasonKept+4)
	require.Equal(t, long, log)
}

func TestClip(t *testing.T) {
	require.Equal(t, "x", clip("x"))
	got := clip(strings.Repeat("a", consoleKept) + "end")
	require.True(t, strings.HasPrefix(got, "[...]\n"))
	require.True(t, strings.HasSuffix(got, "end"))
}

// testMatrix is a matrix of some lines and jobs that cost what their names say, in ms.
func testMatrix(vms, lines int, costs_ ...int) *matrix {
	m := &matrix{Config: Config{VMs: vms}, costs: &costs{millis: map[string]int64{}}}
	for i, ms := range costs_ {
		name := fmt.Sprintf("%d/%d", i, ms)
		m.Jobs = append(m.Jobs, runner.Job{Name: name})
		m.costs.millis[name] = int64(ms)
	}
	for i := range lines {
		m.kernels = append(m.kernels, m.newLane(kernel.Found{Line: fmt.Sprint(i)}))
	}
	return m
}

func TestSplitIsAPartition(t *testing.T) {
	for vms := 1; vms <= 4; vms++ {
		for lines := 1; lines <= 8; lines++ {
			for jobs := range 30 {
				parts := testMatrix(vms, lines, make([]int, jobs)...).split()
				require.NotEmpty(t, parts)
				require.LessOrEqual(t, len(parts), max(1, 2*vms))
				all := slices.Concat(parts...)
				slices.Sort(all)
				require.Len(t, all, jobs)
				for i, job := range all {
					require.Equal(t, i, job)
				}
			}
		}
	}
}

func TestSplitBalances(t *testing.T) {
	parts := testMatrix(1, 1, 900, 100, 100, 100, 100, 100, 100, 100, 100, 100).split()
	require.Equal(t, [][]int{{0}, {1, 2, 3, 4, 5, 6, 7, 8, 9}}, parts)
}

func TestQueue(t *testing.T) {
	q := newQueue()
	q.push(task{cost: 1})
	q.push(task{cost: 3, boot: true})
	q.push(task{cost: 9})
	q.push(task{cost: 5, boot: true})
	var got []string
	q.work(func(t task) {
		got = append(got, fmt.Sprint(t.boot, int(t.cost)))
		if t.cost == 5 {
			q.push(task{cost: 4})
		}
	})
	require.Equal(t, []string{"true 5", "true 3", "false 9", "false 4", "false 1"}, got)
}

// Whoever works the queue must not go home while a task that runs can still bring others.
func TestQueueWaitsForMore(t *testing.T) {
	q := newQueue()
	q.push(task{boot: true})
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		done int
	)
	for range 4 {
		wg.Go(func() {
			q.work(func(t task) {
				if t.boot {
					for range 100 {
						q.push(task{})
					}
				}
				mu.Lock()
				done++
				mu.Unlock()
			})
		})
	}
	wg.Wait()
	require.Equal(t, 101, done)
}

func TestCosts(t *testing.T) {
	dir := t.TempDir()
	c := loadCosts(dir)
	require.Equal(t, unknownCost, c.of("x"))
	c.save([]result.Kernel{
		{Scenarios: []result.Scenario{{Name: "x", Verdict: result.Pass, Millis: 10},
			{Name: "y", Verdict: result.Hang, Millis: 14000}}},
		{Scenarios: []result.Scenario{{Name: "x", Verdict: result.Fail, Millis: 30}}},
	})
	c = loadCosts(dir)
	require.Equal(t, 20*time.Millisecond, c.of("x"))
	require.Equal(t, unknownCost, c.of("y"), "how long a hang took says nothing")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "costs.json"), []byte("{"), 0o644))
	require.Equal(t, unknownCost, loadCosts(dir).of("x"))
}

func TestEveryScenarioIsInTheResult(t *testing.T) {
	m := testMatrix(2, 1, 1, 1, 1)
	l := m.kernels[0]
	l.finish([]int{2, 0}, []*result.Scenario{{Name: "2/1", Verdict: result.Pass}, nil},
		"no guest", time.Now())
	var got []string
	for _, s := range l.out.Scenarios {
		got = append(got, s.Name+" "+string(s.Verdict)+" "+s.Reason)
		require.Equal(t, "weir vm run --kernel 0 --run '^"+s.Name+"$'", s.Reproduce)
	}
	require.Equal(t, []string{"0/1 error no guest", "1/1 error it did not run", "2/1 pass "}, got)
}

func TestUnavailable(t *testing.T) {
	l := testMatrix(1, 0, 1).newLane(kernel.Found{Line: "5.4", Err: errors.New("none")})
	require.Equal(t, "none", l.out.Unavailable)
	require.Empty(t, l.out.Scenarios)
}

func TestPrune(t *testing.T) {
	s := &snapshots{dir: t.TempDir()}
	for i, name := range []string{"6.1_c", "6.1_a", "6.1_b", "6.1.2_a", ".new-1", ".new-2"} {
		dir := filepath.Join(s.dir, name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		at := time.Now().Add(-time.Duration(i) * 21 * time.Minute)
		require.NoError(t, os.Chtimes(dir, at, at))
	}
	s.prune("6.1_")
	left, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"6.1.2_a", "6.1_a", "6.1_c"}, names)
}
