package monitor

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

type fake struct {
	status                control.Status
	err, unwell, notReady error
}

func (f *fake) Status() (control.Status, error) { return f.status, f.err }
func (f *fake) Healthy() error                  { return f.unwell }
func (f *fake) Ready() error                    { return f.notReady }

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// TestMetrics checks values, and that all packets have a fate.
func TestMetrics(t *testing.T) {
	n := func(packets uint64) bpf.Count { return bpf.Count{Packets: packets, Bytes: 100 * packets} }
	hook := func(name string, gone bool) control.HookCounters {
		return control.HookCounters{Hook: flow.Hook{Interface: name}, Mode: bpf.TCX, Gone: gone,
			Counters: bpf.Counters{Seen: n(10), Accounted: n(5), Observed: n(2),
				LeftOut: map[string]bpf.Count{"filter": n(2)}, Lost: map[string]bpf.Count{"not-ip": n(1)}}}
	}
	f := &fake{status: control.Status{
		Table: control.Table{Size: 100, IPv4: 40, IPv6: 1},
		Features: []control.Feature{{Name: "rtt", State: control.FeatureOn, Lost: 3},
			{Name: "nat", State: control.FeatureCannot}, {Name: "dns", State: control.FeatureOff}},
		Probes: []control.Probe{{Name: "iterator"}},
		Counters: control.Counters{Hooks: []control.HookCounters{hook("a", false), hook("b", true)},
			NoHook: n(4), Reported: n(7),
			Sinks: []export.Stats{{Name: "s", Failing: true, Taken: export.Count{Records: 9},
				Sent: export.Count{Records: 6, Bytes: 60}, Held: export.Count{Records: 1, Bytes: 8},
				Dropped: map[string]export.Count{export.DroppedFull: {Records: 2}}}}},
	}}
	f.status.Sweeps.Add(2*time.Millisecond, time.Now(), errors.New("no"))
	code, text := get(t, Handler(f), "/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, line := range strings.Split(`weir_seen_packets_total 24
weir_seen_bytes_total 2400
weir_accounted_packets_total 10
weir_observed_packets_total 4
weir_left_out_packets_total{reason="filter"} 4
weir_left_out_packets_total{reason="sampling"} 0
weir_lost_packets_total{reason="not-ip"} 2
weir_lost_packets_total{reason="no-hook"} 4
weir_lost_bytes_total{reason="table-full"} 0
weir_reported_packets_total 7
weir_hooks{mode="tcx"} 1
weir_hooks{mode="tc"} 0
weir_table_entries{family="ipv4"} 40
weir_table_size 100
weir_sweep_seconds_bucket{le="0.001"} 0
weir_sweep_seconds_bucket{le="0.003"} 1
weir_sweep_seconds_sum 0.002
weir_sweeps_failed_total 1
weir_sink_failing{sink="s"} 1
weir_sink_taken_records_total{sink="s"} 9
weir_sink_dropped_records_total{reason="queue-full",sink="s"} 2
weir_sink_dropped_records_total{reason="rejected",sink="s"} 0
weir_feature_on{feature="rtt"} 1
weir_feature_on{feature="nat"} 0
weir_feature_lost_total{feature="rtt"} 3
weir_kernel_has{probe="iterator"} 0
weir_healthy 1`, "\n") {
		require.Contains(t, text, "\n"+line+"\n")
	}
	require.NotContains(t, text, `feature="dns"`)
	for _, m := range Metrics() {
		require.Contains(t, text, "# HELP "+m.Name+" ", "each is collected")
	}
	problems, err := testutil.CollectAndLint(newCollector(f))
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestSeriesAreBounded checks that interfaces and reasons that nobody knows add no series.
func TestSeriesAreBounded(t *testing.T) {
	f := &fake{}
	before := testutil.CollectAndCount(newCollector(f))
	for _, name := range []string{"a", "b", "c"} {
		f.status.Hooks = append(f.status.Hooks, control.HookCounters{Hook: flow.Hook{Interface: name},
			Mode: bpf.TC, Counters: bpf.Counters{Lost: map[string]bpf.Count{"not-ip": {Packets: 1}}}})
	}
	require.Equal(t, before, testutil.CollectAndCount(newCollector(f)))
}

func TestStatusFails(t *testing.T) {
	code, text := get(t, Handler(&fake{err: errors.New("the table is on fire")}), "/metrics")
	require.Equal(t, http.StatusInternalServerError, code)
	require.Contains(t, text, "the table is on fire")
}

func TestProbes(t *testing.T) {
	f := &fake{}
	for _, path := range []string{"/healthz", "/readyz"} {
		code, text := get(t, Handler(f), path)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "ok\n", text)
	}
	f.unwell, f.notReady = errors.New("it hangs"), errors.New("it starts")
	code, text := get(t, Handler(f), "/healthz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "it hangs\n", text)
	code, text = get(t, Handler(f), "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "it starts\n", text)
	for _, path := range []string{"/", "/debug/pprof/"} {
		code, _ = get(t, Handler(f), path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
}

func TestServe(t *testing.T) {
	stop, err := Serve(Options{Address: "127.0.0.1:0"}, &fake{})
	require.NoError(t, err)
	stop()
	_, err = Serve(Options{Address: "127.0.0.1:0", TLS: &certs.Options{Cert: filepath.Join(t.TempDir(), "no"), Key: "no"}}, &fake{})
	require.ErrorContains(t, err, "monitor.tls: ")
	_, err = Serve(Options{Address: "192.0.2.1:1"}, &fake{})
	require.ErrorContains(t, err, "monitor: ")
}

func TestOptionsCheck(t *testing.T) {
	for want, o := range map[string]Options{
		"tls: nobody listens":       {TLS: &certs.Options{}},
		`address: "9464"; want`:     {Address: "9464"},
		"tls.cert: is missing":      {Address: ":1", TLS: &certs.Options{}},
		"tls.cert and key: one wit": {Address: ":1", TLS: &certs.Options{Cert: "c"}},
	} {
		require.ErrorContains(t, o.Check(), want)
	}
	require.NoError(t, (&Options{}).Check())
	require.NoError(t, (&Options{Address: "[::1]:9464"}).Check())
}
