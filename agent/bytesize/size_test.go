package bytesize

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "17": 17, "512KiB": 512 << 10, "64 MiB": 64 << 20,
		"1GiB": 1 << 30, "2TiB": 2 << 40} {
		var s Size
		require.NoError(t, s.UnmarshalText([]byte(text)))
		require.Equal(t, want, s)
	}
	for _, text := range []string{"", "GiB", "1GB", "1.5GiB", "-1", "1e3", "9223372036854775807KiB"} {
		var s Size
		require.ErrorContains(t, s.UnmarshalText([]byte(text)), "is no size", text)
	}
}
