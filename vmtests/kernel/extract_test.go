package kernel

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzExtract unpacks anything: it is an error, or files below the folder that are wanted of a kernel.
func FuzzExtract(f *testing.F) {
	for _, name := range []string{"boot/vmlinuz-6.1", "./usr/lib/modules/6.1/kernel/net/x.ko", "lib/modules/../../net/x", "../boot/vmlinuz-1"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		require.NoError(f, w.WriteHeader(&tar.Header{Name: name, Size: 3, Mode: 0o644}))
		_, err := w.Write([]byte("abc"))
		require.NoError(f, err)
		require.NoError(f, w.Close())
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		around := t.TempDir()
		dir := filepath.Join(around, "kernel")
		require.NoError(t, os.Mkdir(dir, 0o700))
		_, _ = extractTar(bytes.NewReader(data), dir) // a damaged package is an error
		require.NoError(t, filepath.WalkDir(around, func(path string, d fs.DirEntry, err error) error {
			require.True(t, path == around || path == dir || strings.HasPrefix(path, dir+"/"), "%s was written outside", path)
			return err
		}))
	})
}
