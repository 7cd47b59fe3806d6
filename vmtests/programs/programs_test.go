package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/vmtests/initramfs"
)

// shell is a dynamic program that every machine has.
const shell = "/bin/sh"

func paths(files []initramfs.File) string {
	var all []string
	for _, f := range files {
		all = append(all, f.Path)
	}
	return strings.Join(all, " ")
}

func TestFind(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!"+shell+" -e\necho\n"), 0o750))
	data := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(data, []byte{1, 2}, 0o640))

	of, err := Find(t.Context(), []string{script})
	require.NoError(t, err)
	for _, want := range []string{script, shell, "libc.so", "ld-"} {
		require.Contains(t, paths(of), want)
	}
	twice, err := Find(t.Context(), []string{script, shell, script})
	require.NoError(t, err)
	require.Equal(t, of, twice)
	alone, err := Find(t.Context(), []string{data, "no-such-program", "/no/such/file"})
	require.NoError(t, err)
	require.Equal(t, []initramfs.File{{Path: data, Mode: 0o640, Body: []byte{1, 2}}}, alone)
}

func TestFindRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, body string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(body), 0o755))
		return path
	}
	large := file("large", "")
	require.NoError(t, os.Truncate(large, MaxSize+1))
	for name, want := range map[string]string{
		"./agent":                       "want a name or an absolute path",
		dir:                             "is no regular file",
		large:                           "want at most",
		file("cut", "\x7fELF"):          "read " + dir + "/cut",
		file("nothing", "#!\n"):         "without an interpreter",
		file("gone", "#!/no/such/sh\n"): "no such file",
		file("env", "#!/usr/bin/env no-such-program\n"): "executable file not found",
	} {
		_, err := Find(t.Context(), []string{name})
		require.ErrorContains(t, err, want, name)
		require.ErrorContains(t, err, "take "+name+" into guests")
	}
}

func TestReadList(t *testing.T) {
	got, err := readList("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x0)\n")
	require.NoError(t, err)
	require.Equal(t, []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}, got)
	_, err = readList("\tlibfoo.so.1 => not found\n")
	require.ErrorContains(t, err, "libfoo.so.1 is not there")
}

// FuzzRead reads files that could be programs, and what loaders print.
func FuzzRead(f *testing.F) {
	f.Add([]byte("#!/usr/bin/env sh\n"))
	f.Add([]byte("\tlibc.so.6 => /lib/libc.so.6 (0x0)\n\tlibfoo.so.1 => not found\n"))
	body, err := os.ReadFile(shell)
	require.NoError(f, err)
	f.Add(body[:4096])
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = loaderOf(data)
		paths, _ := readList(string(data))
		for _, p := range paths {
			require.True(t, filepath.IsAbs(p))
		}
		if len(data) > 2 {
			_, _ = interpreter(data)
		}
	})
}
