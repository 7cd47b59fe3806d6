package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// deadline is how long a test waits for what must come.
const deadline = 20 * time.Second

// eventually polls a condition.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// clock is one that a test turns.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers chan timer
}

type timer struct {
	after time.Duration
	ring  chan time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1e9, 0), timers: make(chan timer, 64)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) (<-chan time.Time, func()) {
	ring := make(chan time.Time, 1)
	c.timers <- timer{d, ring}
	return ring, func() {}
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// ring waits for a timer, and lets it ring.
func (c *clock) ring(t testing.TB, want time.Duration) {
	t.Helper()
	select {
	case next := <-c.timers:
		require.Equal(t, want, next.after)
		c.advance(next.after)
		next.ring <- c.Now()
	case <-time.After(deadline):
		t.Fatal("nothing waits")
	}
}

// records keeps what is logged.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// lines are those that the process has written.
func (r *records) lines() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range bytes.Lines(r.text.Bytes()) {
		var entry struct{ Msg, Line string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "process writes" {
			all = append(all, entry.Line)
		}
	}
	return all
}

// find is the part in brackets of the lines that match.
func (r *records) find(pattern string) (all []string) {
	for _, line := range r.lines() {
		if m := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(line); m != nil {
			all = append(all, m[1])
		}
	}
	return all
}

// pids are the numbers that lines end with.
func (r *records) pids(t testing.TB, pattern string, count int) (all []int) {
	t.Helper()
	eventually(t, pattern, func() bool { return len(r.find(pattern+` (\d+)`)) >= count })
	for _, text := range r.find(pattern + ` (\d+)`) {
		pid, err := strconv.Atoi(text)
		require.NoError(t, err)
		all = append(all, pid)
	}
	return all
}

// stand is a supervisor in a test.
type stand struct {
	*Supervisor
	t     testing.TB
	clock *clock
	log   *records
	group string
}

var stands atomic.Uint32

// newStand makes a supervisor that is ended with the test, and leaves nothing behind.
func newStand(t testing.TB, rules Rules) *stand {
	t.Helper()
	kerneltest.NeedRoot(t)
	s := &stand{t: t, clock: newClock(), log: &records{},
		group: fmt.Sprintf("weir-process-test-%d-%d", os.Getpid(), stands.Add(1))}
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	rules.Allow = true
	var err error
	s.Supervisor, err = New(Options{Rules: rules, Group: s.group, Clock: s.clock,
		Log: slog.New(slog.NewJSONHandler(s.log, nil))})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		left, err := filepath.Glob("/sys/fs/cgroup/*/" + s.group)
		require.NoError(t, err)
		require.Empty(t, left)
		eventually(t, "goroutines and files to go", func() bool {
			return runtime.NumGoroutine() <= goroutines && openFiles(t) <= files
		})
	})
	return s
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

// nobody is a user that needs no entry on the host.
const nobody = "54321"

// spec is a process that does one of acts.
func spec(act string, args ...string) *Spec {
	return &Spec{Command: "bin/act", Args: append([]string{act}, args...), User: nobody, Group: nobody}
}

// shell is a process of the shell.
func shell(script string) (*Spec, []byte) {
	text := []byte("#!/bin/sh\n" + script)
	return &Spec{Command: "bin/script", User: nobody, Group: nobody}, text
}

var self = sync.OnceValues(func() ([]byte, error) { return os.ReadFile("/proc/self/exe") })

var theID = ID{"eth0 xdp", "limit"}

// run starts one of acts.
func (s *stand) run(x *Spec) {
	s.t.Helper()
	executable, err := self()
	require.NoError(s.t, err)
	s.runFile(x, executable)
}

func (s *stand) runFile(x *Spec, executable []byte) {
	s.t.Helper()
	field, err := x.Check()
	require.NoError(s.t, err, field)
	p, err := s.Prepare(x, executable)
	require.NoError(s.t, err)
	s.Start(theID, p)
}

// runScript starts a shell script.
func (s *stand) runScript(script, restart string) {
	s.t.Helper()
	x, text := shell(script)
	x.Restart = restart
	s.runFile(x, text)
}

// reach waits for a state.
func (s *stand) reach(want State) Status {
	s.t.Helper()
	var now Status
	eventually(s.t, string(want), func() bool {
		var ok bool
		now, ok = s.Status(theID)
		require.True(s.t, ok)
		return now.State == want
	})
	return now
}

// gone waits until a process is no more.
func gone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d to end", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || bytes.Contains(stat, []byte(") Z ")) // dead, and nobody's child that asks for it
	})
}

// A process that ends is started again, each time after twice the time, up to a minute; and at once as at first when it
// has run for long enough.
func TestRestart(t *testing.T) {
	s := newStand(t, Rules{})
	s.runScript("exit 3", "")
	wait := FirstWait
	for restarts := range 12 {
		now := s.reach(Waiting)
		require.Equal(t, "exit status 3", now.LastExit)
		require.Equal(t, uint64(restarts), now.Restarts)
		require.Zero(t, now.PID)
		require.Equal(t, s.clock.Now(), now.Since)
		s.clock.ring(t, wait)
		wait = min(2*wait, LongestWait)
		eventually(t, "another start", func() bool {
			now, _ := s.Status(theID)
			return now.Restarts == uint64(restarts+1)
		})
	}
	require.Equal(t, LongestWait, wait)
	s.reach(Waiting)
	require.NoError(t, s.Pause(theID))
	require.Equal(t, Stopped, s.reach(Stopped).State)
}

// The wait begins anew after a process has been stable.
func TestBackoffResets(t *testing.T) {
	s := newStand(t, Rules{})
	s.run(spec("child"))
	for _, round := range []struct{ ran, wait time.Duration }{
		{0, FirstWait}, {time.Second, 2 * FirstWait}, {Stable - 1, 4 * FirstWait}, {Stable, FirstWait}, {0, 2 * FirstWait},
	} {
		now := s.reach(Running)
		s.clock.advance(round.ran)
		require.NoError(t, unix.Kill(now.PID, unix.SIGKILL))
		require.Equal(t, "signal: killed", s.reach(Waiting).LastExit)
		s.clock.ring(t, round.wait)
		eventually(t, "another start", func() bool {
			next, _ := s.Status(theID)
			return next.Restarts == now.Restarts+1
		})
	}
}

// Whether it is started again is the policy's to say.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		policy, script string
		want           State
	}{
		{Always, "exit 0", Waiting}, {Always, "exit 1", Waiting}, {OnFailure, "exit 0", Ended}, {OnFailure, "exit 1", Waiting},
		{OnFailure, "kill -TERM $$", Waiting}, {Never, "exit 0", Ended}, {Never, "exit 1", Ended},
	} {
		t.Run(c.policy+" "+c.script, func(t *testing.T) {
			s := newStand(t, Rules{})
			s.runScript(c.script, c.policy)
			s.reach(c.want)
		})
	}
}

// A process is paused and resumed; what has ended by itself can be started again.
func TestPause(t *testing.T) {
	s := newStand(t, Rules{})
	s.run(spec("child"))
	first := s.reach(Running).PID
	require.NoError(t, s.Resume(theID))
	require.Equal(t, first, s.reach(Running).PID, "it runs already")
	require.NoError(t, s.Pause(theID))
	require.Equal(t, "signal: terminated", s.reach(Stopped).LastExit)
	gone(t, first)
	require.NoError(t, s.Pause(theID))
	require.NoError(t, s.Resume(theID))
	require.NotEqual(t, first, s.reach(Running).PID)
	require.NoError(t, s.Remove(theID))
	require.ErrorIs(t, s.Resume(theID), ErrUnknown)

	s.runScript("exit 0", Never)
	s.reach(Ended)
	require.NoError(t, s.Resume(theID))
	eventually(t, "another run", func() bool { return strings.Count(s.log.String(), `"process has ended"`) == 2 })
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// A process that does not end when it is asked to is killed.
func TestStubborn(t *testing.T) {
	s := newStand(t, Rules{})
	s.run(spec("stubborn"))
	pid := s.log.pids(t, "stubborn", 1)[0]
	paused := make(chan error)
	go func() { paused <- s.Pause(theID) }()
	s.clock.ring(t, StopTimeout)
	require.NoError(t, <-paused)
	require.Equal(t, "signal: killed", s.reach(Stopped).LastExit)
	gone(t, pid)
}

// Children end with a process, also those that have left its process group, as far as there are cgroups.
func TestWholeGroup(t *testing.T) {
	for name, end := range map[string]func(s *stand, pid int){
		"stop":  func(s *stand, _ int) { require.NoError(t, s.Pause(theID)) },
		"death": func(s *stand, pid int) { require.NoError(t, unix.Kill(pid, unix.SIGKILL)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, Rules{})
			if len(s.groups.roots) == 0 {
				t.Skip("skipped: there are no cgroups here")
			}
			s.run(spec("family"))
			children := s.log.pids(t, "child", 2)
			end(s, s.reach(Running).PID)
			for _, pid := range children {
				gone(t, pid)
			}
		})
	}
}

// A process is a user without rights, and has nothing of the agent.
func TestInside(t *testing.T) {
	signal.Ignore(unix.SIGHUP) // as nohup(1) does: it must not be handed down
	defer signal.Reset(unix.SIGHUP)
	s := newStand(t, Rules{Syscalls: []string{"setns"}})
	x := spec("inside", "a b", "")
	x.Env = map[string]string{"COLOR": "blue", "A": ""}
	x.Syscalls = []string{"setns"}
	s.run(x)
	eventually(t, "its report", func() bool { return len(s.log.find("(done)")) == 1 })
	require.Empty(t, s.log.find("error (.*)"))
	for field, want := range map[string]string{
		"Uid": "54321 54321 54321 54321", "Gid": "54321 54321 54321 54321", "Groups": "",
		"CapInh": noCaps, "CapPrm": noCaps, "CapEff": noCaps, "CapBnd": noCaps, "CapAmb": noCaps,
		"NoNewPrivs": "1", "Seccomp": "2", "SigIgn": "0000000000000000", "SigBlk": "0000000000000000",
	} {
		require.Equal(t, []string{want}, s.log.find("status "+field+":\\s?(.*)"), field)
	}
	require.Equal(t, []string{`["a b" ""]`}, s.log.find("args (.*)"))
	require.Equal(t, []string{`["A=" "COLOR=blue"]`}, s.log.find("env (.*)"))
	require.Equal(t, []string{"/ umask 022 leader true true"}, s.log.find("dir (.*)"))
	require.Equal(t, []string{"0 /dev/null", "1 pipe", "2 pipe"}, s.log.find("fd (.*)"))
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(refusedAll())), func(name string) bool { return name == "setns" })
	require.Equal(t, []string{strings.Join(names, " ")}, s.log.find(fmt.Sprintf("errno %d: (.*)", unix.EPERM)))
	require.Equal(t, []string{"setns"}, s.log.find(fmt.Sprintf("errno %d: (.*)", unix.EBADF)), "the kernel's word, not the filter's")
	require.Equal(t, []string{fmt.Sprint(int(unix.EPERM))}, s.log.find("clone (.*)"))
	require.Equal(t, []string{fmt.Sprint(int(unix.ENOSYS))}, s.log.find("clone3 (.*)"))
}

const noCaps = "0000000000000000"

// A process has the capabilities that it was given, and those alone; also root.
func TestCapabilities(t *testing.T) {
	const netRaw = "0000000000002000" // bit 13
	for _, c := range []struct {
		name, user string
		given      []string
		want       string
	}{{"user", nobody, []string{"cap_net_raw"}, netRaw}, {"root", "0", []string{"cap_net_raw"}, netRaw}, {"bare root", "0", nil, noCaps}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStand(t, Rules{Root: true, Capabilities: []string{"cap_net_raw"}})
			x := spec("inside")
			x.User, x.Group, x.Capabilities = c.user, "", c.given
			if c.user != "0" {
				x.Group = nobody
			}
			s.run(x)
			eventually(t, "its report", func() bool { return len(s.log.find("(done)")) == 1 })
			for _, field := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb"} {
				require.Equal(t, []string{c.want}, s.log.find("status "+field+":\\s?(.*)"), field)
			}
			require.Equal(t, []string{"1"}, s.log.find("status NoNewPrivs: (.*)"))
		})
	}
}

// Scripts run too, and cannot be changed while they do.
func TestScript(t *testing.T) {
	s := newStand(t, Rules{})
	s.runScript(`echo "says $0 $(id -u)"; (echo x >"$0") 2>/dev/null && echo "says written"`, Never)
	s.reach(Ended)
	eventually(t, "its words", func() bool { return len(s.log.find("says (.*)")) > 0 })
	said := s.log.find("says (.*)")
	require.Len(t, said, 1)
	require.Contains(t, said[0], " "+nobody)
}

// limited needs a controller.
func (s *stand) limited(x *Spec) *Spec {
	s.t.Helper()
	if err := s.groups.provide(x.Limits); err != nil {
		s.t.Skipf("skipped: %v", err)
	}
	return x
}

func TestMemory(t *testing.T) {
	s := newStand(t, Rules{})
	x := spec("memory")
	x.Restart, x.Limits.Memory = Never, 64<<20
	s.run(s.limited(x))
	require.Equal(t, "signal: killed", s.reach(Ended).LastExit)
	require.Empty(t, s.log.find("(has all)"))
	kerneltest.Starved(t, s.log.pids(t, "begins", 1)[0])
}

func TestPIDs(t *testing.T) {
	s := newStand(t, Rules{})
	x := spec("threads")
	x.Restart, x.Limits.PIDs = Never, 50
	s.run(s.limited(x))
	s.reach(Ended)
	require.Equal(t, []string{unix.EAGAIN.Error()}, s.log.find("error (.*)"))
	require.Empty(t, s.log.find("(has all)"))
}

// Half a CPU is what the kernel is told.
func TestCPU(t *testing.T) {
	s := newStand(t, Rules{})
	x := spec("child")
	x.Limits.CPU = 0.5
	s.run(s.limited(x))
	pid := s.reach(Running).PID
	for _, r := range s.groups.roots {
		dir := filepath.Join(r.dir, groupName(theID))
		members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln(pid), string(members))
		if got, err := os.ReadFile(filepath.Join(dir, "cpu.max")); err == nil {
			require.Equal(t, "50000 100000\n", string(got))
		}
		if got, err := os.ReadFile(filepath.Join(dir, "cpu.cfs_quota_us")); err == nil {
			require.Equal(t, "50000\n", string(got))
		}
	}
}

// A supervisor that is killed takes its processes with it; their children go when the next one begins.
func TestKilledSupervisor(t *testing.T) {
	s := newStand(t, Rules{})
	if len(s.groups.roots) == 0 {
		t.Skip("skipped: there are no cgroups here")
	}
	group := s.group + "-victim"
	victim := exec.Command("/proc/self/exe", "supervise", group)
	out := &records{}
	victim.Stdout = out
	require.NoError(t, victim.Start())
	children := out.pids(t, "child", 2)
	require.NoError(t, victim.Process.Kill())
	require.Error(t, victim.Wait())
	parents := out.pids(t, "parent", 1)
	gone(t, parents[0])
	next, err := New(Options{Rules: Rules{Allow: true}, Group: group})
	require.NoError(t, err)
	for _, pid := range children {
		gone(t, pid)
	}
	require.NoError(t, next.Close())
}

// supervise is a supervisor to be killed, of a family.
func supervise(args []string) {
	executable, err := self()
	s, failed := New(Options{Rules: Rules{Allow: true}, Group: args[0], Log: slog.New(slog.NewJSONHandler(os.Stdout, nil))})
	if err != nil || failed != nil {
		say("error %v %v", err, failed)
		return
	}
	p, err := s.Prepare(spec("family"), executable)
	if err != nil {
		say("error %v", err)
		return
	}
	s.Start(theID, p)
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, _ := s.Status(theID); now.State == Running {
			slog.New(slog.NewJSONHandler(os.Stdout, nil)).Info("process writes", "line", fmt.Sprintf("parent %d", now.PID))
			break
		}
	}
	time.Sleep(time.Hour)
}
