package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds waits in tests; nothing is expected to take as long.
const patience = 20 * time.Second

func TestArgs(t *testing.T) {
	m := Machine{Accel: TCG, Kernel: "/k", Initrd: "/i", Append: []string{"x=y"}, MemoryMiB: 384,
		RAM: "/a,b/ram", TSCkHz: 2300000}
	args := strings.Join(m.Args(), " ")
	for _, want := range []string{
		"-M q35,memory-backend=ram -accel tcg -cpu max", "-smp 1", "-m 384", "-no-reboot",
		"memory-backend-file,id=ram,size=384M,mem-path=/a,,b/ram,share=on",
		"-kernel /k -initrd /i", "console=ttyS0", "panic=-1", "tsc_early_khz=2300000 x=y",
	} {
		require.Contains(t, args, want)
	}
	require.NotContains(t, args, "-incoming")

	m.Incoming = true
	args = strings.Join(m.Args(), " ")
	require.Contains(t, args, "share=off")
	require.Contains(t, args, "-incoming defer")

	require.NotContains(t, args, "-icount")
	m = Machine{Accel: TCG, Exact: true, Seed: 1}
	args = strings.Join(m.Args(), " ")
	for _, want := range []string{"-icount shift=2,sleep=off", "-seed 1", "clock=vm,base=2026-01-01T00:00:00",
		"rdrand=off", "nokaslr", "file,id=control,path=/dev/fd/4", "socket,id=monitor,fd=5"} {
		require.Contains(t, args, want)
	}

	m.Record = "/a,b/r"
	require.Contains(t, strings.Join(m.Args(), " "), "-icount shift=2,sleep=off,rr=record,rrfile=/a,,b/r ")
	m.Record, m.Replay, m.Debug = "", "/r", "tcp::1234"
	require.Contains(t, strings.Join(m.Args(), " "), "rr=replay,rrfile=/r ")
	require.Contains(t, strings.Join(m.Args(), " "), "-S -gdb tcp::1234")

	m = Machine{Accel: KVM, CPUs: 2, TSCkHz: 1}
	args = strings.Join(m.Args(), " ")
	require.Contains(t, args, "-M q35 -accel kvm -cpu host -smp 2")
	require.NotContains(t, args, "tsc")
	require.NotContains(t, args, "memory-backend")
}

func TestParseAccel(t *testing.T) {
	for _, s := range []string{"auto", "tcg", "kvm"} {
		a, err := ParseAccel(s)
		require.NoError(t, err)
		require.Equal(t, Accel(s), a)
	}
	_, err := ParseAccel("hvf")
	require.ErrorContains(t, err, `unknown accelerator "hvf"`)
}

func TestConsoleIsBounded(t *testing.T) {
	c := &Console{}
	line := []byte(strings.Repeat("x", 999) + "\n")
	const lines = 4000
	for range lines {
		c.add(line)
	}
	c.add([]byte("the end"))
	require.Equal(t, int64(lines*len(line)+7), c.Len())
	require.LessOrEqual(t, len(c.Text()), consoleLimit*5/4)
	require.True(t, strings.HasSuffix(c.Text(), "the end"))
	require.Equal(t, "the end", c.Since(c.Len()-7))
	require.Empty(t, c.Since(c.Len()))
	require.Empty(t, c.Since(c.Len()+5))
}

// fakeQEMU puts a script on PATH in place of QEMU.
func fakeQEMU(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, Program)
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

func TestEndOfTheMachine(t *testing.T) {
	for name, m := range map[string]Machine{"usual": {}, "exact": {Exact: true}} {
		t.Run(name, func(t *testing.T) { endOfTheMachine(t, m) })
	}
}

func endOfTheMachine(t *testing.T, m Machine) {
	fakeQEMU(t, "echo hello >&3; echo complaint >&2; echo frame >&4; exit 0")
	vm, err := Start(t.Context(), m)
	require.NoError(t, err)
	defer vm.Close()
	within(t, "end", vm.Done())
	vm.Kill()
	require.Equal(t, "hello\n", vm.Printed())
	require.Equal(t, "complaint", vm.Complaint())
	// What the guest had sent before can still be read.
	line, err := bufio.NewReader(vm.Control).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "frame\n", line)
}

// TestExactMachineDoesNotWait writes byte by byte what nobody reads, as QEMU does, without waiting: a guest
// that had to wait would do so for as long as the host pleases.
func TestExactMachineDoesNotWait(t *testing.T) {
	fakeQEMU(t, "dd if=/dev/zero of=/dev/fd/4 bs=1 count=5000 oflag=nonblock 2>/dev/null; echo $? >&3")
	vm, err := Start(t.Context(), Machine{Exact: true})
	require.NoError(t, err)
	defer vm.Close()
	within(t, "end", vm.Done())
	vm.Kill()
	require.Equal(t, "0\n", vm.Printed())
}

func TestContextKills(t *testing.T) {
	fakeQEMU(t, "exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	vm, err := Start(ctx, Machine{})
	require.NoError(t, err)
	cancel()
	within(t, "end", vm.Done())
	vm.Close()
	vm.Close()
	require.Error(t, syscall.Kill(vm.process.Pid, 0))
}

func TestKillTakesChildrenAlong(t *testing.T) {
	fakeQEMU(t, "sleep 1000 & echo $! >&3; wait")
	vm, err := Start(t.Context(), Machine{})
	require.NoError(t, err)
	defer vm.Close()
	child := 0
	require.Eventually(t, func() bool {
		child, err = strconv.Atoi(strings.TrimSpace(vm.Printed()))
		return err == nil
	}, patience, 5*time.Millisecond)
	vm.Kill()
	require.Eventually(t, func() bool { return !alive(child) }, patience, 5*time.Millisecond)
}

// alive tells whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// When the harness is killed, nothing is left to clean up after it but the kernel.
func TestNoOrphan(t *testing.T) {
	if os.Getenv("QEMU_TEST_CHILD") != "" {
		vm, err := Start(context.Background(), Machine{})
		require.NoError(t, err)
		fmt.Printf("pid %d\n", vm.process.Pid)
		select {}
	}
	fakeQEMU(t, "exec sleep 1000")
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoOrphan$")
	cmd.Env = append(os.Environ(), "QEMU_TEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	pid := 0
	_, err = fmt.Fscanf(bufio.NewReader(out), "pid %d", &pid)
	require.NoError(t, err)
	require.True(t, alive(pid))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool { return !alive(pid) }, patience, 5*time.Millisecond)
}

func TestNoQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), Machine{})
	require.ErrorIs(t, err, exec.ErrNotFound)
}

func TestBadUse(t *testing.T) {
	_, err := Start(t.Context(), Machine{Incoming: true})
	require.Error(t, err)
	require.Error(t, (&VM{}).Save("x"))
	_, err = Restore(t.Context(), Machine{}, filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	fakeQEMU(t, "echo cannot do that >&2; exit 1")
	state := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(state, nil, 0o644))
	_, err = Restore(t.Context(), Machine{}, state)
	require.ErrorContains(t, err, "cannot do that")
}

// monitorOf makes a monitor that talks to a function.
func monitorOf(t *testing.T, qemu func(request map[string]any) string) *monitor {
	t.Helper()
	conn, far, err := socketPair()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		defer far.Close()
		fmt.Fprintln(far, `{"QMP": {"version": {}}}`)
		dec := json.NewDecoder(far)
		for {
			var request map[string]any
			if dec.Decode(&request) != nil {
				return
			}
			if _, err := fmt.Fprintln(far, qemu(request)); err != nil {
				return
			}
		}
	}()
	return newMonitor(conn)
}

func TestMonitor(t *testing.T) {
	m := monitorOf(t, func(r map[string]any) string {
		switch r["execute"] {
		case "query-status":
			return `{"event": "STOP"} {"return": {"status": "running"}}`
		case "migrate":
			return `{"return": {}} {"event": "RESUME"}`
		case "quit":
			return `{"error": {"class": "x", "desc": "no such thing"}}`
		}
		return `{"return": {}}`
	})
	var status struct{ Status string }
	require.NoError(t, m.call("query-status", nil, nil, &status))
	require.Equal(t, "running", status.Status)
	require.NoError(t, m.await("STOP"), "it came before")
	require.NoError(t, m.call("migrate", map[string]any{"uri": "fd:1"}, nil, nil))
	require.NoError(t, m.await("RESUME"))
	require.ErrorContains(t, m.call("quit", nil, nil, nil), "call QEMU's quit: no such thing")
}

func TestMonitorOfDeadQEMU(t *testing.T) {
	conn, far, err := socketPair()
	require.NoError(t, err)
	require.NoError(t, far.Close())
	m := newMonitor(conn)
	require.ErrorContains(t, m.call("stop", nil, nil, nil), "greet QEMU")
	require.Error(t, m.await("RESUME"))
	require.NoError(t, conn.Close())
	require.Error(t, errors.Join(m.call("stop", nil, nil, nil)))
}
