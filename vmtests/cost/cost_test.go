package cost

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func kernel() result.Kernel {
	return result.Kernel{Line: "newest", Version: "7.3.4+deb13-cloud-amd64",
		Verified:     map[string]int{"weir_packet": 1000, "weir_track": 8000},
		Instructions: map[string]float64{"tcp4/hot": 429.5}, Memory: map[string]uint64{"conns4": 1 << 20}}
}

func TestDrift(t *testing.T) {
	b := Baseline{}
	k := kernel()
	b.Take([]result.Kernel{k, {Line: "rc", Unavailable: "gone"}})
	require.Len(t, b, 1)
	require.Empty(t, b.Drift(&k))
	require.False(t, b.Unknown(&k))
	k.Version = "7.4.0"
	require.Empty(t, b.Drift(&k))
	require.True(t, b.Unknown(&k))
	for want, change := range map[string]func(*result.Kernel){
		"": func(k *result.Kernel) { k.Verified["weir_track"] = 8400 },
		"weir_track: 8401 instructions walked by the verifier, 8000 in the baseline (+5.0 %, 5 % are tolerated)": func(k *result.Kernel) {
			k.Verified["weir_track"] = 8401
		},
		"weir_packet: 100 instructions walked by the verifier, 1000 in the baseline (-90.0 %, 5 % are tolerated)": func(k *result.Kernel) {
			k.Verified["weir_packet"] = 100
		},
		"weir_new: 9 instructions walked by the verifier, none in the baseline": func(k *result.Kernel) { k.Verified["weir_new"] = 9 },
		"tcp4/hot: 473 instructions per packet, 429.5 in the baseline (+10.1 %, 10 % are tolerated)": func(k *result.Kernel) {
			k.Instructions["tcp4/hot"] = 473
		},
		"conns4: gone, 1048576 bytes of memory in the baseline": func(k *result.Kernel) { clear(k.Memory) },
	} {
		k := kernel()
		change(&k)
		var all []string
		if want != "" {
			all = []string{want}
		}
		require.Equal(t, all, b.Drift(&k))
	}
	require.Empty(t, b.Drift(&result.Kernel{Unavailable: "gone"}))
}

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "costs.yaml")
	_, err := Read(file)
	require.ErrorIs(t, err, os.ErrNotExist)
	b := Baseline{}
	b.Take([]result.Kernel{kernel()})
	require.NoError(t, Write(file, b))
	again, err := Read(file)
	require.NoError(t, err)
	require.Equal(t, b, again)
	for text, want := range map[string]string{
		"newest: {verified: {a: 1}}": `"newest" is no kernel line; want one like 6.12`,
		"\"6.1\": {verfied: {a: 1}}": "verfied",
		"\"6.1\": {verified: 3}":     "costs.yaml:1:",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		_, err = Read(file)
		require.ErrorContains(t, err, want)
	}
}
