package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestDedupe has two agents tell of the same packets.
func TestDedupe(t *testing.T) {
	for _, mark := range []bool{false, true} {
		sink := &broken{}
		now := time.Unix(1, 0)
		c, err := New(Options{Sink: sink, Log: slog.New(slog.DiscardHandler), Dedupe: time.Minute, JustMark: mark,
			Clock: func() time.Time { return now }})
		require.NoError(t, err)
		send := func(agent string, sequence uint64) error {
			r := flow.Record{Boot: agent, Sequence: sequence, Packets: 1, Reason: flow.EndIdle, AgentIP: netip.MustParseAddr(agent)}
			drop := flow.Drop{Boot: agent, Sequence: sequence, Reason: "x"}
			b := pbflow.Append(pbflow.Append(nil, flow.Report{Record: &r}, 0), flow.Report{Drop: &drop}, 0)
			var m pbflow.Records
			require.NoError(t, proto.Unmarshal(b, &m))
			_, err := c.Send(t.Context(), &m)
			return err
		}
		require.NoError(t, send("192.0.2.1", 1))
		require.NoError(t, send("192.0.2.2", 1))
		sink.fail = true
		require.Error(t, send("192.0.2.1", 2))
		sink.fail = false
		require.NoError(t, send("192.0.2.1", 2), "what was not written comes again, and is none")
		require.NoError(t, send("192.0.2.1", 2))
		now = now.Add(time.Hour)
		require.NoError(t, send("192.0.2.2", 2))
		text := string(sink.lines)
		require.Equal(t, 4, strings.Count(text, `"drop":`), "drops are each agent's own")
		if mark {
			require.Equal(t, Stats{Records: 8, Repeats: 2, Duplicates: 1}, c.Stats())
			require.Equal(t, 1, strings.Count(text, `"agent_ip":"192.0.2.2","flow":0,"src":"","dst":"","src_port":0,"dst_port":0,"protocol":0,"packets":1,`+
				`"bytes":0,"start_ns":0,"end_ns":0,"role":"unknown","state":"","end":"idle","seen":null,"duplicate":true`))
			require.Equal(t, 1, strings.Count(text, "duplicate"))
			continue
		}
		require.Equal(t, Stats{Records: 7, Repeats: 2, Duplicates: 1}, c.Stats())
		require.Equal(t, 1, strings.Count(text, `"agent_ip":"192.0.2.2"`))
	}
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
		"--dedupe: 0s; want":  {"--dedupe-mark"},
		"--dedupe: -1s; want": {"--dedupe", "-1s"},
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
