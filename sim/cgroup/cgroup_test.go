package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// glutton makes the test binary a process that takes more and more memory.
const glutton = "WEIR_TEST_GLUTTON"

func TestMain(m *testing.M) {
	if os.Getenv(glutton) != "" {
		_, _ = os.Stdin.Read(make([]byte, 1))
		var all [][]byte
		for range 1 << 14 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		os.Exit(len(all) % 2)
	}
	os.Exit(m.Run())
}

// TestLimit lets a process take more memory than its group may have. It is killed, and that is told.
func TestLimit(t *testing.T) {
	kerneltest.OfKernel()
	g, err := New("weir-test")
	if errors.Is(err, ErrNone) || errors.Is(err, os.ErrPermission) {
		kerneltest.Lacking(t, fmt.Sprintf("control groups that it may make (%v)", err))
	}
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), glutton+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	require.NoError(t, g.Add(cmd.Process.Pid))
	require.NoError(t, g.Limit(64<<20))
	killed, err := g.Killed()
	require.NoError(t, err)
	require.Zero(t, killed, "nothing was asked for yet")

	_, err = in.Write([]byte{1})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it takes more than it may, and lives")
	}
	require.ErrorContains(t, err, "killed")
	killed, err = g.Killed()
	require.NoError(t, err)
	require.Equal(t, 1, killed)
	require.NoError(t, Sweep("weir-test", func(dir string) bool { return dir != g.dir }))
	require.DirExists(t, g.dir)
	require.NoError(t, Sweep("weir-test", func(dir string) bool { return dir == g.dir }))
	require.NoDirExists(t, g.dir)
	require.NoError(t, g.Close(), "it is gone already")
}

func TestMemoryIn(t *testing.T) {
	const (
		v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
		v2 = "41 31 0:38 / /nowhere rw,relatime - cgroup2 cgroup2 rw\n"
	)
	for name, c := range map[string]struct {
		mounts, own, dir string
		one              bool
	}{
		"nothing":      {"22 1 0:20 / /proc rw - proc proc rw\n", "0::/\n", "", false},
		"version 1":    {v2 + v1, "9:name=systemd:/x\n4:memory:/a/b\n0::/\n", "/sys/fs/cgroup/memory/a/b", true},
		"together":     {"35 31 0:32 / /cg rw - cgroup cgroup rw,cpu,memory\n", "4:cpu,memory:/\n", "/cg", true},
		"a part of it": {"35 31 0:32 /a /cg rw - cgroup cgroup rw,memory\n", "4:memory:/a/b\n", "/cg/b", true},
		"no memory":    {v2, "0::/\n", "", false},
		"broken":       {"35 - cgroup\n\n-\n", "::\nx\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, one := memoryIn(c.mounts, c.own)
			require.Equal(t, c.dir, dir)
			require.Equal(t, c.one, one)
		})
	}
}
