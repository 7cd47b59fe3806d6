package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

type value struct {
	A int
	B map[string]string
}

func TestSaveLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var got value
	require.ErrorIs(t, Load(path, &got), os.ErrNotExist)
	for i := range 3 {
		want := value{A: i, B: map[string]string{"x": "<y>"}}
		require.NoError(t, Save(path, want))
		got = value{}
		require.NoError(t, Load(path, &got))
		require.Equal(t, want, got)
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing else is left behind")
}

// Whatever byte is missing or changed, nothing is read.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	require.NoError(t, Save(path, value{A: 7, B: map[string]string{"x": "y"}}))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	try := func(what string, text []byte) {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		got := value{A: 1}
		require.ErrorIs(t, Load(path, &got), ErrDamaged, "%s: %s", what, text)
		require.Equal(t, value{A: 1}, got, what)
	}
	for n := range len(whole) - 1 { // without the line's end it is whole
		try("cut off", whole[:n])
		changed := append([]byte{}, whole...)
		changed[n] ^= 1
		if changed[n]|0x20 == whole[n]|0x20 {
			changed[n] ^= 2 // the names of JSON fields are the same in upper case
		}
		try("changed", changed)
	}
	try("more", append(append([]byte{}, whole...), whole...))
	try("other fields", []byte(`{"format":"weir-store/1","sha256":"`+sum([]byte(`{"C":1}`))+`","data":{"C":1}}`))
	try("another format", []byte(`{"format":"weir-store/2","sha256":"`+sum([]byte(`{}`))+`","data":{}}`))
}

// A save that fails leaves the file as it was.
func TestSaveFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	require.NoError(t, Save(path, value{A: 7}))
	require.Error(t, Save(path, func() {}))
	require.Error(t, Save(filepath.Join(path, "below"), value{A: 8}))
	var got value
	require.NoError(t, Load(path, &got))
	require.Equal(t, 7, got.A)
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"format":"weir-store/1","sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","data":{}}`))
	f.Add([]byte(`{"format":"weir-store/1","data":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		data, err := open(text)
		if err == nil {
			require.Contains(t, string(text), sum(data))
		}
	})
}
