package artifact

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file that is executed comes from what the object is in, and from nowhere else unless its path says so.
func TestExecutable(t *testing.T) {
	name, private := keyPair(t)
	keys, err := ReadKeys([]string{name})
	require.NoError(t, err)
	script := []byte("#!/bin/sh\n")
	signature := ed25519.Sign(private, script)
	dir := t.TempDir()
	plain := write(t, filepath.Join(dir, "a.o"), elf("object"))
	run := write(t, filepath.Join(dir, "run"), script)
	write(t, filepath.Join(dir, "run.sig"), signature)
	write(t, filepath.Join(dir, "data"), script)
	require.NoError(t, os.Chmod(run, 0o500))
	require.NoError(t, os.Symlink("/bin/sh", filepath.Join(dir, "out")))
	packed := write(t, filepath.Join(dir, "a.tar"), tarOf(t, file{name: "a/a.o", data: elf("object")},
		file{name: "run", data: script}, file{name: "run.sig", data: signature}))
	get := func(object, name string) error {
		s, at, err := source(t, object).Executable(name)
		if err != nil {
			return err
		}
		f := Fetcher{Keys: keys}
		o, err := f.Executable(t.Context(), s, "", at)
		if err == nil {
			require.Equal(t, script, o.Data)
		}
		return err
	}
	require.NoError(t, get(plain, "run"))
	require.NoError(t, get("/no/object.o", run))
	require.NoError(t, get(packed+"#a/a.o", "run"), "names are those in the archive")

	for object, names := range map[string]map[string]string{
		plain:             {"data": "not executable", "out": "escapes", "../run": "leads out", "a/../run": "leads out", "none": "no such file"},
		packed + "#a/a.o": {"a/run": "there is no file", "../run": "leads out", "a/a.o": ErrSignature.Error()},
		"http://h/a.o":    {"run": "the object is no archive"},
	} {
		for name, want := range names {
			require.ErrorContains(t, get(object, name), want, "%s %s", object, name)
		}
	}
	_, _, err = source(t, "http://h/a.tar#a.o").Executable("run")
	require.NoError(t, err)
	write(t, filepath.Join(dir, "run.sig"), signature[:63])
	require.ErrorIs(t, get(plain, "run"), ErrSignature)
}
