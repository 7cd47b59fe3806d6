package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/clickhouse"
	"github.com/weirnet/weir/agent/export/grpc"
	"github.com/weirnet/weir/agent/export/ipfix"
	"github.com/weirnet/weir/agent/export/kafka"
	"github.com/weirnet/weir/agent/export/prometheus"
	"github.com/weirnet/weir/agent/monitor"
	"github.com/weirnet/weir/bpf"
)

const smallest = "interfaces: [{name: eth0}]\n"

func TestParseConfigDefaults(t *testing.T) {
	c, err := ParseConfig("weir.yaml", []byte(smallest))
	require.NoError(t, err)
	want := DefaultConfig()
	want.Interfaces = []Interface{{Name: "eth0"}}
	require.Equal(t, want, c)

	o, err := c.DatapathOptions()
	require.NoError(t, err)
	require.Equal(t, 65536, o.Table)
	require.True(t, o.Overflow)
	require.Equal(t, time.Second, o.Takeover)
	for _, s := range conntrack.States()[1:] {
		require.Positive(t, o.Lifetimes[s], "default lifetime of %s", s)
	}
}

func TestParseConfigReadsAll(t *testing.T) {
	c, err := ParseConfig("weir.yaml", []byte(`
interfaces:
  - {name: eth0, namespace: blue, as: host, zone: 7, hook: tc}
pin: /sys/fs/bpf/weir
table: {size: 10, full: reject}
lifetimes: {closed: 1s, established: 2h4m}
takeover: 2s
mid_stream: false
tunnels: [gre, vxlan]
sample: 100
filters: {default: reject, rules: [{action: accept, protocol: tcp, either: true}]}
fast_path: {slots: 64, after: 3}
interval: 3s
pace: {policy: yield, max: 4s}
active: 4s
features: [dns]
dns: {ports: [53, 5353], timeout: 1s}
output: flows.jsonl
sinks:
  - file: {path: "-", max_size: 64MiB, keep: 3}
    queue: 2097152
  - name: primary
    grpc: {address: "collector:2055", reconnect: 5m, tls: {ca: a, cert: b, key: c, server_name: d}}
    spool: {path: /var/lib/weir/primary, size: 2GiB}
    batch: 10
    deadline: 3s
    retry: {min: 1s, max: 2s}
  - ipfix: {address: "collector:4739", transport: tcp, domain: 7, biflow: true, max_message: 1000, tls: {}}
  - kafka:
      {brokers: ["a:9092", "b:9092"], topic: flows, format: json, compression: zstd, acks: leader, tls: {},
       sasl: {mechanism: plain, user: u, password_file: p}}
  - prometheus: {listen: "127.0.0.1:9102", labels: [role, class], max_series: 10}
  - clickhouse: {address: "a:9000", database: net, user: u, password_file: p, tls: {}, compression: zstd,
      fixed_tables: true, settings: {async_insert: 1}}
stop_timeout: 7s
control: /run/weir/control.sock
labels: {node: n1, wait: 2s}
monitor: {address: "localhost:9464", tls: {cert: c, key: k}}
log: {format: json, level: warn}
clock: {virtual: true, start: 5}
`))
	require.NoError(t, err)
	require.Equal(t, Config{
		Interfaces: []Interface{{Name: "eth0", Namespace: "blue", As: "host", Zone: 7, Hook: bpf.TC}},
		Pin:        "/sys/fs/bpf/weir", Table: Table{Size: 10, Full: "reject"},
		Lifetimes: map[string]time.Duration{"closed": time.Second, "established": 124 * time.Minute},
		Tunnels:   []string{"gre", "vxlan"}, Takeover: 2 * time.Second, Interval: 3 * time.Second, Active: 4 * time.Second,
		Pace:     Pace{Policy: "yield", Max: 4 * time.Second},
		FastPath: FastPath{Slots: 64, After: 3},
		Sample:   100, Filters: Filters{Default: "reject",
			Rules: []FilterRule{{Action: "accept", Protocol: "tcp", Either: true}}},
		Features: []string{"dns"}, DNS: DNS{Ports: []uint16{53, 5353}, Timeout: time.Second},
		Labels: Labels{Node: "n1", Wait: 2 * time.Second},
		Output: "flows.jsonl", StopTimeout: 7 * time.Second,
		Sinks: []SinkConfig{
			{File: &FileConfig{Path: "-", MaxSize: 64 << 20, Keep: 3}, Queue: 2 << 20},
			{Name: "primary", GRPC: &grpc.Options{Address: "collector:2055", Reconnect: 5 * time.Minute,
				TLS: &certs.Options{CA: "a", Cert: "b", Key: "c", ServerName: "d"}},
				Spool: SpoolConfig{Path: "/var/lib/weir/primary", Size: 2 << 30}, Batch: 10,
				Deadline: 3 * time.Second, Retry: RetryConfig{Min: time.Second, Max: 2 * time.Second}},
			{IPFIX: &ipfix.Options{Address: "collector:4739", Transport: "tcp", Domain: 7, Biflow: true,
				MaxMessage: 1000, TLS: &certs.Options{}}},
			{Kafka: &kafka.Options{Brokers: []string{"a:9092", "b:9092"}, Topic: "flows", Format: "json",
				Compression: "zstd", Acks: "leader", TLS: &certs.Options{},
				SASL: &kafka.SASL{Mechanism: "plain", User: "u", PasswordFile: "p"}}},
			{Prometheus: &prometheus.Options{Listen: "127.0.0.1:9102", Labels: []string{"role", "class"}, MaxSeries: 10}},
			{ClickHouse: &clickhouse.Options{Address: "a:9000", Database: "net", User: "u", PasswordFile: "p",
				TLS: &certs.Options{}, Compression: "zstd", FixedTables: true, Settings: map[string]string{"async_insert": "1"}}},
		},
		Control: "/run/weir/control.sock", Clock: Clock{Virtual: true, Start: 5},
		Monitor: monitor.Options{Address: "localhost:9464", TLS: &certs.Options{Cert: "c", Key: "k"}},
		Log:     Log{Format: "json", Level: slog.LevelWarn},
	}, c)
	o, err := c.DatapathOptions()
	require.NoError(t, err)
	require.Equal(t, time.Second, o.Lifetimes[conntrack.StateClosed])
	require.Equal(t, 10*time.Second, o.Lifetimes[conntrack.StateReset], "others keep their default")
	require.False(t, o.Overflow)
}

func TestParseConfigRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // parts of the message
	}{
		{"empty", "", []string{"the file is empty", "`interfaces`"}},
		{"blank", " \n\t\n", []string{"the file is empty", "`interfaces`"}},
		{"comments", "# nothing\n", []string{"interfaces: at least one is needed", "eth0"}},
		{"no interface", "table: {size: 1}", []string{"interfaces: at least one is needed"}},
		{"no name", "interfaces: [{zone: 1}]", []string{"interfaces[0].name", "missing"}},
		{"unknown key", smallest + "tabel: {size: 1}", []string{":2:1: ", `"tabel"`}},
		{"unknown key inside", "interfaces:\n  - name: eth0\n    zome: 1\n",
			[]string{":3:5: ", `"zome"`}},
		{"key given twice", smallest + smallest, []string{":2:1: ", `"interfaces"`}},
		{"not YAML", "interfaces: [", []string{":1:13: "}},
		{"not a mapping", "- eth0", []string{":1:1: "}},
		{"wrong type", smallest + "table: {size: many}", []string{":2:15: ", "int"}},
		{"zone too large", "interfaces: [{name: a, zone: 65536}]", []string{":1:30: ", "65536"}},
		{"hook", "interfaces: [{name: a}, {name: b, hook: xdp}]",
			[]string{"interfaces[1].hook", `"xdp"`, "tcx, tc or netkit"}},
		{"table too small", smallest + "table: {size: 0}", []string{"table.size: 0", "1 to 16777216"}},
		{"table too large", smallest + "table: {size: 16777217}",
			[]string{"table.size", "1 to 16777216"}},
		{"full", smallest + "table: {full: drop}",
			[]string{"table.full", `"drop"`, "overflow, reject or evict"}},
		{"slots", smallest + "fast_path: {slots: 100}",
			[]string{"fast_path.slots: 100", "power of two from 2 to 1048576"}},
		{"slots after", smallest + "fast_path: {after: 0}", []string{"fast_path.after: 0", "at least 1"}},
		{"interval", smallest + "interval: 10ms", []string{"interval: 10ms", "interval >= 100ms"}},
		{"active", smallest + "active: 1s", []string{"active: 1s", "active >= interval"}},
		{"takeover", smallest + "takeover: 0s", []string{"takeover: 0s", "takeover > 0"}},
		{"clock", smallest + "clock: {start: 0}", []string{"clock.start: 0", "at least 1"}},
		{"lifetime of no state", smallest + "lifetimes: {opened: 1s}",
			[]string{"lifetimes.opened", "syn-sent", "replied"}},
		{"lifetime of none", smallest + "lifetimes: {none: 1s}",
			[]string{"lifetimes.none", "no such state"}},
		{"lifetime too short", smallest + "lifetimes: {closed: -1s}",
			[]string{"lifetimes.closed: -1s", "more than 0"}},
		{"duration without unit", smallest + "lifetimes: {closed: 10}",
			[]string{":2:21: closed: ", "10s"}},
		{"takeover without unit", smallest + "takeover: 1", []string{":2:11: takeover: ", "10s"}},
		{"no kind of sink", smallest + "sinks: [{name: a}]",
			[]string{"sinks[0]: want one of clickhouse, file, grpc, ipfix, kafka, prometheus; there are 0"}},
		{"two kinds of a sink", smallest + "sinks: [{file: {path: x}, grpc: {address: 'a:1'}}]",
			[]string{"sinks[0]: want one of", "there are 2"}},
		{"unknown kind of sink", smallest + "sinks: [{flie: {path: x}}]", []string{":2:10: ", `"flie"`}},
		{"sinks of one name", smallest + "sinks: [{file: {path: x}}, {file: {path: y}}]",
			[]string{`sinks: two are called "file"`}},
		{"sinks with one spool", smallest + "sinks: [{name: a, file: {path: x}, spool: {path: s}}, " +
			"{name: b, file: {path: y}, spool: {path: s}}]", []string{"two have the spool s"}},
		{"file without path", smallest + "sinks: [{file: {keep: 1}}]", []string{"sinks[0].file.path: is missing"}},
		{"files kept", smallest + "sinks: [{file: {path: x, keep: -1}}]", []string{"sinks[0].file.keep: -1"}},
		{"no size", smallest + "sinks: [{file: {path: x}, queue: 5parsecs}]",
			[]string{":2:34: queue: ", `"5parsecs" is no size`, "64MiB"}},
		{"size below 0", smallest + "sinks: [{file: {path: x}, queue: -5}]", []string{`"-5" is no size`}},
		{"size too large", smallest + "sinks: [{file: {path: x}, queue: 9999999999GiB}]",
			[]string{`"9999999999GiB" is no size`}},
		{"queue", smallest + "sinks: [{file: {path: x}, queue: 1KiB}]",
			[]string{"sinks[0].queue: 1024; want at least 1MiB"}},
		{"spool's size", smallest + "sinks: [{file: {path: x}, spool: {path: s, size: 1}}]",
			[]string{"sinks[0].spool.size: 1; want at least 1MiB"}},
		{"spool's path", smallest + "sinks: [{file: {path: x}, spool: {size: 1GiB}}]",
			[]string{"sinks[0].spool.path: is missing"}},
		{"batch", smallest + "sinks: [{file: {path: x}, batch: 100001}]",
			[]string{"sinks[0].batch: 100001; want 1 to 100000"}},
		{"deadline", smallest + "sinks: [{file: {path: x}, deadline: -1s}]", []string{"sinks[0].deadline: -1s"}},
		{"retry", smallest + "sinks: [{file: {path: x}, retry: {min: 2s, max: 1s}}]",
			[]string{"sinks[0].retry: min 2s, max 1s"}},
		{"grpc address", smallest + "sinks: [{grpc: {address: collector}}]",
			[]string{`sinks[0].grpc.address: "collector"; want host:port`}},
		{"grpc tls", smallest + "sinks: [{grpc: {address: 'c:1', tls: {cert: x}}}]",
			[]string{"sinks[0].grpc.tls: cert and key: one without the other"}},
		{"ipfix transport", smallest + "sinks: [{ipfix: {address: 'c:1', transport: sctp}}]",
			[]string{`sinks[0].ipfix.transport: "sctp"; want udp or tcp`}},
		{"ipfix tls over udp", smallest + "sinks: [{ipfix: {address: 'c:1', tls: {}}}]",
			[]string{"sinks[0].ipfix.tls: is for the transport tcp"}},
		{"prometheus label", smallest + "sinks: [{prometheus: {listen: ':1', labels: [src]}}]",
			[]string{`sinks[0].prometheus.labels[0]: "src"; want one of class, `}},
		{"kafka topic", smallest + "sinks: [{kafka: {brokers: ['a:1']}}]", []string{"sinks[0].kafka.topic: is missing"}},
		{"kafka sasl", smallest + "sinks: [{kafka: {brokers: ['a:1'], topic: t, sasl: {mechanism: x}}}]",
			[]string{`sinks[0].kafka.sasl.mechanism: "x"; want one of plain`}},
		{"clickhouse compression", smallest + "sinks: [{clickhouse: {address: 'a:1', compression: gzip}}]",
			[]string{`sinks[0].clickhouse.compression: "gzip"; want one of lz4, none, zstd`}},
		{"stop", smallest + "stop_timeout: -1s", []string{"stop_timeout: -1s"}},
		{"no duration", smallest + "active: soon", []string{":2:9: active: ", "soon", "10s"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := ParseConfig("etc/weir.yaml", []byte(test.text))
			require.Error(t, err, "%+v", c)
			require.True(t, strings.HasPrefix(err.Error(), "etc/weir.yaml:"), err.Error())
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestReadConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	_, err := ReadConfig(file)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, file)
	require.NoError(t, os.WriteFile(file, []byte(smallest), 0o600))
	_, err = ReadConfig(file)
	require.NoError(t, err)
}

// TestLifetimesAreDocumented compares the defaults with the table that gives their sources.
func TestLifetimesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../bpf/README.md")
	require.NoError(t, err)
	for i, d := range defaultLifetimes() {
		if d == 0 {
			continue
		}
		name := conntrack.State(i).String()
		row := regexp.MustCompile(`(?m)^\| ` + name + ` .*\| (\d+ s) \|`).FindSubmatch(text)
		require.NotNil(t, row, "no lifetime of %s in bpf/README.md", name)
		documented, err := time.ParseDuration(strings.ReplaceAll(string(row[1]), " ", ""))
		require.NoError(t, err)
		require.Equal(t, documented, d, name)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte("interfaces: [{name: a, zone: -1}]\nlifetimes: {closed: 1}\n"))
	f.Add([]byte("a: &a [*a]\n---\n{"))
	f.Add([]byte("<<: !!binary x\n? :\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("weir.yaml", data)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "weir.yaml"), err.Error())
			return
		}
		require.NoError(t, c.Check())
	})
}
