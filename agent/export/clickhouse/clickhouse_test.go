package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/certs/certstest"
	"github.com/weirnet/weir/agent/export/sinktest"
	"github.com/weirnet/weir/agent/flow"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

// epoch is what records' times are relative to.
const epoch = 1_767_225_845_000_000_000

func record(n uint64) flow.Record {
	return flow.Record{
		Boot: "b", Sequence: n, Flow: n, Src: netip.AddrFrom4([4]byte{10, 0, 0, 1}), Dst: netip.MustParseAddr("2001:db8::1"),
		SrcPort: 40000, DstPort: 80, Protocol: 6, Packets: 3, Bytes: 400, Start: 5, End: 6, Flags: flow.SYN | flow.ACK,
		Role: flow.RoleInitiator, State: "established", Reason: flow.EndActive,
		Seen: []flow.Hook{{Namespace: "blue", Interface: "eth0", Direction: flow.Egress}, {Interface: "veth1", Direction: flow.Ingress}},
	}
}

// reports are n flow records, a drop record and a DNS record.
func reports(n uint64) []flow.Report {
	var all []flow.Report
	for i := range n {
		r := record(i + 1)
		all = append(all, flow.Report{Record: &r})
	}
	latency := int64(1500)
	return append(all,
		flow.Report{Drop: &flow.Drop{Boot: "b", Sequence: 1, Reason: "NO_SOCKET", Packets: 2, Start: 1, End: 2}},
		flow.Report{DNS: &flow.DNS{Boot: "b", Sequence: 1, Outcome: flow.DNSAnswered, Client: netip.MustParseAddr("10.0.0.1"),
			Name: "example.com.", Type: "A", Truncated: true, Latency: &latency, Start: 1, End: 2}})
}

func (s *Sink) send(t testing.TB, all ...flow.Report) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var b []byte
	for _, r := range all {
		b = s.Append(b, r, epoch)
	}
	return s.Send(ctx, b, len(all))
}

// TestRows inserts records of all kinds, and looks at some columns as a user would.
func TestRows(t *testing.T) {
	server := serve(t, nil)
	for codec := range codecs {
		if codec == "zstd" {
			continue // the packaged server reads none
		}
		require.NoError(t, sinktest.Open(t, Open, Options{Address: server.address, Compression: codec}).send(t, reports(3)...))
	}
	var row struct {
		time                                        time.Time
		src, dst, flags, end, direction, nat, label string
		interfaces                                  []string
		packets                                     uint64
		startNs                                     int64
		handshake                                   *int64
	}
	require.NoError(t, server.client().QueryRow(context.Background(), `SELECT time, IPv6NumToString(src), IPv6NumToString(dst),
		flags, end_reason, direction, nat_before_id, src_labels_pod, seen_interface, packets, start_ns, handshake_server_ns
		FROM network_flows FINAL WHERE sequence = 2 AND date = '2026-01-01'`).Scan(&row.time, &row.src, &row.dst, &row.flags, &row.end,
		&row.direction, &row.nat, &row.label, &row.interfaces, &row.packets, &row.startNs, &row.handshake))
	require.Equal(t, "2026-01-01T00:04:05Z", row.time.UTC().Format(time.RFC3339))
	require.Equal(t, []string{"::ffff:10.0.0.1", "2001:db8::1", "SYN|ACK", "active", "egress"},
		[]string{row.src, row.dst, row.flags, row.end, row.direction})
	require.Empty(t, row.nat+row.label)
	require.Equal(t, []string{"eth0", "veth1"}, row.interfaces)
	require.EqualValues(t, 3, row.packets)
	require.EqualValues(t, epoch+5, row.startNs)
	require.Nil(t, row.handshake)
	require.EqualValues(t, 1, server.number("SELECT count() FROM network_drops FINAL WHERE reason = 'NO_SOCKET' AND packets = 2"))
	require.EqualValues(t, 1, server.number("SELECT count() FROM network_dns FINAL WHERE name = 'example.com.' AND latency_ns = 1500 AND truncated = 1"))
}

// TestDocs makes the query that the documentation shows.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/formats.md")
	require.NoError(t, err)
	_, query, ok := strings.Cut(string(page), "```sql\n")
	require.True(t, ok)
	query, _, ok = strings.Cut(query, "```")
	require.True(t, ok)
	server := serve(t, nil)
	shop, mirror := record(1), record(2)
	shop.SrcLabels, shop.DstLabels = &flow.Labels{Namespace: "shop"}, &flow.Labels{Namespace: "db"}
	mirror.LabelFlags = flow.FlagMirror
	s := sinktest.Open(t, Open, Options{Address: server.address})
	for range 2 {
		require.NoError(t, s.send(t, flow.Report{Record: &shop}, flow.Report{Record: &mirror}))
	}
	rows, err := server.client().Query(context.Background(), strings.Replace(query, "today()", "'2026-01-01'", 1))
	require.NoError(t, err)
	defer rows.Close()
	var src, dst string
	var bytes uint64
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&src, &dst, &bytes))
	require.Equal(t, []any{"shop", "db", uint64(400)}, []any{src, dst, bytes})
	require.False(t, rows.Next())
}

// TestEveryColumn inserts records with random values in all fields and compares each with what the server has of it.
func TestEveryColumn(t *testing.T) {
	server := serve(t, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	var all []flow.Report
	for i := range uint64(50) {
		r := record(i + 1)
		scramble(rng, reflect.ValueOf(&r).Elem())
		r.Sequence, r.End = i+1, int64(i)
		d := flow.Drop{}
		scramble(rng, reflect.ValueOf(&d).Elem())
		d.Sequence, d.Start, d.End = i+1, 1, 2
		n := flow.DNS{}
		scramble(rng, reflect.ValueOf(&n).Elem())
		n.Sequence, n.Start, n.End = i+1, 1, 2
		all = append(all, flow.Report{Record: &r}, flow.Report{Drop: &d}, flow.Report{DNS: &n})
	}
	s := sinktest.Open(t, Open, Options{Address: server.address})
	require.NoError(t, s.send(t, all...))

	var b []byte
	for _, r := range all {
		b = s.Append(b, r, epoch)
	}
	want, err := decode(b, len(all))
	require.NoError(t, err)
	for _, table := range tables {
		require.Len(t, want[table], 50)
		for _, c := range table.columns {
			var texts []string
			rows, err := server.client().Query(context.Background(), fmt.Sprintf("SELECT %s FROM %s FINAL ORDER BY sequence", quote(c.name), table.name))
			require.NoError(t, err)
			for rows.Next() {
				got := reflect.New(rows.ColumnTypes()[0].ScanType())
				require.NoError(t, rows.Scan(got.Interface()), c.name)
				value := got.Elem().Interface()
				if rows.ColumnTypes()[0].DatabaseTypeName() == "FixedString(16)" {
					value = netip.AddrFrom16([16]byte([]byte(got.Elem().String())))
				}
				texts = append(texts, canonical(value))
			}
			require.NoError(t, rows.Err())
			require.Len(t, texts, 50)
			for i, row := range want[table] {
				require.Equal(t, canonical(c.value(row)), texts[i], "%s.%s", table.name, c.name)
			}
		}
	}
}

// canonical makes values comparable that the server gives in another form.
func canonical(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format(time.DateOnly)
	case netip.Addr:
		wide := v.As16()
		return fmt.Sprintf("%x", wide[:])
	case bool:
		if v {
			return "1"
		}
		return "0"
	case []string:
		return fmt.Sprintf("%q", v)
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// scramble sets the fields of a struct at random; about half keep their values.
func scramble(rng *rand.Rand, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if rng.IntN(2) == 0 {
			continue
		}
		switch f.Interface().(type) {
		case netip.Addr:
			all := []string{"10.0.0.1", "2001:db8::1", "::"}
			f.Set(reflect.ValueOf(netip.MustParseAddr(all[rng.IntN(len(all))])))
			continue
		case flow.Role:
			f.SetString(string(flow.RoleResponder))
			continue
		}
		switch f.Kind() {
		case reflect.String:
			f.SetString([]string{"eth0", "<a'b\">\\", "ü\n", ""}[rng.IntN(4)])
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			f.SetUint(rng.Uint64() >> rng.IntN(64))
		case reflect.Int64:
			f.SetInt(rng.Int64())
		case reflect.Struct:
			scramble(rng, f)
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			if f.Elem().Kind() == reflect.Struct {
				scramble(rng, f.Elem())
			} else {
				f.Elem().SetInt(rng.Int64())
			}
		}
	}
}

// TestRepeat makes inserts that were made before, like an agent that got no answer, or that was killed: each row is there
// once.
func TestRepeat(t *testing.T) {
	server := serve(t, nil)
	for range 2 { // agents
		s := sinktest.Open(t, Open, Options{Address: server.address})
		for range 2 { // attempts
			require.NoError(t, s.send(t, reports(100)...))
		}
	}
	require.EqualValues(t, 100, server.number("SELECT count() FROM network_flows FINAL"))
	require.EqualValues(t, 300, server.number("SELECT sum(packets) FROM network_flows FINAL"))
	server.exec("OPTIMIZE TABLE network_flows FINAL")
	require.EqualValues(t, 100, server.number("SELECT count() FROM network_flows"), "merged for good")
}

// TestServerDies kills the server between inserts and in the midst of them.
func TestServerDies(t *testing.T) {
	server := serve(t, nil)
	s := sinktest.Open(t, Open, Options{Address: server.address})
	require.NoError(t, s.send(t, reports(10)...))
	server.end(unix.SIGKILL)
	require.Error(t, s.send(t, reports(20)...))
	server.start()
	require.NoError(t, s.send(t, reports(20)...))
	require.EqualValues(t, 20, server.number("SELECT count() FROM network_flows FINAL"))
}

// TestMigration has tables of an older agent, and tables that somebody drops while the agent runs.
func TestMigration(t *testing.T) {
	server := serve(t, nil)
	s := sinktest.Open(t, Open, Options{Address: server.address})
	require.NoError(t, s.send(t, reports(1)...))
	older := []string{"service", "nat_before_src", "handshake_client_ns", "seen_interface"}
	for _, name := range older {
		server.exec("ALTER TABLE network_flows DROP COLUMN " + name)
	}
	server.exec("ALTER TABLE network_flows ADD COLUMN of_another_agent UInt8")
	server.exec("DROP TABLE network_dns")

	require.Error(t, s.send(t, reports(2)...), "the connection is of the time before")
	require.NoError(t, s.send(t, reports(2)...))
	for _, name := range older {
		require.EqualValues(t, 1, server.number("SELECT count() FROM system.columns WHERE table = 'network_flows' AND name = '"+name+"'"))
	}
	require.EqualValues(t, 2, server.number("SELECT count() FROM network_flows FINAL"))
	require.EqualValues(t, 1, server.number("SELECT count() FROM network_dns FINAL"))
}

// TestMigrationsRace has many agents that find the same columns missing.
func TestMigrationsRace(t *testing.T) {
	server := serve(t, nil)
	require.NoError(t, sinktest.Open(t, Open, Options{Address: server.address}).send(t, reports(1)...))
	for _, name := range []string{"service", "class", "environment"} {
		server.exec("ALTER TABLE network_flows DROP COLUMN " + name)
	}
	errs := make(chan error)
	const agents = 8
	for i := range agents {
		s := sinktest.Open(t, Open, Options{Address: server.address})
		r := record(uint64(i + 2))
		go func() { errs <- s.send(t, flow.Report{Record: &r}) }()
	}
	for range agents {
		require.NoError(t, <-errs)
	}
	require.EqualValues(t, agents+1, server.number("SELECT count() FROM network_flows FINAL"))
}

// TestFixedTables leaves tables to somebody else.
func TestFixedTables(t *testing.T) {
	server := serve(t, nil)
	s := sinktest.Open(t, Open, Options{Address: server.address, FixedTables: true})
	require.ErrorContains(t, s.send(t, reports(1)...), "table network_flows: ")
	require.NoError(t, sinktest.Open(t, Open, Options{Address: server.address}).send(t, reports(1)...))
	require.NoError(t, s.send(t, reports(2)...))
	require.EqualValues(t, 2, server.number("SELECT count() FROM network_flows FINAL"))
}

// TestLogin has users, databases and settings.
func TestLogin(t *testing.T) {
	server := serve(t, nil)
	server.exec("CREATE DATABASE net")
	secret := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(secret, []byte("wrong\n"), 0o600))
	s := sinktest.Open(t, Open, Options{Address: server.address, User: "weir", PasswordFile: secret, Database: "net",
		Settings: map[string]string{"max_insert_block_size": "1000"}})
	require.ErrorContains(t, s.send(t, reports(1)...), "assword")
	require.NoError(t, os.WriteFile(secret, []byte("secret\n"), 0o600))
	require.NoError(t, s.send(t, reports(1)...))
	require.EqualValues(t, 1, server.number("SELECT count() FROM net.network_flows"))

	s = sinktest.Open(t, Open, Options{Address: server.address, Database: "none"})
	require.ErrorContains(t, s.send(t, reports(1)...), "none")
	s = sinktest.Open(t, Open, Options{Address: server.address, Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, s.send(t, reports(1)...), "no_such_setting")
	s = sinktest.Open(t, Open, Options{Address: server.address, PasswordFile: filepath.Join(t.TempDir(), "missing")})
	require.ErrorIs(t, s.send(t, reports(1)...), os.ErrNotExist)
}

// TestTLS needs certificates on both sides.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	files := certs.Options{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	authority := certstest.New(t)
	authority.Write(t, files.CA)
	authority.Issue(t, files.Cert, files.Key)
	server := serve(t, &files)

	require.NoError(t, sinktest.Open(t, Open, Options{Address: server.tls, TLS: &files}).send(t, reports(5)...))
	require.EqualValues(t, 5, server.number("SELECT count() FROM network_flows"))
	require.Error(t, sinktest.Open(t, Open, Options{Address: server.tls, TLS: &certs.Options{CA: files.CA}}).send(t, reports(5)...),
		"without a certificate")
	require.Error(t, sinktest.Open(t, Open, Options{Address: server.tls, TLS: &certs.Options{}}).send(t, reports(5)...),
		"an authority that the system does not know")
}

// TestSilence gives an attempt up when its time is up, whatever the server does.
func TestSilence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := sinktest.Open(t, Open, Options{Address: l.Addr().String()})
	ctx, cancel := context.WithCancel(context.Background())
	r := record(1)
	ended := make(chan error, 1)
	go func() { ended <- s.Send(ctx, s.Append(nil, flow.Report{Record: &r}, epoch), 1) }()
	c, err := l.Accept()
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, l.Close())
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err, "it says hello")
	cancel()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(dialTimeout / 2):
		require.Fail(t, "it waits for an answer that nobody wants any more")
	}
}

// TestRejects does not send what cannot be read, nor ever again.
func TestRejects(t *testing.T) {
	s := sinktest.Open(t, Open, Options{Address: "127.0.0.1:1"})
	require.ErrorIs(t, s.Send(context.Background(), []byte{0xff}, 1), export.ErrRejected)
	r := record(1)
	require.ErrorIs(t, s.Send(context.Background(), s.Append(nil, flow.Report{Record: &r}, 0), 2), export.ErrRejected)
}

// TestColumns has a column of every field, of each once.
func TestColumns(t *testing.T) {
	for _, table := range tables {
		var names []string
		for _, c := range table.columns {
			require.NotEmpty(t, c.typ(&server{}), c.name)
			names = append(names, c.name)
		}
		slices.Sort(names)
		require.Len(t, slices.Compact(slices.Clone(names)), len(names), "twice in %s: %v", table.name, names)
		for _, key := range append(table.key, "boot", "sequence", "time") {
			require.Contains(t, names, key)
		}
	}
}

// TestTimesAreUTC: the day and the minute by which rows are kept together are UTC's, wherever the agent is,
// as in case 110 of kubenetmon's.
func TestTimesAreUTC(t *testing.T) {
	there := time.FixedZone("", -5*60*60)
	for end, want := range map[time.Time]string{
		time.Date(2026, 1, 2, 15, 45, 30, 0, there): "2026-01-02 20:45",
		time.Date(2026, 1, 2, 22, 0, 0, 0, there):   "2026-01-03 03:00",
	} {
		for _, c := range times() {
			got := c.value(reflect.ValueOf(flow.Record{End: end.UnixNano()})).(time.Time)
			require.Equal(t, want, got.Format("2006-01-02 15:04"), c.name) // as it is written
		}
	}
	require.Contains(t, flows.create(&server{}), "\t`time` DateTime('UTC'),\n")
	require.Contains(t, flows.create(&server{}), "PARTITION BY date ORDER BY (date, toStartOfMinute(time), ")
}

// TestTypes takes what a server has.
func TestTypes(t *testing.T) {
	old, young := &server{}, &server{types: map[string]bool{"LowCardinality": true, "IPv6": true}, tokens: true, merge: true}
	require.Contains(t, flows.create(old), "\t`src` FixedString(16),\n")
	require.Contains(t, flows.create(old), "\t`class` String,\n")
	require.NotContains(t, flows.create(old), "SETTINGS")
	require.Contains(t, flows.create(young), "\t`src` IPv6,\n")
	require.Contains(t, flows.create(young), "\t`class` LowCardinality(String),\n")
	require.True(t, strings.HasSuffix(flows.create(young), " SETTINGS non_replicated_deduplication_window = 10000"))
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		`address: ""; want host:port`:                            {},
		`address: "host"; want host:port`:                        {Address: "host"},
		`compression: "gzip"; want one of lz4, none, zstd`:       {Address: "host:9000", Compression: "gzip"},
		"settings.insert_deduplication_token: is the sink's own": {Address: "host:9000", Settings: map[string]string{settingToken: "1"}},
		"tls: cert and key: one without the other":               {Address: "host:9000", TLS: &certs.Options{Cert: "c"}},
	} {
		require.EqualError(t, o.Check(), want)
	}
	_, err := Open(Options{Address: "host:9000", TLS: &certs.Options{CA: filepath.Join(t.TempDir(), "ca.pem")}})
	require.ErrorIs(t, err, os.ErrNotExist)
}
