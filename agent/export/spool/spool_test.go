package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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

// TestRandomLife does at random what may happen to a spool, deaths included, beside a model of it.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &life{t: t, rng: rand.New(rand.NewPCG(seed, 1)), dir: t.TempDir()}
			m.spool = open(t, m.dir)
			for range 300 {
				m.step()
			}
			got := drain(t, m.spool)
			require.Equal(t, m.queue(), got)
			balanced(t, m.spool.Ledger())
			require.Equal(t, m.written, m.spool.Ledger().Written.Records)
			require.NoError(t, m.spool.Close())
		})
	}
}

// life is the model: a list of blocks.
type life struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string
	spool   *Spool
	blocks  [][]uint64
	written uint64
}

func (m *life) queue() (all []uint64) {
	for _, b := range m.blocks {
		all = append(all, b...)
	}
	return all
}

func (m *life) step() {
	switch p := m.rng.IntN(100); {
	case p < 55:
		m.append()
	case p < 90:
		m.read()
	case p < 97:
		m.spool.die()
		m.spool = open(m.t, m.dir)
	default:
		m.tear()
	}
}

func (m *life) append() {
	n, padding := 1+m.rng.IntN(20), m.rng.IntN(3000)
	b := payload(m.written, n, padding)
	if err := m.spool.Append(b, n); err != nil {
		require.ErrorIs(m.t, err, ErrFull)
		return
	}
	m.blocks = append(m.blocks, numbers(b, n))
	m.written += uint64(n)
}

func (m *life) read() {
	b, n, err := m.spool.Peek()
	if len(m.blocks) == 0 {
		require.ErrorIs(m.t, err, ErrEmpty)
		return
	}
	require.NoError(m.t, err)
	require.Equal(m.t, m.blocks[0], numbers(b, n))
	if m.rng.IntN(10) == 0 {
		return // the receiver does not answer
	}
	require.NoError(m.t, m.spool.Done())
	m.blocks = m.blocks[1:]
}

// tear kills the spool's process in the middle of Append.
func (m *life) tear() {
	var path string
	if n := len(m.spool.segments); n > 0 && m.spool.tail != nil {
		path = m.spool.segments[n-1].path(m.dir)
	}
	m.spool.die()
	if path != "" {
		b := payload(m.written, 3, 100)
		header := make([]byte, blockHeader)
		block{length: uint32(len(b)), records: 3}.put(header)
		whole := append(header, b...)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(m.t, err)
		_, err = f.Write(whole[:1+m.rng.IntN(len(whole)-1)])
		require.NoError(m.t, err)
		require.NoError(m.t, f.Close())
	}
	m.spool = open(m.t, m.dir)
}

// FuzzOpen opens folders with any content. Whatever is in there, the spool can be emptied, its books
// balance, and it works on.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir)
	for n := range uint64(3) {
		require.NoError(f, s.Append(payload(n, 1, 2), 1))
	}
	_, _, err := s.Peek()
	require.NoError(f, err)
	require.NoError(f, s.Done())
	segment, err := os.ReadFile(s.segments[0].path(dir))
	require.NoError(f, err)
	state, err := os.ReadFile(filepath.Join(dir, "state"))
	require.NoError(f, err)
	s.die()
	f.Add(state, segment, []byte{})
	f.Add([]byte{}, segment, segment[:80])
	f.Add(state[:50], segment[60:], []byte(blockMagic))
	f.Fuzz(func(t *testing.T, state, first, second []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"state": state,
			"0000000000000000.seg": first, "0000000000000001.seg": second} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		s, err := Open(Options{Dir: dir, Size: MinSize, Format: "test"})
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		empty(t, s)
		require.NoError(t, s.Append(payload(7, 1, 0), 1))
		require.Equal(t, []uint64{7}, drain(t, s))
		require.NoError(t, s.Close())
	})
}

func empty(t testing.TB, s *Spool) {
	for range 1000 {
		if _, _, err := s.Peek(); err == ErrEmpty {
			balanced(t, s.Ledger())
			return
		} else {
			require.NoError(t, err)
		}
		require.NoError(t, s.Done())
	}
	require.Fail(t, "the spool has no end")
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
