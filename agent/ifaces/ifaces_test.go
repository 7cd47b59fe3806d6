package ifaces

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf/kerneltest"
)

func namespace(t *testing.T) string {
	t.Helper()
	kerneltest.NeedRoot(t)
	return nstest.New(t)
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ino, err
}

func TestDo(t *testing.T) {
	ns := namespace(t)
	want, err := inode(ns)
	require.NoError(t, err)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := inode("/proc/thread-self/ns/net")
	require.NoError(t, err)

	var got, own uint64
	require.NoError(t, Do(ns, func() (err error) {
		got, err = inode("/proc/thread-self/ns/net")
		return err
	}))
	require.Equal(t, want, got)
	require.NoError(t, Do("", func() (err error) {
		own, err = inode("/proc/thread-self/ns/net")
		return err
	}))
	require.Equal(t, home, own)
	broken := errors.New("broken")
	require.ErrorIs(t, Do(ns, func() error { return broken }), broken)

	require.Eventually(t, func() bool { return allHome(t, home) }, 10*time.Second, time.Millisecond,
		"all threads of the process are where they were")
}

// allHome looks at all threads but the main one: Go cannot end that one when a test has used it up.
func allHome(t *testing.T, home uint64) bool {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, task := range tasks {
		if task.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		at, err := inode(filepath.Join("/proc/self/task", task.Name(), "ns/net"))
		if err == nil && at != home { // threads come and go
			return false
		}
	}
	return true
}

func TestDoFails(t *testing.T) {
	called := false
	err := Do("no-such-namespace", func() error { called = true; return nil })
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "enter network namespace no-such-namespace")
	require.ErrorContains(t, err, "/run/netns/no-such-namespace")
	require.False(t, called)

	if os.Geteuid() == 0 {
		require.ErrorIs(t, Do("/dev/null", func() error { return nil }), unix.EINVAL)
	}
}

func TestPath(t *testing.T) {
	require.Equal(t, "/run/netns/blue", Path("blue"))
	require.Equal(t, "/proc/1/ns/net", Path("/proc/1/ns/net"))
	require.Equal(t, "./ns", Path("./ns"))
}

func TestFind(t *testing.T) {
	ns := namespace(t)
	want, err := inode(ns)
	require.NoError(t, err)
	var eth, tun Interface
	var missing error
	require.NoError(t, Do(ns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = "eth0", 42
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
			return err
		}
		if eth, err = Find("blue", "eth0"); err != nil {
			return err
		}
		_, missing = Find("blue", "eth1")
		attrs.Name, attrs.Index = "tun0", 43
		if netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN}) != nil {
			return nil // no tun driver here
		}
		tun, err = Find("blue", "tun0")
		return err
	}))
	require.Equal(t, Interface{Name: "eth0", Index: 42, Namespace: "blue", Inode: want}, eth)
	require.ErrorContains(t, missing, "find interface eth1")
	require.ErrorContains(t, missing, "(there are: lo peer eth0)")
	if tun.Name != "" {
		require.True(t, tun.L3, "a tun device has no link header")
	}
}

func TestByInode(t *testing.T) {
	path := namespace(t)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	got, err := ByInode(st.Ino)
	require.NoError(t, err)
	require.Equal(t, path, got)

	require.NoError(t, unix.Stat("/proc/self/ns/net", &st))
	got, err = ByInode(st.Ino)
	require.NoError(t, err)
	own := st.Ino
	require.NoError(t, unix.Stat(got, &st))
	require.Equal(t, own, st.Ino)

	_, err = ByInode(1)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestDoSurvivesGoexit(t *testing.T) {
	require.Error(t, Do(namespace(t), func() error { runtime.Goexit(); return nil }))
}

func TestDoNowhere(t *testing.T) {
	kerneltest.NeedRoot(t)
	home, err := inode("/proc/self/ns/net") // of the first thread, which gets its turn now and then
	require.NoError(t, err)
	for range 100 {
		var got uint64
		require.NoError(t, DoNowhere(func() (err error) {
			got, err = inode("/proc/thread-self/ns/net")
			return err
		}))
		require.NotEqual(t, home, got)
		own, err := inode("/proc/self/ns/net")
		require.NoError(t, err)
		require.Equal(t, home, own)
	}
}
