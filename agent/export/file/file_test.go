package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

func lines(t *testing.T, data []byte) []uint64 {
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

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	for seq := range uint64(2) {
		s, err := Open(path)
		require.NoError(t, err)
		require.NoError(t, s.Write(&flow.Record{Sequence: seq, Reason: flow.EndIdle}))
		require.NoError(t, s.Close())
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, []uint64{0, 1}, lines(t, data))
	require.Equal(t, 2, strings.Count(string(data), "\n"), "one line each")
}

// TestAppendToATornLine opens what an agent has left that was killed while it wrote.
func TestAppendToATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"boot":"a`), 0o600))
	s, err := Open(path)
	require.NoError(t, err)
	require.NoError(t, s.Write(&flow.Record{Sequence: 1, Reason: flow.EndIdle}))
	require.NoError(t, s.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	torn, rest, _ := strings.Cut(string(data), "\n")
	require.Equal(t, `{"boot":"a`, torn)
	require.Equal(t, []uint64{1}, lines(t, []byte(rest)))
}

func TestFlush(t *testing.T) {
	var out bytes.Buffer
	s := New(&out)
	require.NoError(t, s.Write(&flow.Record{Sequence: 7, Reason: flow.EndIdle}))
	require.Zero(t, out.Len(), "buffered")
	require.NoError(t, s.Flush())
	require.Equal(t, []uint64{7}, lines(t, out.Bytes()))
	require.NoError(t, s.Close())
}

func TestOpenFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "flows.jsonl")
	_, err := Open(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "open the flow file: open "+path)
}

func TestStandardOutput(t *testing.T) {
	s, err := Open("-")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = os.Stdout.Stat()
	require.NoError(t, err, "standard output stays open")
}

// disk is a writer that is full for a while: it takes `room` bytes and refuses the rest.
type disk struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestFailingWriter(t *testing.T) {
	d := &disk{}
	s := New(d)
	require.NoError(t, s.Write(&flow.Record{Sequence: 1}))
	err := s.Flush()
	require.ErrorIs(t, err, errFull)
	require.ErrorContains(t, err, "flush the flow records")

	// More than the buffer holds: the error shows before Flush.
	s = New(&disk{})
	for err = nil; err == nil; err = s.Write(&flow.Record{}) {
	}
	require.ErrorIs(t, err, errFull)
	require.ErrorContains(t, err, "write a flow record")
	require.ErrorIs(t, New(&disk{}).closeAfter(t), errFull)
}

func (s *Sink) closeAfter(t *testing.T) error {
	t.Helper()
	require.NoError(t, s.Write(&flow.Record{}))
	return s.Close()
}

// TestRecovers fills the disk in the middle of a record, and makes room again. What was not
// flushed is written again by the agent; what follows must be whole lines.
func TestRecovers(t *testing.T) {
	d := &disk{room: 10}
	s := New(d)
	require.NoError(t, s.Write(&flow.Record{Sequence: 1}))
	require.ErrorIs(t, s.Flush(), errFull)
	d.room = 1 << 20
	require.NoError(t, s.Write(&flow.Record{Sequence: 2, Reason: flow.EndIdle}))
	require.NoError(t, s.Flush())
	torn, rest, _ := strings.Cut(d.String(), "\n")
	require.Len(t, torn, 10)
	require.Equal(t, []uint64{2}, lines(t, []byte(rest)))
}
