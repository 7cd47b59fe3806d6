package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/bpf"
)

// freePort is an address that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// TestMonitored runs an agent, and asks for what it has counted.
func TestMonitored(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	cfg.Monitor.Address = freePort(t)
	cfg.Features = []string{"rtt"}
	a, err := New(cfg, Options{})
	require.NoError(t, err)
	stop := run(t, a)
	get := func(path string) string {
		resp, err := http.Get("http://" + cfg.Monitor.Address + path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	eventually(t, "readiness", func() bool { return get("/readyz") == "ok\n" })
	require.Equal(t, "ok\n", get("/healthz"))
	p.send(t, p.udp(t, 1000, 2000, 10), p.udp(t, 1000, 2000, 10), []byte("not an Ethernet header and not IP at all"))
	eventually(t, "a sweep", func() bool {
		return bytes.Contains([]byte(get("/metrics")), []byte("\nweir_reported_packets_total 2\n"))
	})
	text := get("/metrics")
	for _, line := range []string{"weir_seen_packets_total 3", "weir_accounted_packets_total 2",
		`weir_lost_packets_total{reason="not-ip"} 1`, `weir_table_entries{family="ipv4"} 1`,
		`weir_sink_failing{sink="output"} 0`, "weir_healthy 1"} {
		require.Contains(t, text, "\n"+line+"\n")
	}
	s, err := control.Dial(cfg.Control).Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, control.Table{Size: cfg.Table.Size, IPv4: 1}, s.Table)
	require.Len(t, s.Hooks, 2)
	require.Contains(t, []string{bpf.TCX, bpf.TC}, s.Hooks[0].Mode)
	require.Len(t, s.Features, len(Features()))
	require.Empty(t, s.Trouble)
	require.NoError(t, stop())
	require.ErrorContains(t, a.Ready(), "ends")
	_, err = net.Dial("tcp", cfg.Monitor.Address)
	require.Error(t, err, "nobody listens any more")
}

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	log := (&Log{Format: logJSON, Level: slog.LevelWarn}).logger(&out, &level)
	log.Info("left out")
	log.Warn("told", "n", 1)
	var line struct {
		Level, Msg string
		N          int
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &line), out.String())
	require.Equal(t, "told", line.Msg)
	out.Reset()
	level.Set(slog.LevelInfo)
	log.Info("now it is told")
	require.NotEmpty(t, out.String())
	require.Error(t, (&Log{Format: "xml"}).check())
}
