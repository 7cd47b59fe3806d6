package podgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

const uid = "0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11"

// TestUID: both drivers of the kubelet, all classes of service, the common runtimes.
func TestUID(t *testing.T) {
	slice, hash := strings.ReplaceAll(uid, "-", "_"), strings.ReplaceAll(uid, "-", "")
	for path, want := range map[string]string{
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + slice + ".slice/cri-containerd-12ab.scope":   uid,
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + slice + ".slice/crio-12ab.scope/container": uid,
		"/kubepods.slice/kubepods-pod" + slice + ".slice/docker-12ab.scope":                                              uid,
		"/kubepods.slice/kubepods-pod" + slice + ".slice":                                                                uid,
		"/kubepods/burstable/pod" + uid + "/12ab":                                                                        uid,
		"/kubepods/besteffort/pod" + uid + "/12ab":                                                                       uid,
		"/kubepods/pod" + uid:                      uid,
		"/kubepods/burstable/pod" + hash + "/12ab": hash,
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hash + ".slice/x": hash,
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + slice + ".slice/x":     uid,
		"/system.slice/docker-12ab.scope/kubelet/kubepods/besteffort/pod" + uid + "/12ab":     uid,
		"/kubepods/pod" + uid + "/12ab/kubepods/pod" + hash + "/x":                            uid, // the outermost

		"":                              "",
		"/":                             "",
		"/kubepods":                     "",
		"/kubepods.slice":               "",
		"/system.slice/kubelet.service": "",
		"/kubepods.slice/kubepods-burstable.slice":                "",
		"/machine/pod" + uid:                                      "", // not the kubelet's
		"/user.slice/user-pod" + slice + ".slice":                 "",
		"/kubepods/pod" + uid[1:]:                                 "",
		"/kubepods/pod" + uid + "0":                               "",
		"/kubepods/pod" + strings.ToUpper(uid):                    "",
		"/kubepods/podg" + uid[1:]:                                "",
		"/kubepods/pod" + hash[:4] + "-" + hash[4:]:               "",
		"/kubepods/pod" + uid + ".slice":                          "", // neither way
		"/kubepods.slice/kubepods-pod" + slice:                    "",
		"/kubepods.slice/kubepods-pod" + slice[:8] + ".slice/pod": "",
	} {
		require.Equal(t, want, UID(path), path)
	}
}

func FuzzUID(f *testing.F) {
	f.Add("/kubepods/burstable/pod" + uid + "/12ab")
	f.Add("/kubepods.slice/kubepods-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/x")
	f.Fuzz(func(t *testing.T, path string) {
		got := UID(path)
		if got == "" {
			return
		}
		require.Contains(t, strings.ReplaceAll(path, "_", "-"), "pod"+got)
		require.Len(t, strings.ReplaceAll(got, "-", ""), 32)
		require.Equal(t, got, UID("/kubepods/pod"+got), "it is no UID that the kubelet could have")
	})
}

func TestMount(t *testing.T) {
	const (
		own  = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
		host = "99 23 0:26 /../../.. /host/cgroup ro - cgroup2 cgroup2 rw\n"
		part = "98 23 0:26 /system.slice /mnt rw - cgroup2 cgroup2 rw\n"
		one  = "41 32 0:37 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	for mounts, want := range map[string]string{
		own: "/sys/fs/cgroup", own + strings.ReplaceAll(own, "/sys", "/mnt"): "/sys/fs/cgroup", own + host: "/host/cgroup", host + own: "/host/cgroup", part + own: "/sys/fs/cgroup",
		one: "", part: "", "": "", "a b - cgroup2\n": "",
	} {
		require.Equal(t, want, mountIn(mounts), mounts)
	}
}

// TestTree reads groups of this machine. It makes one and takes it away.
func TestTree(t *testing.T) {
	root, err := Mount()
	if err != nil {
		kerneltest.Lacking(t, fmt.Sprintf("control groups of version 2 (%v)", err))
	}
	top, err := os.MkdirTemp(root, "weir-test-podgroup-")
	if err != nil {
		kerneltest.Lacking(t, fmt.Sprintf("the right to make control groups (%v)", err))
	}
	defer os.Remove(top)
	tree, err := Open(root)
	require.NoError(t, err)
	ask := func(path string, id uint64, want string, wantKnown bool) {
		t.Helper()
		got, known, err := tree.UID(id)
		require.NoError(t, err)
		require.Equal(t, wantKnown, known, path)
		require.Equal(t, want, got, path)
	}
	ask(top, inode(t, top), "", true)
	dirs := []string{filepath.Join(top, "kubepods")}
	dirs = append(dirs, filepath.Join(dirs[0], "pod"+uid))
	dirs = append(dirs, filepath.Join(dirs[1], "12ab"))
	for i, d := range dirs {
		require.NoError(t, os.Mkdir(d, 0o755))
		defer os.Remove(dirs[len(dirs)-1-i])
	}
	pod, container := inode(t, dirs[1]), inode(t, dirs[2])
	tree.Refresh()
	ask(dirs[2], container, uid, true)
	ask(dirs[1], pod, uid, true)
	require.NoError(t, os.Remove(dirs[2]))
	tree.Refresh()
	ask(dirs[2], container, uid, true) // it was there
	ask("nowhere", 1<<60, "", false)
	require.NoError(t, os.Mkdir(dirs[2], 0o755))
	ask(dirs[2], inode(t, dirs[2]), "", false) // one read is all until Refresh
	tree.Refresh()
	ask(dirs[2], inode(t, dirs[2]), uid, true)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestTreeForgets: groups that have gone are let go of when there are too many.
func TestTreeForgets(t *testing.T) {
	tree := &Tree{root: t.TempDir(), groups: map[uint64]group{}}
	for id := range uint64(maxGroups) {
		tree.groups[id<<32] = group{}
	}
	require.NoError(t, tree.read())
	require.Len(t, tree.groups, 1)
}

func TestOpenElsewhere(t *testing.T) {
	_, err := Open(t.TempDir())
	require.ErrorIs(t, err, ErrNone)
	_, err = Open("/no/such/folder")
	require.ErrorIs(t, err, os.ErrNotExist)
}
