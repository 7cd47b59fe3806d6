package spool

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

func open(t testing.TB, dir string) *Spool {
	t.Helper()
	s, err := Open(Options{Dir: dir, Size: MinSize, Format: "test"})
	require.NoError(t, err)
	return s
}

// die lets go of a spool like a process that is killed: what it has in memory is lost.
func (s *Spool) die() {
	s.closeHead()
	_ = s.closeTail()
	_ = s.stateFile.Close()
	_ = s.lock.Close()
}

// payload is a block of n records, which are numbers from first on, with padding.
func payload(first uint64, n, padding int) []byte {
	var b []byte
	for i := range n {
		b = binary.LittleEndian.AppendUint64(b, first+uint64(i))
	}
	return append(b, bytes.Repeat([]byte(blockMagic), padding)...) // hard on who looks for blocks
}

func numbers(b []byte, n int) (all []uint64) {
	for i := range n {
		all = append(all, binary.LittleEndian.Uint64(b[8*i:]))
	}
	return all
}

func balanced(t testing.TB, l Ledger) {
	t.Helper()
	sum := l.Delivered
	sum.Add(l.Discarded)
	sum.Add(l.Damaged)
	sum.Add(l.Held)
	require.Equal(t, l.Written, sum, "%+v", l)
}

// drain reads all that is there.
func drain(t testing.TB, s *Spool) (all []uint64) {
	t.Helper()
	for {
		b, n, err := s.Peek()
		if err == ErrEmpty {
			return all
		}
		require.NoError(t, err)
		all = append(all, numbers(b, n)...)
		require.NoError(t, s.Done())
	}
}

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, _, err := s.Peek()
	require.ErrorIs(t, err, ErrEmpty)
	require.NoError(t, s.Append(payload(1, 3, 0), 3))
	require.NoError(t, s.Append(payload(4, 1, 5), 1))
	for range 2 { // it stays until Done
		b, n, err := s.Peek()
		require.NoError(t, err)
		require.Equal(t, []uint64{1, 2, 3}, numbers(b, n))
	}
	require.NoError(t, s.Done())
	require.ErrorContains(t, s.Done(), "none was read")
	require.NoError(t, s.Close())

	s = open(t, dir)
	require.Equal(t, Count{1, 28}, s.Ledger().Held)
	require.Equal(t, []uint64{4}, drain(t, s))
	require.Equal(t, Ledger{Written: Count{4, 52}, Delivered: Count{4, 52}}, s.Ledger())
	require.NoError(t, s.Close())
}

func TestDiscard(t *testing.T) {
	s := open(t, t.TempDir())
	require.NoError(t, s.Append(payload(1, 2, 0), 2))
	_, _, err := s.Peek()
	require.NoError(t, err)
	require.NoError(t, s.Discard())
	require.Equal(t, Ledger{Written: Count{2, 16}, Discarded: Count{2, 16}}, s.Ledger())
	require.NoError(t, s.Close())
}

// TestFull fills the spool, empties it, and fills it again; it never takes more than its size.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	next := uint64(0)
	for range 3 {
		var want []uint64
		for {
			err := s.Append(payload(next, 1, 1000), 1)
			if err != nil {
				require.ErrorIs(t, err, ErrFull)
				break
			}
			want = append(want, next)
			next++
		}
		require.Greater(t, len(want), MinSize/5000)
		require.LessOrEqual(t, onDisk(t, dir), int64(MinSize))
		require.Equal(t, want, drain(t, s))
		balanced(t, s.Ledger())
	}
	require.Equal(t, uint64(3), s.Ledger().Refused().Records)
	require.NoError(t, s.Close())
	require.Equal(t, uint64(3), open(t, dir).Ledger().Refused().Records, "the books outlive the process")
}

func onDisk(t testing.TB, dir string) (sum int64) {
	t.Helper()
	all, err := listSegments(dir)
	require.NoError(t, err)
	for _, seg := range all {
		sum += seg.size
	}
	return sum
}

// TestGivesBack reads behind a writer for longer than the spool is large.
func TestGivesBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := range uint64(5000) {
		require.NoError(t, s.Append(payload(n, 1, 500), 1))
		require.Equal(t, []uint64{n}, drain(t, s))
	}
	require.Less(t, onDisk(t, dir), int64(MinSize/4))
	require.NoError(t, s.Close())
}

func TestBadBlocks(t *testing.T) {
	s := open(t, t.TempDir())
	require.ErrorContains(t, s.Append(nil, 0), "want 1 record or more")
	require.ErrorContains(t, s.Append(make([]byte, MaxBlock+1), 1), "at most")
	require.ErrorIs(t, s.Append(make([]byte, MinSize), 1), ErrFull)
	require.NoError(t, s.Append([]byte{}, 1), "a record of no bytes")
	b, n, err := s.Peek()
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Empty(t, b)
	require.NoError(t, s.Close())
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(Options{Dir: file, Size: MinSize})
	require.ErrorContains(t, err, "open the spool "+file)
	_, err = Open(Options{Dir: dir, Size: 1})
	require.ErrorContains(t, err, "want at least 1048576")

	s := open(t, dir)
	_, err = Open(Options{Dir: dir, Size: MinSize, Format: "test"})
	require.ErrorContains(t, err, "another agent")
	require.NoError(t, s.Append(payload(1, 1, 0), 1))
	require.NoError(t, s.Close())

	_, err = Open(Options{Dir: dir, Size: MinSize, Format: "other"})
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, `"test", not "other"`)
	s = open(t, dir)
	drain(t, s)
	require.NoError(t, s.Close())
	s, err = Open(Options{Dir: dir, Size: MinSize, Format: "other"})
	require.NoError(t, err, "nothing is left in the old format")
	require.NoError(t, s.Append(payload(2, 1, 0), 1))
	require.Equal(t, []uint64{2}, drain(t, s))
	require.Equal(t, uint64(2), s.Ledger().Delivered.Records)
	require.NoError(t, s.Close())
}

// TestDiskFull runs on a file system that is smaller than the spool.
func TestDiskFull(t *testing.T) {
	kerneltest.NeedRoot(t)
	mount := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", mount, "tmpfs", 0, "size=128k"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
	dir := filepath.Join(mount, "spool")
	s := open(t, dir)
	next := uint64(0)
	for range 3 {
		var want []uint64
		for {
			err := s.Append(payload(next, 1, 100), 1)
			next++
			if err != nil {
				require.ErrorIs(t, err, ErrDiskFull)
				break
			}
			want = append(want, next-1)
		}
		require.NotEmpty(t, want)
		s.die()
		s = open(t, dir)
		require.Equal(t, want, drain(t, s))
		balanced(t, s.Ledger())
	}
	require.Equal(t, uint64(3), s.Ledger().Refused().Records)
	require.Zero(t, s.Ledger().Damaged)
	require.NoError(t, s.Close())
}

// TestNoAllocation holds the steady state to no allocation per block.
func TestNoAllocation(t *testing.T) {
	s := open(t, t.TempDir())
	b := payload(0, 100, 1000)
	round := func() {
		if s.Append(b, 100) != nil {
			t.Error("append")
		}
		if _, _, err := s.Peek(); err != nil {
			t.Error(err)
		}
		if s.Done() != nil {
			t.Error("done")
		}
	}
	round()
	require.LessOrEqual(t, testing.AllocsPerRun(1000, round), 2.0) // segments come and go
	require.NoError(t, s.Close())
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir(), Size: 1 << 30, Format: "test"})
	require.NoError(b, err)
	block := make([]byte, 256<<10)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, s.Append(block, 1000))
		_, _, err := s.Peek()
		require.NoError(b, err)
		require.NoError(b, s.Done())
	}
	require.NoError(b, s.Close())
}
