// Package nstest makes network namespaces for tests.
package nstest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// New makes a network namespace that lives until the test ends, and returns a path to it. It needs root.
func New(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ns")
	At(t, path)
	return path
}

// At makes one that is found at a path, where nothing is yet.
func At(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { Drop(path) })
}

// Drop takes the path away, and with it the namespace, unless something else holds that. What is gone
// already is no matter.
func Drop(path string) {
	_ = unix.Unmount(path, unix.MNT_DETACH)
	_ = os.Remove(path)
}
