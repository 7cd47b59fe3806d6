package process

import (
	"errors"
	"io/fs"
	"math"
	"os/user"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A mistake is told with its field and with what would be right.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change     func(*Spec)
		field, err string
	}{
		"no command":      {func(s *Spec) { s.Command = "" }, "command", "is missing; want an absolute path"},
		"parent":          {func(s *Spec) { s.Command = "../sh" }, "command", "is no name inside of the member's artifact"},
		"hidden parent":   {func(s *Spec) { s.Command = "bin/../../sh" }, "command", "is no name inside"},
		"folder":          {func(s *Spec) { s.Command = "." }, "command", "is no name inside"},
		"zero byte":       {func(s *Spec) { s.Command = "a\x00" }, "command", "has a zero byte"},
		"sum":             {func(s *Spec) { s.SHA256 = "ABC" }, "sha256", "want 64 hexadecimal digits"},
		"no user":         {func(s *Spec) { s.User = "" }, "user", "is missing; want the user"},
		"restart":         {func(s *Spec) { s.Restart = "often" }, "restart", `"often"; want always, on-failure or never`},
		"memory":          {func(s *Spec) { s.Limits.Memory = 1 }, "limits.memory", "want at least 4MiB"},
		"cpu":             {func(s *Spec) { s.Limits.CPU = -1 }, "limits.cpu", "want a number of CPUs from 0.01"},
		"cpu, no number":  {func(s *Spec) { s.Limits.CPU = math.NaN() }, "limits.cpu", "want a number of CPUs"},
		"processes":       {func(s *Spec) { s.Limits.PIDs = -1 }, "limits.pids", "want a number of processes"},
		"argument":        {func(s *Spec) { s.Args = []string{"a", "\x00"} }, "args[1]", "has a zero byte"},
		"variable":        {func(s *Spec) { s.Env = map[string]string{"A=B": ""} }, "env", `"A=B": a name is not empty and has no =`},
		"capability":      {func(s *Spec) { s.Capabilities = []string{"net_raw"} }, "capabilities[0]", "one is written like cap_net_raw"},
		"not refused":     {func(s *Spec) { s.Syscalls = []string{"read"} }, "syscalls[0]", "is none of the system calls that are refused: "},
		"all as it is":    {func(*Spec) {}, "", ""},
		"an absolute one": {func(s *Spec) { s.Command = "/usr/bin/limitd" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := Spec{Command: "bin/limitd", User: "limit"}
			c.change(&s)
			field, err := s.Check()
			require.Equal(t, c.field, field)
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}

// TestNoUser checks what counts as an account that is not there: an image may have no list of them.
func TestNoUser(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"unknown name": {user.UnknownUserError("weir"), true},
		"unknown id":   {user.UnknownUserIdError(7), true},
		"no list":      {&fs.PathError{Op: "open", Path: "/etc/passwd", Err: syscall.ENOENT}, true},
		"no right":     {&fs.PathError{Op: "open", Path: "/etc/passwd", Err: syscall.EACCES}, false},
		"found":        {nil, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, noUser(c.err)) })
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	for _, c := range []struct{ ran, want time.Duration }{
		{0, FirstWait}, {0, 2 * FirstWait}, {Stable - 1, 4 * FirstWait}, {Stable, FirstWait}, {0, 2 * FirstWait},
	} {
		require.Equal(t, c.want, b.next(c.ran))
	}
	for range 1000 {
		require.LessOrEqual(t, b.next(0), LongestWait)
	}
	require.Equal(t, LongestWait, b.next(0))
}

// A limit that cannot be kept is refused, with the reason; without limits, no controller is needed.
func TestLimitsWithoutControllers(t *testing.T) {
	g := &groups{missing: map[string]error{"memory": errors.New("no memory here"), "pids": errors.New("no pids here")}}
	require.NoError(t, g.provide(Limits{}))
	require.NoError(t, g.provide(Limits{CPU: 1}))
	require.ErrorContains(t, g.provide(Limits{Memory: MinMemory}), "no memory here")
	require.EqualError(t, g.provide(Limits{Memory: MinMemory, PIDs: 1}), "no memory here\nno pids here")
}

func TestHierarchies(t *testing.T) {
	require.Equal(t, []hierarchy{
		{"/sys/fs/cgroup/unified", true, []string{"rw", "nsdelegate"}},
		{"/sys/fs/cgroup/memory", false, []string{"rw", "memory"}},
		{"/sys/fs/cgroup/cpu,cpuacct", false, []string{"rw", "cpu", "cpuacct"}},
	}, hierarchies(`22 1 0:20 / /proc rw,nosuid - proc proc rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
no mount
1 - cgroup
`))
}

// Each limit is a setting in both versions of cgroups.
func TestSettings(t *testing.T) {
	l := Limits{Memory: 64 << 20, CPU: 0.5, PIDs: 7}
	require.Equal(t, map[string][]setting{
		"memory": {{"memory.max", "67108864", false}, {"memory.swap.max", "0", true}, {"memory.oom.group", "1", false}},
		"cpu":    {{"cpu.max", "50000 100000", false}},
		"pids":   {{"pids.max", "7", false}},
	}, l.values(true))
	require.Equal(t, map[string][]setting{
		"memory": {{"memory.limit_in_bytes", "67108864", false}, {"memory.memsw.limit_in_bytes", "67108864", true}},
		"cpu":    {{"cpu.cfs_period_us", "100000", false}, {"cpu.cfs_quota_us", "50000", false}},
		"pids":   {{"pids.max", "7", false}},
	}, l.values(false))
}
