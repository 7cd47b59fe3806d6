package kernel

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// The stand-ins for the programs that a store calls. The archive is $ARCHIVE: index is what
// apt-cache show prints, pool/<package> are the files that can be had.
const (
	fakeGet = `#!/bin/sh
echo "$*" >> "$ARCHIVE/calls"
case "$*" in
*update) [ -e "$ARCHIVE/offline" ] && { echo "E: no network" >&2; exit 100; }
	: > "$LISTS/x_Packages" ;;
*indextargets*) echo "Debian http://mirror.invalid/debian/"
	echo "Debian-Security http://mirror.invalid/debian-security/" ;;
*download*) for last; do :; done; name=${last%%=*}
	[ -e "$ARCHIVE/pool/$name" ] || { echo "E: Failed to fetch $name  404" >&2; exit 100; }
	cp "$ARCHIVE/pool/$name" "./${name}_1_amd64.deb" ;;
esac
`
	fakeCache = `#!/bin/sh
case "$*" in
*pkgnames*) sed -n 's/^Package: //p' "$ARCHIVE/index" ;;
*show*) cat "$ARCHIVE/index" ;;
esac
`
	fakeDeb = `#!/bin/sh
cat "$2"
`
)

// fakeArchive puts stand-ins on PATH, with an archive of the packages, which are tar files. The
// index also names a package that the pool has lost.
func fakeArchive(t *testing.T, packages map[string][]string) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	store := &Store{Dir: filepath.Join(dir, "cache")}
	for name, text := range map[string]string{
		"bin/apt-get": fakeGet, "bin/apt-cache": fakeCache, "bin/dpkg-deb": fakeDeb,
	} {
		writeText(t, filepath.Join(dir, name), text, 0o755)
	}
	var index strings.Builder
	for name, files := range packages {
		pkg, version, _ := strings.Cut(name, " ")
		sum := "lost"
		if files != nil {
			file := filepath.Join(dir, "pool", pkg)
			writeTar(t, file, files)
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			h := sha256.Sum256(data)
			sum = hex.EncodeToString(h[:])
		}
		fmt.Fprintf(&index, "Package: %s\nVersion: %s\nSHA256: %s\n\n", pkg, version, sum)
	}
	writeText(t, filepath.Join(dir, "index"), index.String(), 0o644)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("ARCHIVE", dir)
	t.Setenv("LISTS", filepath.Join(store.Dir, "apt", "lists"))
	return store, dir
}

func writeText(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), mode))
}

func writeTar(t *testing.T, file string, names []string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	f, err := os.Create(file)
	require.NoError(t, err)
	w := tar.NewWriter(f)
	for _, n := range names {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: n, Size: int64(len(n)), Mode: 0o644}))
		_, err := w.Write([]byte(n))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
}

func simple(release string) []string {
	return []string{
		"./boot/vmlinuz-" + release, "./boot/config-" + release, "./usr/share/doc/x",
		"./lib/modules/" + release + "/kernel/drivers/net/veth.ko",
		"./lib/modules/" + release + "/kernel/drivers/gpu/big.ko",
		"./lib/modules/" + release + "/kernel/arch/x86/lib/crypto/poly1305-x86_64.ko",
		"./lib/modules/" + release + "/modules.builtin",
	}
}

func TestGetAndCached(t *testing.T) {
	s, dir := fakeArchive(t, map[string][]string{
		"linux-image-6.1.0-2-cloud-amd64 6.1.20-1": nil, // lost by the mirror
		"linux-image-6.1.0-1-cloud-amd64 6.1.10-1": simple("6.1.0-1-cloud-amd64"),
		"linux-binary-unsigned-7.3.4-cloud-amd64 7.3.4-1": {
			"./usr/lib/modules/7.3.4-cloud-amd64/vmlinuz.unsigned"},
		"linux-modules-7.3.4-cloud-amd64 7.3.4-1": {
			"./usr/lib/modules/7.3.4-cloud-amd64/kernel/net/8021q/8021q.ko.xz"},
	})
	lines := []string{"6.1", "newest", "rc", "5.4"}
	for _, f := range s.Cached(lines) {
		require.ErrorIs(t, f.Err, fs.ErrNotExist)
	}
	found := s.Get(context.Background(), lines)
	require.NoError(t, found[0].Err)
	require.Equal(t, "6.1.0-1-cloud-amd64", found[0].Kernel.Release)
	require.Equal(t, "linux-image-6.1.0-1-cloud-amd64 6.1.10-1", found[0].Kernel.Package)
	require.Len(t, found[0].Kernel.SHA256, 64)
	require.FileExists(t, found[0].Kernel.Image)
	require.FileExists(t, filepath.Join(found[0].Kernel.Modules, "kernel/drivers/net/veth.ko"))
	require.FileExists(t, filepath.Join(found[0].Kernel.Modules, "kernel/arch/x86/lib/crypto/poly1305-x86_64.ko"), "since 6.16")
	require.FileExists(t, filepath.Join(found[0].Kernel.Modules, "modules.builtin"))
	require.NoFileExists(t, filepath.Join(found[0].Kernel.Modules, "kernel/drivers/gpu/big.ko"))
	require.NoError(t, found[1].Err)
	require.Equal(t, "7.3.4-cloud-amd64", found[1].Kernel.Release)
	require.FileExists(t, found[1].Kernel.Image)
	for _, f := range found[2:] {
		require.ErrorIs(t, f.Err, ErrUnavailable, f.Line)
		require.ErrorContains(t, f.Err, "of line "+f.Line)
	}

	// From now on nothing is asked of the archive, also about what is not there.
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	require.NoError(t, err)
	require.Equal(t, found, s.Get(context.Background(), lines))
	again, err := os.ReadFile(filepath.Join(dir, "calls"))
	require.NoError(t, err)
	require.Equal(t, calls, again)
	left, err := filepath.Glob(filepath.Join(s.Dir, "kernels", ".new-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestPullOfflineKeepsWhatIsThere(t *testing.T) {
	s, dir := fakeArchive(t, map[string][]string{
		"linux-image-6.1.0-1-cloud-amd64 6.1.10-1": simple("6.1.0-1-cloud-amd64"),
	})
	before := s.Get(context.Background(), []string{"6.1"})
	require.NoError(t, before[0].Err)
	writeText(t, filepath.Join(dir, "offline"), "", 0o644)
	require.NoError(t, os.RemoveAll(filepath.Join(s.Dir, "apt", "lists")))
	err := s.Pull(context.Background(), []string{"6.1"})[0].Err
	require.ErrorContains(t, err, "no network")
	require.NotErrorIs(t, err, ErrUnavailable)
	require.Equal(t, before, s.Cached([]string{"6.1"}))
}

func TestWrongSum(t *testing.T) {
	s, dir := fakeArchive(t, map[string][]string{
		"linux-image-6.1.0-1-cloud-amd64 6.1.10-1": simple("6.1.0-1-cloud-amd64"),
	})
	writeTar(t, filepath.Join(dir, "pool", "linux-image-6.1.0-1-cloud-amd64"), []string{"evil"})
	err := s.Get(context.Background(), []string{"6.1"})[0].Err
	require.ErrorContains(t, err, "SHA-256")
	require.ErrorIs(t, s.Cached([]string{"6.1"})[0].Err, fs.ErrNotExist)
}

func TestEveryLine(t *testing.T) {
	s, dir := fakeArchive(t, map[string][]string{
		"linux-image-6.1.0-1-cloud-amd64 6.1.10-1":   simple("6.1.0-1-cloud-amd64"),
		"linux-image-5.10.0-3-cloud-amd64 5.10.99-1": simple("5.10.0-3-cloud-amd64"),
	})
	want := []string{"5.10", "6.1"}
	linesOf := func(found []Found) (lines []string) {
		for _, f := range found {
			require.NoError(t, f.Err)
			lines = append(lines, f.Line)
		}
		return lines
	}
	cached := s.Cached([]string{Every})
	require.Len(t, cached, 1)
	require.ErrorIs(t, cached[0].Err, fs.ErrNotExist, "nobody has asked the archive")
	require.Equal(t, want, linesOf(s.Get(context.Background(), []string{Every, "6.1"})))
	require.Equal(t, want, linesOf(s.Cached([]string{Every})))
	writeText(t, filepath.Join(dir, "offline"), "", 0o644)
	require.Equal(t, want, linesOf(s.Get(context.Background(), []string{Every})), "the archive is not asked again")
}

func TestParallelGets(t *testing.T) {
	s, dir := fakeArchive(t, map[string][]string{
		"linux-image-6.1.0-1-cloud-amd64 6.1.10-1": simple("6.1.0-1-cloud-amd64"),
	})
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			own := &Store{Dir: s.Dir}
			errs[i] = own.Get(context.Background(), []string{"6.1"})[0].Err
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(calls), "download"))
}

func TestSources(t *testing.T) {
	s, _ := fakeArchive(t, nil)
	for name, tt := range map[string]struct {
		mirror Mirror
		want   []string
	}{
		"the machine's": {Mirror{}, []string{
			"http://mirror.invalid/debian/ bookworm main",
			"http://mirror.invalid/debian-security/ bookworm-security main"}},
		"given": {Mirror{Main: "file:/srv/debian"}, []string{
			"file:/srv/debian bookworm main", "file:/srv/debian-security trixie-security main"}},
		"given in another shape": {Mirror{Main: "http://a.invalid/deb"}, []string{
			"http://a.invalid/deb sid main"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := apt{dir: filepath.Join(s.Dir, "apt"), mirror: tt.mirror}
			require.NoError(t, a.ready(context.Background()))
			list, err := os.ReadFile(filepath.Join(a.dir, "sources.list"))
			require.NoError(t, err)
			for _, want := range tt.want {
				require.Contains(t, string(list), "] "+want+"\n")
			}
			require.NotContains(t, string(list), "trusted=yes")
		})
	}
}

func TestFromPath(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "bzImage"), "x", 0o644)
	k, err := FromPath(filepath.Join(dir, "bzImage"))
	require.NoError(t, err)
	require.Empty(t, k.Modules)
	require.Len(t, k.SHA256, 64)

	lvh := filepath.Join(dir, "lvh")
	_, err = FromPath(lvh)
	require.ErrorIs(t, err, fs.ErrNotExist)
	writeText(t, filepath.Join(lvh, "boot/vmlinuz-5.15.1"), "x", 0o644)
	writeText(t, filepath.Join(lvh, "lib/modules/5.15.1/modules.builtin"), "x", 0o644)
	k, err = FromPath(lvh)
	require.NoError(t, err)
	require.Equal(t, "5.15.1", k.Release)
	require.Equal(t, filepath.Join(lvh, "lib/modules/5.15.1"), k.Modules)
	writeText(t, filepath.Join(lvh, "boot/vmlinuz-5.15.2"), "x", 0o644)
	_, err = FromPath(lvh)
	require.ErrorContains(t, err, "want one")
}
