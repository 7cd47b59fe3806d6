package result

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseShard(t *testing.T) {
	for text, want := range map[string]Shard{"": {}, "1/1": {1, 1}, "2/5": {2, 5}, "5/5": {5, 5}} {
		s, err := ParseShard(text)
		require.NoError(t, err)
		require.Equal(t, want, s)
		require.Equal(t, text, s.String())
	}
	for _, text := range []string{"1", "/", "0/3", "4/3", "1/0", "-1/3", "1/3/3", "a/b", "1/1001", "1/99999999999999999999"} {
		_, err := ParseShard(text)
		require.ErrorContains(t, err, "want I/N", text)
	}
}

// TestShardHas looks at all shards: together they are the suite, and each is as large as the others.
func TestShardHas(t *testing.T) {
	const suite = 12
	for count := 1; count < 5; count++ {
		for i := range suite {
			in := 0
			for index := range count {
				if (Shard{index + 1, count}).Has(i) {
					in++
				}
			}
			require.Equal(t, 1, in)
			require.True(t, Shard{}.Has(i))
		}
		for index := range count {
			size := 0
			for i := range suite {
				if (Shard{index + 1, count}).Has(i) {
					size++
				}
			}
			require.Equal(t, suite/count, size)
		}
	}
}
