package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

// TestCount holds what the kernel has counted against a pass, with and without milestones, over
// insertions, deletions, another size.
func TestCount(t *testing.T) {
	for _, size := range []int{512, 2 * manyBuckets} {
		d := loadForCount(t, size)
		both := func(want Held) {
			t.Helper()
			walked, err := d.Held()
			require.NoError(t, err)
			require.Equal(t, want, walked, "by a pass")
			counted, err := d.Count()
			require.NoError(t, err)
			require.Equal(t, want, counted, "by the kernel")
		}
		both(Held{})
		fill(t, d, 0, 100)
		both(Held{100, 0})
		var ends []Candidate
		require.NoError(t, d.Walk(func(e *Entry) error {
			if len(ends) < 30 {
				ends = append(ends, Candidate{Key: e.Key(), Force: true})
			}
			return nil
		}))
		require.NoError(t, d.Retire(ends))
		both(Held{100, 0})
		require.NoError(t, d.Delete(ends))
		both(Held{70, 0})
		n, err := d.Deletions()
		require.NoError(t, err)
		require.Equal(t, uint64(30), n)
	}
}

// TestCountFollowsDeletions: after each of many deletions in a table that is nearly empty the count is right.
func TestCountFollowsDeletions(t *testing.T) {
	const held, deleted = 8192, 2048
	d := loadForCount(t, 524288)
	fill(t, d, 1, held)
	var ends []Candidate
	require.NoError(t, d.Walk(func(e *Entry) error {
		if len(ends) < deleted {
			ends = append(ends, Candidate{Key: e.Key(), Force: true})
		}
		return nil
	}))
	require.NoError(t, d.Retire(ends))
	for i := range ends {
		require.NoError(t, d.Delete(ends[i:i+1]))
		counted, err := d.Count()
		require.NoError(t, err)
		require.Equal(t, held-1-i, counted.IPv4)
		if i%256 != 255 {
			continue
		}
		walked, err := d.Held()
		require.NoError(t, err)
		require.Equal(t, counted, walked, "by a pass")
	}
}

func loadForCount(t *testing.T, size int) *Datapath {
	t.Helper()
	d := load(t, Options{Table: size, Virtual: true})
	if d.Probes.NoCounter != nil {
		require.True(t, errors.Is(d.Probes.NoCounter, ebpf.ErrNotSupported), d.Probes.NoCounter.Error())
		_, err := d.Count()
		require.ErrorIs(t, err, ErrNoCounter)
		t.Skip("skipped: ", d.Probes.NoCounter)
	}
	return d
}
