package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/certs/certstest"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/export/sinktest"
	"github.com/weirnet/weir/agent/flow"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// epoch is what records' times are relative to.
const epoch = 1_767_225_845_000_000_000

// record is one of the connections between two hosts, the one of number n.
func record(n uint64) flow.Record {
	return flow.Record{
		Boot: "b", Sequence: n, Flow: n, Src: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Dst: netip.MustParseAddr("10.0.1.1"),
		SrcPort: uint16(n), DstPort: 80, Protocol: 6, Packets: 3, Bytes: 4, Start: 5, End: 6, Flags: flow.SYN,
		Role: flow.RoleInitiator, State: "established", Reason: flow.EndActive,
		Seen: []flow.Hook{{Interface: "eth0", Direction: flow.Egress}},
	}
}

func answer(n uint64) flow.Record {
	r := record(n)
	r.Src, r.Dst, r.SrcPort, r.DstPort, r.Role = r.Dst, r.Src, r.DstPort, r.SrcPort, flow.RoleResponder
	return r
}

const partitions = 8

// cluster is an Apache Kafka in this process, with the topic "flows".
func cluster(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, Options) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, "flows")}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, Options{Brokers: c.ListenAddrs(), Topic: "flows"}
}

func (s *Sink) encode(reports ...flow.Report) (b []byte) {
	for _, r := range reports {
		b = s.Append(b, r, epoch)
	}
	return b
}

// flows makes reports of records.
func flows(records ...flow.Record) (all []flow.Report) {
	for i := range records {
		all = append(all, flow.Report{Record: &records[i]})
	}
	return all
}

func (s *Sink) send(t testing.TB, reports ...flow.Report) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Send(ctx, s.encode(reports...), len(reports))
}

// consume reads so many messages from the beginning of the topic, and that there is no other one.
func consume(t testing.TB, o Options, n int) (all []*kgo.Record) {
	t.Helper()
	s := sinktest.Open(t, Open, o) // for its ways to connect
	client, err := kgo.NewClient(append(s.client.Opts(), kgo.ConsumeTopics(o.Topic))...)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		all = append(all, fetches.Records()...)
	}
	require.Len(t, all, n)
	return all
}

func decoded(t testing.TB, message *kgo.Record) flow.Report {
	t.Helper()
	var m pbflow.Record
	require.NoError(t, proto.Unmarshal(message.Value, &m))
	require.Empty(t, m.ProtoReflect().GetUnknown())
	r, err := pbflow.Decode(&m)
	require.NoError(t, err)
	return r
}

// TestPartitions sends both directions of many connections: they are in one partition each, in their
// order, and all partitions are used.
func TestPartitions(t *testing.T) {
	_, o := cluster(t)
	s := sinktest.Open(t, Open, o)
	const n = 200
	var records []flow.Record
	for i := range uint64(n) {
		records = append(records, record(i))
	}
	for i := range uint64(n) {
		records = append(records, answer(i))
	}
	require.NoError(t, s.send(t, flows(records...)...))
	of, used := map[uint64]int32{}, map[int32]bool{}
	for _, m := range consume(t, o, 2*n) {
		r := decoded(t, m).Record
		used[m.Partition] = true
		partition, again := of[r.Flow]
		if !again {
			require.Equal(t, record(r.Flow), *r)
			of[r.Flow] = m.Partition
			continue
		}
		require.Equal(t, answer(r.Flow), *r)
		require.Equal(t, partition, m.Partition)
	}
	require.Len(t, of, n)
	require.Len(t, used, partitions)
}

// TestKey holds keys to those of the NetObserv agent: sixteen bytes of each address, in their order.
func TestKey(t *testing.T) {
	low, high := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	want := "\x20" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x02"
	for _, r := range []flow.Report{
		{Record: &flow.Record{Src: low, Dst: high}}, {Record: &flow.Record{Src: high, Dst: low}},
		{Drop: &flow.Drop{Src: high, Dst: low}}, {DNS: &flow.DNS{Client: high, Server: low}},
	} {
		require.Equal(t, want, string(appendKey(nil, r)))
	}
	require.Equal(t, "\x00", string(appendKey(nil, flow.Report{Drop: &flow.Drop{Reason: flow.DropTableFull}})))
}

func TestOtherReports(t *testing.T) {
	_, o := cluster(t)
	latency := int64(7)
	want := []flow.Report{
		{Drop: &flow.Drop{Boot: "b", Sequence: 1, Reason: flow.DropTableFull, Packets: 7}},
		{DNS: &flow.DNS{Boot: "b", Sequence: 1, Outcome: flow.DNSAnswered, Client: netip.MustParseAddr("10.0.0.1"),
			Server: netip.MustParseAddr("10.0.0.2"), Name: "x.", Latency: &latency, Start: 1, End: 8}},
	}
	require.NoError(t, sinktest.Open(t, Open, o).send(t, want...))
	var got []flow.Report
	for _, m := range consume(t, o, 2) {
		got = append(got, decoded(t, m))
	}
	require.ElementsMatch(t, want, got)
}

// TestJSON has times of the wall clock.
func TestJSON(t *testing.T) {
	_, o := cluster(t)
	o.Format = formatJSON
	s := sinktest.Open(t, Open, o)
	r := record(1)
	drop := flow.Drop{Boot: "b", Sequence: 1, Reason: "no-socket", Start: 1, End: 2}
	dns := flow.DNS{Boot: "b", Sequence: 1, Outcome: flow.DNSUnanswered, Start: 1}
	require.NoError(t, s.send(t, flow.Report{Record: &r}, flow.Report{Drop: &drop}, flow.Report{DNS: &dns}))
	require.Equal(t, record(1), r, "others see it too")
	var got []string
	for _, m := range consume(t, o, 3) {
		got = append(got, string(m.Value))
	}
	r.Start, r.End = epoch+5, epoch+6
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{string(text),
		fmt.Sprintf(`{"drop":{"boot":"b","sequence":1,"reason":"no-socket","packets":0,"start_ns":%d,"end_ns":%d}}`, epoch+1, epoch+2),
		fmt.Sprintf(`{"dns":{"boot":"b","sequence":1,"outcome":"unanswered","start_ns":%d}}`, epoch+1),
	}, got)
}

func TestCompression(t *testing.T) {
	_, o := cluster(t)
	all := []string{"none", "gzip", "snappy", "lz4", "zstd"} // by their numbers in Kafka's batches
	for _, o.Compression = range all {
		require.NoError(t, sinktest.Open(t, Open, o).send(t, flows(record(1), record(1), record(1), record(1))...))
	}
	used := map[string]int{}
	for _, m := range consume(t, o, 4*len(all)) {
		require.Equal(t, record(1), *decoded(t, m).Record)
		used[all[m.Attrs.CompressionType()]]++
	}
	require.Equal(t, map[string]int{"none": 4, "gzip": 4, "snappy": 4, "lz4": 4, "zstd": 4}, used)
}

func TestAcks(t *testing.T) {
	c, o := cluster(t)
	asked := make(chan int16, 10)
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		asked <- r.(*kmsg.ProduceRequest).Acks
		return nil, nil, false
	})
	for name, want := range map[string]int16{"": -1, "all": -1, "leader": 1, "none": 0} {
		o.Acks = name
		require.NoError(t, sinktest.Open(t, Open, o).send(t, flows(record(1))...))
		require.Equal(t, want, <-asked, name)
	}
}

// TestTimeout has brokers that do not answer in time. Send says so, and does not send again what may have
// arrived.
func TestTimeout(t *testing.T) {
	c, o := cluster(t)
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	s := sinktest.Open(t, Open, o)
	payload := s.encode(flows(record(1), record(2), answer(1))...)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		err := s.Send(ctx, payload, 3)
		cancel()
		require.ErrorContains(t, err, "topic flows: no answer: context deadline exceeded")
		require.NotErrorIs(t, err, export.ErrRejected)
	}
	close(release)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.Send(ctx, payload, 3))
	require.NoError(t, s.send(t, flows(record(3))...))
	consume(t, o, 4)
}

// failing tries to send until the sink knows why it cannot, and returns how it says so.
func (s *Sink) failing(t testing.TB) error {
	t.Helper()
	payload := s.encode(flows(record(1))...)
	for deadline := time.Now().Add(patience); s.status.latest() == nil; {
		require.True(t, time.Now().Before(deadline), "no reason is known")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		require.ErrorIs(t, s.Send(ctx, payload, 1), context.DeadlineExceeded)
		cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.Send(ctx, payload, 1)
}

// TestNoBroker says why none can be reached.
func TestNoBroker(t *testing.T) {
	c, o := cluster(t)
	c.Close()
	require.ErrorContains(t, sinktest.Open(t, Open, o).failing(t), "refused")
}

// TestNoTopic fails until somebody makes the topic. Then what has failed is sent, once.
func TestNoTopic(t *testing.T) {
	_, o := cluster(t)
	exists := o
	o.Topic = "later"
	s := sinktest.Open(t, Open, o)
	payload := s.encode(flows(record(1), record(2))...)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	require.ErrorIs(t, s.Send(ctx, payload, 2), kerr.UnknownTopicOrPartition)
	request := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "later", 1, 1
	request.Topics = append(request.Topics, topic)
	_, err := request.RequestWith(ctx, sinktest.Open(t, Open, exists).client)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Send(ctx, payload, 2) == nil }, patience, time.Millisecond)
	for i, m := range consume(t, o, 2) {
		require.Equal(t, record(uint64(i+1)), *decoded(t, m).Record)
	}
}

// TestRejected has a broker that takes no messages of that size.
func TestRejected(t *testing.T) {
	c, o := cluster(t)
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		request := r.(*kmsg.ProduceRequest)
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range request.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = partition.Partition, kerr.MessageTooLarge.Code
				answer.Partitions = append(answer.Partitions, p)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	s := sinktest.Open(t, Open, o)
	require.ErrorIs(t, s.send(t, flows(record(1))...), export.ErrRejected)
	require.NoError(t, s.send(t, flows(record(2))...))
	consume(t, o, 1)
}

func TestDamaged(t *testing.T) {
	_, o := cluster(t)
	s := sinktest.Open(t, Open, o)
	for _, b := range []string{"\x01", "\x00\x00\x00\x00\x02x", "\xff\x00\x00\x00\x00"} {
		require.ErrorIs(t, s.Send(context.Background(), []byte(b), 1), export.ErrRejected)
	}
}

func TestSASL(t *testing.T) {
	dir := t.TempDir()
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	require.NoError(t, os.WriteFile(right, []byte("secret\n"), 0o600))
	require.NoError(t, os.WriteFile(wrong, []byte("guess\n"), 0o600))
	for mechanism, name := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256",
		"scram-sha-512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			_, o := cluster(t, kfake.EnableSASL(), kfake.Superuser(name, "weir", "secret"))
			o.SASL = &SASL{Mechanism: mechanism, User: "weir", PasswordFile: right}
			require.NoError(t, sinktest.Open(t, Open, o).send(t, flows(record(1))...))
			consume(t, o, 1)
			o.SASL = &SASL{Mechanism: mechanism, User: "weir", PasswordFile: wrong}
			require.ErrorContains(t, sinktest.Open(t, Open, o).failing(t), "no answer")
			o.SASL = &SASL{Mechanism: mechanism, User: "weir", PasswordFile: filepath.Join(dir, "none")}
			require.ErrorContains(t, sinktest.Open(t, Open, o).failing(t), "sasl: open ")
		})
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ca := certstest.New(t)
	ca.Write(t, path("ca.pem"))
	ca.Issue(t, path("server.pem"), path("server.key"))
	ca.Issue(t, path("client.pem"), path("client.key"))
	files, err := certs.Read(&certs.Options{CA: path("ca.pem"), Cert: path("server.pem"), Key: path("server.key")})
	require.NoError(t, err)
	config, err := files.Server()
	require.NoError(t, err)
	_, o := cluster(t, kfake.TLS(config))
	o.TLS = &certs.Options{CA: path("ca.pem"), Cert: path("client.pem"), Key: path("client.key")}
	require.NoError(t, sinktest.Open(t, Open, o).send(t, flows(record(1))...))
	consume(t, o, 1)
	o.TLS = &certs.Options{CA: path("none.pem")}
	_, err = Open(o)
	require.ErrorContains(t, err, "tls: ca: ")
}

func TestCheck(t *testing.T) {
	right := func() Options { return Options{Brokers: []string{"a:1"}, Topic: "t"} }
	for want, change := range map[string]func(*Options){
		`brokers: are missing; want one host:port, or more`:            func(o *Options) { o.Brokers = nil },
		`brokers[1]: "b"; want host:port`:                              func(o *Options) { o.Brokers = append(o.Brokers, "b") },
		`topic: is missing`:                                            func(o *Options) { o.Topic = "" },
		`format: "avro"; want protobuf or json`:                        func(o *Options) { o.Format = "avro" },
		`compression: "br"; want one of gzip, lz4, none, snappy, zstd`: func(o *Options) { o.Compression = "br" },
		`acks: "1"; want one of all, leader, none`:                     func(o *Options) { o.Acks = "1" },
		`tls: cert and key: one without the other`:                     func(o *Options) { o.TLS = &certs.Options{Key: "x"} },
		`sasl.mechanism: "x"; want one of plain, scram-sha-256, scram-sha-512`: func(o *Options) {
			o.SASL = &SASL{Mechanism: "x"}
		},
		`sasl.user: is missing`:          func(o *Options) { o.SASL = &SASL{Mechanism: "plain"} },
		`sasl.password_file: is missing`: func(o *Options) { o.SASL = &SASL{Mechanism: "plain", User: "x"} },
	} {
		o := right()
		change(&o)
		require.EqualError(t, o.Check(), want)
	}
	o := right()
	require.NoError(t, o.Check())
}

func TestNoAllocation(t *testing.T) {
	r := record(1)
	for _, format := range []string{formatProtobuf, formatJSON} {
		s := &Sink{opts: Options{Format: format}}
		b := make([]byte, 0, 4096)
		require.Zero(t, testing.AllocsPerRun(100, func() { s.Append(b, flow.Report{Record: &r}, epoch) }), format)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, format := range []string{formatProtobuf, formatJSON} {
		b.Run(format, func(b *testing.B) {
			r, buf, s := record(1), make([]byte, 0, 4096), &Sink{opts: Options{Format: format}}
			b.ReportAllocs()
			for b.Loop() {
				buf = s.Append(buf[:0], flow.Report{Record: &r}, epoch)
			}
		})
	}
}
