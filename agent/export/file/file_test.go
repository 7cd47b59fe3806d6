package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/kerneltest"
)

var _ export.Sink = (*Sink)(nil)

// sequences reads lines, which must be whole.
func sequences(t testing.TB, data []byte) []uint64 {
	t.Helper()
	var all []uint64
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var r flow.Record
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, r.Sequence)
	}
}

func (s *Sink) send(sequences ...uint64) error {
	var b []byte
	for _, n := range sequences {
		b = s.Append(b, flow.Report{Record: &flow.Record{Sequence: n, Reason: flow.EndIdle}}, 0)
	}
	return s.Send(context.Background(), b, len(sequences))
}

func opened(t testing.TB, opts Options) *Sink {
	t.Helper()
	s, err := Open(opts)
	require.NoError(t, err)
	return s
}

func read(t testing.TB, path string) []uint64 {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.Count(string(data), "\n"), len(sequences(t, data)), "one line each")
	return sequences(t, data)
}

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	for n := range uint64(2) {
		s := opened(t, Options{Path: path})
		require.NoError(t, s.send(n))
		require.NoError(t, s.Close())
	}
	require.Equal(t, []uint64{0, 1}, read(t, path))
}

// TestAppendToATornLine opens what an agent has left that was killed while it wrote.
func TestAppendToATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"boot":"a`), 0o600))
	s := opened(t, Options{Path: path})
	require.NoError(t, s.send(1))
	require.NoError(t, s.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	torn, rest, _ := strings.Cut(string(data), "\n")
	require.Equal(t, `{"boot":"a`, torn)
	require.Equal(t, []uint64{1}, sequences(t, []byte(rest)))
}

func TestOpenFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "flows.jsonl")
	_, err := Open(Options{Path: path})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "open the flow file: open "+path)
}

func TestStandardOutput(t *testing.T) {
	s := opened(t, Options{Path: "-"})
	require.NoError(t, s.Close())
	_, err := os.Stdout.Stat()
	require.NoError(t, err, "standard output stays open")
}

func TestRotate(t *testing.T) {
	for keep := range 4 {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "flows.jsonl")
			s := opened(t, Options{Path: path, MaxSize: 400, Keep: keep}) // two lines
			for n := range uint64(9) {
				require.NoError(t, s.send(n))
			}
			require.NoError(t, s.Close())
			all, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, all, keep+1)
			require.Equal(t, []uint64{8}, read(t, path))
			for i := range keep {
				last := uint64(7 - 2*i)
				require.Equal(t, []uint64{last - 1, last}, read(t, s.name(i+1)))
			}
		})
	}
}

// TestLargerThanAFile sends more at once than a file may have: it is not split, and not lost.
func TestLargerThanAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	s := opened(t, Options{Path: path, MaxSize: 10, Keep: 1})
	require.NoError(t, s.send(1, 2))
	require.NoError(t, s.send(3))
	require.Equal(t, []uint64{1, 2}, read(t, path+".1"))
	require.Equal(t, []uint64{3}, read(t, path))
	require.NoError(t, s.Close())
}

// TestMovedAway lets others rename and remove the file, as log rotation does.
func TestMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	s := opened(t, Options{Path: path})
	require.NoError(t, s.send(1))
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, s.send(2))
	require.Equal(t, []uint64{1}, read(t, path+".old"))
	require.Equal(t, []uint64{2}, read(t, path))
	require.NoError(t, os.Remove(path))
	require.NoError(t, s.send(3))
	require.Equal(t, []uint64{3}, read(t, path))
	require.NoError(t, s.Close())
}

// TestFolderIsAway removes the folder for a while.
func TestFolderIsAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "flows.jsonl")
	s := opened(t, Options{Path: path})
	require.NoError(t, os.RemoveAll(dir))
	for range 2 {
		require.ErrorIs(t, s.send(1), os.ErrNotExist)
	}
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, s.send(1))
	require.Equal(t, []uint64{1}, read(t, path))
	require.NoError(t, s.Close())
}

// TestDiskFull fills a file system in the middle of a line, and makes room again.
func TestDiskFull(t *testing.T) {
	kerneltest.NeedRoot(t)
	mount := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", mount, "tmpfs", 0, "size=32k"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
	path, ballast := filepath.Join(mount, "flows.jsonl"), filepath.Join(mount, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 20<<10), 0o600))
	s := opened(t, Options{Path: path})
	var want []uint64
	var err error
	for n := uint64(0); ; n++ {
		if err = s.send(n); err != nil {
			break
		}
		want = append(want, n)
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, "write flow records")
	require.Equal(t, want, read(t, path), "the line that did not fit is cut off")
	require.NoError(t, os.Remove(ballast))
	again := uint64(len(want))
	require.NoError(t, s.send(again))
	require.Equal(t, append(want, again), read(t, path))
	require.NoError(t, s.Close())
}

// TestPipe writes to a reader that goes away for a while: a line that was cut off stays alone.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer reader.Close()
	s := opened(t, Options{Path: path})
	s.torn = true // as a write leaves it that was cut off
	require.NoError(t, s.send(1))
	buf := make([]byte, 1000)
	n, err := reader.Read(buf)
	require.NoError(t, err)
	require.Equal(t, byte('\n'), buf[0])
	if n == 1 {
		n, err = reader.Read(buf)
		require.NoError(t, err)
	}
	require.Equal(t, []uint64{1}, sequences(t, buf[:n]))
	require.NoError(t, s.Close())
}

func TestNoAllocation(t *testing.T) {
	s := opened(t, Options{Path: filepath.Join(t.TempDir(), "flows.jsonl")})
	b := make([]byte, 0, 1<<16)
	r := flow.Record{Boot: "b", State: "established", Reason: flow.EndActive}
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Append(b, flow.Report{Record: &r}, 0) }))
	require.NoError(t, s.Close())
}
