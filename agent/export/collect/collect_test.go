package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/file"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/flow"
)

// broken is a sink that fails while told to.
type broken struct {
	file.Sink
	fail  bool
	lines []byte
}

func (b *broken) Send(_ context.Context, lines []byte, _ int) error {
	if b.fail {
		return errors.New("no space left")
	}
	b.lines = append(b.lines, lines...)
	return nil
}

func message(t testing.TB, boot string, sequences ...uint64) *pbflow.Records {
	t.Helper()
	var b []byte
	for _, n := range sequences {
		b = pbflow.Append(b, flow.Report{Record: &flow.Record{Boot: boot, Sequence: n, Reason: flow.EndIdle}}, 0)
	}
	var m pbflow.Records
	require.NoError(t, proto.Unmarshal(b, &m))
	return &m
}

// TestNotWritten does not reply before the records are written, and takes them when they come again.
func TestNotWritten(t *testing.T) {
	sink := &broken{fail: true}
	c, err := New(Options{Sink: sink, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = c.Send(t.Context(), message(t, "b", 1, 2))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Zero(t, c.Stats())
	sink.fail = false
	for range 2 {
		_, err = c.Send(t.Context(), message(t, "b", 1, 2))
		require.NoError(t, err)
	}
	require.Equal(t, 2, bytes.Count(sink.lines, []byte("\n")))
	require.Equal(t, Stats{Records: 2, Repeats: 2}, c.Stats())
}

// TestForeign takes records of agents that do not number them: none is a repeat.
func TestForeign(t *testing.T) {
	sink := &broken{}
	c, err := New(Options{Sink: sink, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	m := &pbflow.Records{Entries: []*pbflow.Record{{Packets: 1}, {Packets: 1}}}
	for range 2 {
		_, err = c.Send(t.Context(), m)
		require.NoError(t, err)
	}
	require.Equal(t, Stats{Records: 4}, c.Stats())
}

func TestRepeatsForget(t *testing.T) {
	r := newRepeats(3)
	for _, boot := range []string{"a", "b", "c", "a", "d"} {
		r.note(id{stream{boot, "flow"}, 5})
	}
	require.Len(t, r.streams, 3)
	for boot, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		require.Equal(t, want, r.has(id{stream{boot, "flow"}, 5}), boot)
		require.False(t, r.has(id{stream{boot, "flow"}, 6}))
		require.False(t, r.has(id{stream{boot, "drop"}, 5}), "drops are numbered on their own")
	}
	r.note(id{stream{"a", "flow"}, 3})
	require.True(t, r.has(id{stream{"a", "flow"}, 5}), "numbers do not go back")
}

func TestNewRefuses(t *testing.T) {
	for want, o := range map[string]certs.Options{
		"tls: cert, key: a server needs them": {},
		"tls: ca: open /nowhere":              {CA: "/nowhere"},
	} {
		_, err := New(Options{TLS: &o})
		require.ErrorContains(t, err, want)
	}
}

func TestCommand(t *testing.T) {
	for want, args := range map[string][]string{
		"open the flow file":  {"--output", "/nowhere/x"},
		"listen: ":            {"--listen", "nowhere"},
		"tls: cert and key":   {"--tls-cert", "x"},
		"unknown command":     {"x"},
		"unknown flag: --tls": {"--tls"},
	} {
		c := Command()
		c.SetArgs(args)
		c.SilenceUsage, c.SilenceErrors = true, true
		require.ErrorContains(t, c.ExecuteContext(t.Context()), want)
	}
	// It ends in order when it is told to.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var log bytes.Buffer
	c := Command()
	out := filepath.Join(t.TempDir(), "flows")
	c.SetArgs([]string{"--listen", "localhost:0", "--output", out})
	c.SetErr(&log)
	require.NoError(t, c.ExecuteContext(ctx))
	require.FileExists(t, out)
	require.Contains(t, log.String(), "records=0")
	_, err := os.Stat(out)
	require.NoError(t, err, fmt.Sprint(log.String()))
}
