package bpf

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// TestLayout holds the types that Go reads the tables by against those of the compiled programs: sizes, and where each
// field stands.
func TestLayout(t *testing.T) {
	spec, err := loadWeir()
	require.NoError(t, err)
	size := func(v any) uint32 { return uint32(reflect.TypeOf(v).Size()) }
	for name, want := range map[string][2]uint32{
		"conns4": {16, size(weirConn4{})}, "conns6": {40, size(weirConn6{})},
		"works": {4, size(weirWork{})}, "answers": {4, size(weirAnswer{})},
	} {
		require.Equal(t, want, [2]uint32{spec.Maps[name].KeySize, spec.Maps[name].ValueSize}, name)
	}
	require.Equal(t, [2]uint32{16, 40}, [2]uint32{size(weirKey4{}), size(weirKey6{})}, "keys")
	for name, v := range map[string]any{"key4": weirKey4{}, "key6": weirKey6{}, "conn": weirConn{}, "conn4": weirConn4{},
		"conn6": weirConn6{}, "work": weirWork{}, "event": weirEvent{}} {
		var in *btf.Struct
		require.NoError(t, spec.Types.TypeByName(name, &in), name)
		require.Equal(t, in.Size, size(v), name)
		require.NotZero(t, sameFields(t, name, in, reflect.TypeOf(v)), name)
	}
	require.Equal(t, size(weirConn4{}), size(weirKey4{})+size(weirConn{}), "an entry is its key and a connection")
	require.Equal(t, size(weirConn6{}), size(weirKey6{})+size(weirConn{}))
}

// sameFields compares the places of fields by their names, and counts them. Padding has no name in Go.
func sameFields(t *testing.T, name string, in *btf.Struct, out reflect.Type) (n int) {
	t.Helper()
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	offsets := map[string]uint32{}
	for _, m := range in.Members {
		offsets[plain(m.Name)] = m.Offset.Bytes()
	}
	for i := range out.NumField() {
		f := out.Field(i)
		if f.Name == "_" {
			continue
		}
		at, ok := offsets[plain(f.Name)]
		require.True(t, ok, "%s: C has no %s", name, f.Name)
		require.Equal(t, at, uint32(f.Offset), "%s.%s", name, f.Name)
		n++
	}
	return n
}
