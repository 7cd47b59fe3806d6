package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

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
