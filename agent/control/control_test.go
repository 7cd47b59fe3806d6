package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/nat"
	"github.com/weirnet/weir/bpf"
)

// fake is an agent that answers what it was told to.
type fake struct {
	connections  []conntrack.Entry
	translations []Translation
	counters     Counters
	status       Status
	err          error
	sweeps       int
	now          int64
	entries      int
	filter       conntrack.Filter
	collection   conntrack.Collection
	collected    conntrack.Collected
	stats        conntrack.Stats
	ages         bool
	zones        []Zone
	observers    chan func(conntrack.Event)
}

func (f *fake) Select(by conntrack.Filter) ([]conntrack.Entry, error) {
	f.filter = by
	return f.connections, f.err
}
func (f *fake) Collect(c conntrack.Collection) (conntrack.Collected, error) {
	f.collection = c
	return f.collected, f.err
}
func (f *fake) TableStats(ages bool) (conntrack.Stats, error) { f.ages = ages; return f.stats, f.err }
func (f *fake) Zones() ([]Zone, error)                        { return f.zones, f.err }
func (f *fake) Observe(fn func(conntrack.Event)) func() {
	f.observers <- fn
	return func() { close(f.observers) }
}
func (f *fake) Translations() ([]Translation, error) { return f.translations, f.err }
func (f *fake) Counters() (Counters, error)          { return f.counters, f.err }
func (f *fake) Status() (Status, error)              { return f.status, f.err }
func (f *fake) Sweep() error                         { f.sweeps++; return f.err }
func (f *fake) Resize(entries int) error             { f.entries = entries; return f.err }
func (f *fake) SetClock(ns int64) error              { f.now = ns; return f.err }

func serve(t *testing.T, a Agent) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sub", "control.sock")
	stop, err := Serve(path, a)
	require.NoError(t, err)
	t.Cleanup(stop)
	return path
}

func TestRoundTrip(t *testing.T) {
	hook := flow.Hook{Namespace: "ns", Interface: "eth0", Direction: flow.Ingress}
	count := bpf.Count{Packets: 1, Bytes: 2}
	a := &fake{
		connections: []conntrack.Entry{{Flow: 1, Src: netip.MustParseAddr("10.0.0.1"),
			Dst: netip.MustParseAddr("10.0.0.2"), State: conntrack.StateClosed, Known: true,
			Idle:    time.Second,
			Forward: conntrack.Leg{Packets: 1, Flags: flow.SYN, Seen: []flow.Hook{hook}}}},
		counters: Counters{Reported: count, NoHook: count, Hooks: []HookCounters{{Hook: hook, Mode: "tcx",
			Counters: bpf.Counters{Seen: count, Lost: map[string]bpf.Count{"not-ip": count}}}},
			NAT: &nat.Stats{Translations: 1, Lost: 2, Purges: nat.Purge{EgressAlive: 3}}},
		translations: []Translation{{Namespace: "ns", Protocol: 17,
			Before: flow.NAT{ID: "a", Flow: 7, Src: netip.MustParseAddr("10.0.0.1"), SrcPort: 53},
			After:  flow.NAT{ID: "a"}}},
		status: Status{Boot: "b", PID: 7, Since: time.Unix(1e9, 0).UTC(), Table: Table{Size: 9, IPv4: 1},
			Sweeps:   Sweeps{Done: 2, Failed: 1, Error: "no"},
			Features: []Feature{{Name: "nat", State: FeatureCannot, Reason: "why"}},
			Probes:   []Probe{{Name: "iterator", Consequence: "slow"}}},
	}
	path := serve(t, a)
	c, ctx := Dial(path), context.Background()

	connections, err := c.Connections(ctx)
	require.NoError(t, err)
	require.Equal(t, a.connections, connections)
	counters, err := c.Counters(ctx)
	require.NoError(t, err)
	require.Equal(t, a.counters, counters)
	translations, err := c.Translations(ctx)
	require.NoError(t, err)
	require.Equal(t, a.translations, translations)
	status, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, a.status, status)
	require.NoError(t, c.Sweep(ctx))
	require.Equal(t, 1, a.sweeps)
	require.NoError(t, c.Resize(ctx, 4096))
	require.Equal(t, 4096, a.entries)
	require.NoError(t, c.SetClock(ctx, 77))
	require.Equal(t, int64(77), a.now)

	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm(), "nobody else may open it")
}

func TestErrorsPassThrough(t *testing.T) {
	c, ctx := Dial(serve(t, &fake{err: errors.New("the table is on fire")})), context.Background()
	_, connections := c.Connections(ctx)
	_, counters := c.Counters(ctx)
	_, translations := c.Translations(ctx)
	_, status := c.Status(ctx)
	_, collected := c.Collect(ctx, conntrack.Collection{})
	_, stats := c.TableStats(ctx, true)
	_, zones := c.Zones(ctx)
	selected := c.Select(ctx, conntrack.Filter{}, nil)
	for _, err := range []error{selected, collected, stats, zones, connections, counters, translations, status, c.Sweep(ctx), c.Resize(ctx, 1), c.SetClock(ctx, 1)} {
		require.EqualError(t, err, "the agent answers: the table is on fire")
	}
}

func TestBadRequests(t *testing.T) {
	a := &fake{now: 5}
	c := Dial(serve(t, a))
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"no JSON", "POST", "/v1/clock", "{", http.StatusBadRequest, `want {"now_ns": N}`},
		{"no number", "POST", "/v1/clock", `{"now_ns": "x"}`, http.StatusBadRequest,
			`want {"now_ns": N}`},
		{"too long", "POST", "/v1/clock", strings.Repeat(" ", maxOrder+1), http.StatusBadRequest, "too large"},
		{"empty", "POST", "/v1/clock", "", http.StatusBadRequest, `want {"now_ns": N}`},
		{"other key", "POST", "/v1/clock", `{"now": 3}`, http.StatusBadRequest, `"now"`},
		{"no size", "POST", "/v1/resize", `{"entries": "many"}`, http.StatusBadRequest, `want {"entries": N}`},
		{"method", "GET", "/v1/sweep", "", http.StatusMethodNotAllowed, "Not Allowed"},
		{"path", "GET", "/v2/sweep", "", http.StatusNotFound, "not found"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequest(test.method, "http://weir"+test.path, strings.NewReader(test.body))
			require.NoError(t, err)
			resp, err := c.http.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, test.status, resp.StatusCode, string(text))
			require.Contains(t, string(text), test.want)
		})
	}
	require.Equal(t, int64(5), a.now, "nothing was changed")
}

func TestProfiles(t *testing.T) {
	c := Dial(serve(t, &fake{}))
	for path, want := range map[string]string{"": "goroutine", "goroutine?debug=1": "goroutine profile", "cmdline": os.Args[0]} {
		resp, err := c.http.Get("http://weir/debug/pprof/" + path)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, string(text), want, path)
	}
}

func TestSweepsAdd(t *testing.T) {
	var s Sweeps
	s.Add(2*time.Millisecond, time.Unix(1, 0), errors.New("no"))
	require.Equal(t, Sweeps{Done: 1, Failed: 1, Total: 2 * time.Millisecond, Last: 2 * time.Millisecond,
		LastEnd: time.Unix(1, 0), Error: "no", Within: [9]uint64{0, 1, 1, 1, 1, 1, 1, 1, 1}}, s)
	s.Add(time.Minute, time.Unix(2, 0), nil)
	require.Equal(t, Sweeps{Done: 2, Failed: 1, Total: time.Minute + 2*time.Millisecond, Last: time.Minute,
		LastEnd: time.Unix(2, 0), Within: [9]uint64{0, 1, 1, 1, 1, 1, 1, 1, 1}}, s, "none holds it")
}

func TestNobodyAnswers(t *testing.T) {
	_, err := Dial(filepath.Join(t.TempDir(), "none")).Connections(context.Background())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "ask the agent")
}

func TestSocketIsTaken(t *testing.T) {
	path := serve(t, &fake{})
	require.True(t, Answers(path))
	_, err := Serve(path, &fake{})
	require.ErrorIs(t, err, ErrTaken)
	require.ErrorContains(t, err, path)
	_, err = Dial(path).Counters(context.Background())
	require.NoError(t, err, "the first one still answers")
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false) // as when the agent is killed
	require.NoError(t, l.Close())
	require.False(t, Answers(path))

	stop, err := Serve(path, &fake{})
	require.NoError(t, err)
	_, err = Dial(path).Counters(context.Background())
	require.NoError(t, err)
	stop()
	require.NoFileExists(t, path)
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(path, []byte("data"), 0o600))
	_, err := Serve(path, &fake{})
	require.ErrorContains(t, err, "not a socket")
	require.FileExists(t, path)
}

// FuzzRequest sends any request to an agent: it is answered, and changes nothing unless it is understood.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/v1/resize", []byte(`{"entries": 9}`))
	f.Add("POST", "/v1/clock", []byte(`{"now_ns": 9}`))
	f.Add("POST", "/v1/sweep", []byte(nil))
	f.Add("GET", "/v1/status", []byte(`{`))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		to := &url.URL{Scheme: "http", Host: "weir", Path: path}
		if strings.HasPrefix(path, "/debug/") { // profiles take their time
			return
		}
		r, err := http.NewRequestWithContext(t.Context(), method, to.String(), bytes.NewReader(body))
		if err != nil {
			return
		}
		a, w := &fake{}, httptest.NewRecorder()
		handler(a).ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			require.Equal(t, &fake{}, a, "refused, and carried out all the same")
		}
	})
}
