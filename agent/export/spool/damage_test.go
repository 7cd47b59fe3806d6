package spool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTornTail cuts the last segment at every byte of its last block, as a writer leaves it that is
// killed: the blocks before it are there, and the spool goes on.
func TestTornTail(t *testing.T) {
	for cut := 1; cut < blockHeader+16; cut++ {
		dir := t.TempDir()
		s := open(t, dir)
		require.NoError(t, s.Append(payload(1, 1, 0), 1))
		require.NoError(t, s.Append(payload(2, 2, 0), 2))
		path, size := s.segments[0].path(dir), s.segments[0].size
		s.die()
		require.NoError(t, os.Truncate(path, size-int64(cut)))
		s = open(t, dir)
		require.NoError(t, s.Append(payload(2, 2, 0), 2), "its writer was not told that it was safe")
		require.Equal(t, []uint64{1, 2, 3}, drain(t, s))
		require.Zero(t, s.Ledger().Damaged)
		balanced(t, s.Ledger())
		require.NoError(t, s.Close())
	}
}

// TestDamage changes each byte of a segment in turn. All blocks but the one that was hit are
// delivered, and that one is counted; the last one cannot be told from one that was being written.
func TestDamage(t *testing.T) {
	write := func(dir string) (path string, data []byte) {
		s := open(t, dir)
		for n := range uint64(3) {
			require.NoError(t, s.Append(payload(n, 1, 2), 1))
		}
		path = s.segments[0].path(dir)
		s.die()
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return path, data
	}
	_, data := write(t.TempDir())
	for at := range data {
		dir := t.TempDir()
		path, data := write(dir)
		data[at] ^= 0x10
		require.NoError(t, os.WriteFile(path, data, 0o600))
		s := open(t, dir)
		hit := (at - segmentHeader) / (blockHeader + 16)
		want := []uint64{0, 1, 2}
		if at >= segmentHeader {
			want = append(want[:hit:hit], want[hit+1:]...)
		}
		require.Equal(t, want, drain(t, s), "byte %d", at)
		l := s.Ledger()
		balanced(t, l)
		if at >= segmentHeader && hit < 2 {
			require.Equal(t, Count{1, 16}, l.Damaged, "byte %d", at)
		}
		require.NoError(t, s.Close())
	}
}

// TestMissingSegment removes files: what was in them is counted.
func TestMissingSegment(t *testing.T) {
	fill := func(dir string) []segment {
		s := open(t, dir)
		for n := range uint64(40) {
			require.NoError(t, s.Append(payload(n, 1, 5000), 1))
		}
		s.die()
		return s.segments
	}
	for _, missing := range []int{0, 1} {
		dir := t.TempDir()
		all := fill(dir)
		require.Greater(t, len(all), 3)
		require.NoError(t, os.Remove(all[missing].path(dir)))
		s := open(t, dir)
		got := drain(t, s)
		l := s.Ledger()
		require.Equal(t, uint64(40), l.Delivered.Records+l.Damaged.Records)
		require.Len(t, got, int(l.Delivered.Records))
		require.NotZero(t, l.Damaged)
		balanced(t, l)
		require.NoError(t, s.Close())
	}
}

// TestStateIsTorn damages the state: of one slot, the other one stands, and one block is delivered
// again; of both, all that is on the disk is.
func TestStateIsTorn(t *testing.T) {
	for slots := range 3 {
		dir := t.TempDir()
		s := open(t, dir)
		for n := range uint64(4) {
			require.NoError(t, s.Append(payload(n, 1, 0), 1))
		}
		for range 2 {
			_, _, err := s.Peek()
			require.NoError(t, err)
			require.NoError(t, s.Done())
		}
		newest := s.state.generation % 2
		s.die()
		path := filepath.Join(dir, "state")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		if slots > 0 {
			data[newest*stateSlot+20] ^= 1
		}
		if slots > 1 {
			data[(1-newest)*stateSlot+20] ^= 1
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
		s = open(t, dir)
		require.Equal(t, [][]uint64{{2, 3}, {1, 2, 3}, {0, 1, 2, 3}}[slots], drain(t, s))
		balanced(t, s.Ledger())
		require.Equal(t, uint64(4), s.Ledger().Written.Records)
		require.NoError(t, s.Close())
	}
}
