package topology

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/spec"
)

// childRunDir tells the test binary that it is the child of TestSweepAfterKill.
const childRunDir = "WEIR_TOPOLOGY_TEST_RUN_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childRunDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child builds a network, tells where it is, and waits to be killed.
func child(dir string) {
	text := "summary: test\ntopology:" + silentPair + "\ntraffic: [advance: 1s]\n"
	sc, err := spec.Parse("test.yaml", []byte(text))
	if err == nil {
		var n *Network
		if n, err = Build(sc, Options{RunDir: dir}); err == nil {
			fmt.Println(n.Path("client"))
		}
	}
	if err != nil {
		fmt.Println(err)
	}
	io.Copy(io.Discard, os.Stdin) // until the parent goes away, should it not kill us
}

// startChild starts the test binary as a child that builds a network, and returns the path of
// one of its namespaces.
func startChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRunDir+"="+dir)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		Sweep(Options{RunDir: dir})
	})
	line, _, err := bufio.NewReader(out).ReadLine()
	require.NoError(t, err)
	require.FileExists(t, string(line))
	return cmd, string(line)
}

// TestSweepAfterKill kills one of two processes that have networks. Sweep removes what the dead
// one has left, and neither what the live ones have nor what is not weir's.
func TestSweepAfterKill(t *testing.T) {
	kerneltest.NeedRoot(t)
	opts := Options{RunDir: t.TempDir()}
	own, err := Build(parse(t, silentPair), opts)
	require.NoError(t, err)
	defer func() { require.NoError(t, own.Close()) }()
	killed, deadPath := startChild(t, opts.RunDir)
	_, livePath := startChild(t, opts.RunDir)
	// A file that only looks like one of the child's, and a namespace of someone else's.
	foreign := filepath.Join(DefaultNetnsDir, fmt.Sprintf("weir-%d-x", os.Getpid()))
	require.NoError(t, os.WriteFile(foreign, nil, 0o600))
	defer os.Remove(foreign)

	removed, err := Sweep(opts)
	require.NoError(t, err)
	require.Empty(t, removed, "all owners live")

	require.NoError(t, killed.Process.Kill())
	killed.Wait()
	removed, err = Sweep(opts)
	require.NoError(t, err)
	pid := killed.Process.Pid
	require.ElementsMatch(t, []string{fmt.Sprintf("weir-%d-0-client", pid),
		fmt.Sprintf("weir-%d-0-server", pid)}, removed)
	require.NoFileExists(t, deadPath)
	require.FileExists(t, livePath)
	require.FileExists(t, own.Path("client"))
	require.FileExists(t, foreign)
	left, err := filepath.Glob(filepath.Join(opts.RunDir, "*"))
	require.NoError(t, err)
	require.Len(t, left, 2, "the owner files of the live ones")
}

// TestSweepIgnoresForeignNames checks that an owner file cannot make Sweep remove just anything.
func TestSweepIgnoresForeignNames(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "weir-victim")
	require.NoError(t, os.WriteFile(victim, nil, 0o600))
	owner := filepath.Join(dir, "weir-1-0.owner")
	require.NoError(t, os.WriteFile(owner, []byte(victim+"\n/etc/hostname\n"), 0o600))
	half := filepath.Join(dir, "new-1234")
	require.NoError(t, os.WriteFile(half, nil, 0o600))
	removed, err := Sweep(Options{RunDir: dir})
	require.NoError(t, err)
	require.Empty(t, removed)
	require.FileExists(t, victim)
	require.NoFileExists(t, owner)
	require.NoFileExists(t, half)
}

func TestSweepWithoutFolder(t *testing.T) {
	removed, err := Sweep(Options{RunDir: filepath.Join(t.TempDir(), "none")})
	require.NoError(t, err)
	require.Empty(t, removed)
}

// TestLeave checks that a network that was left stands as long as the process lives.
func TestLeave(t *testing.T) {
	kerneltest.NeedRoot(t)
	opts := Options{RunDir: t.TempDir()}
	n, err := Build(parse(t, silentPair), opts)
	require.NoError(t, err)
	path, lock := n.Path("client"), n.owner
	n.Leave()
	removed, err := Sweep(opts)
	require.NoError(t, err)
	require.Empty(t, removed)
	require.FileExists(t, path)
	require.NoError(t, unlock(lock))
	removed, err = Sweep(opts)
	require.NoError(t, err)
	require.Len(t, removed, 2)
}

// unlock does what the end of the process does.
func unlock(o *owner) error { return unix.Close(o.lock) }
