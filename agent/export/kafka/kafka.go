// Package kafka sends flow records to a topic of Apache Kafka, each as a message of its own.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/flow"
)

// Sink sends to a topic. It is an export.Sink.
//
// What was given to the client stays with it when Send's time is up: the client goes on, and so
// knows, which Send cannot, what a broker has that has not answered. The next Send waits for the
// rest. Nothing comes twice, then, as long as the agent lives.
type Sink struct {
	opts   Options
	client *kgo.Client
	status *status
	copies wall
	// flight is the block that is on its way; nil: there is none.
	flight  *flight
	records []kgo.Record // of the block, one behind the other
}

// Open makes a sink. It connects when it sends, so that an agent can start before its brokers.
func Open(opts Options) (*Sink, error) {
	s := &Sink{opts: opts.withDefaults(), status: &status{}}
	client, err := s.connect()
	if err != nil {
		return nil, err
	}
	s.client = client
	return s, nil
}

// maxInClient is more than a block has: giving it to the client never waits.
const maxInClient = 1 << 20

func (s *Sink) connect() (*kgo.Client, error) {
	all := []kgo.Opt{
		kgo.SeedBrokers(s.opts.Brokers...), kgo.ClientID("weir"), kgo.DefaultProduceTopic(s.opts.Topic),
		kgo.ProducerBatchCompression(codecs[s.opts.Compression]), kgo.RequiredAcks(acks[s.opts.Acks]),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // as other clients do
		kgo.MaxBufferedRecords(maxInClient), kgo.WithHooks(s.status),
		// Trying again is the exporter's, which also tells why.
		kgo.UnknownTopicRetries(1), kgo.MetadataMinAge(time.Second),
	}
	if s.opts.Acks != acksAll {
		all = append(all, kgo.DisableIdempotentWrite())
	}
	if s.opts.SASL != nil {
		all = append(all, kgo.SASL(mechanisms[s.opts.SASL.Mechanism](s.opts.SASL)))
	}
	files, err := certs.Read(s.opts.TLS)
	if err != nil {
		return nil, err
	}
	if files != nil {
		all = append(all, kgo.Dialer(secure(files)))
	}
	client, err := kgo.NewClient(all...)
	if err != nil {
		return nil, fmt.Errorf("make a client of Kafka: %w", err)
	}
	return client, nil
}

// dialTimeout bounds how long it takes to reach a broker.
const dialTimeout = 10 * time.Second

// secure dials by TLS.
func secure(files *certs.Files) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		return files.Dial(ctx, &net.Dialer{Timeout: dialTimeout}, address)
	}
}

// Format implements export.Sink.
func (s *Sink) Format() string { return "kafka-" + s.opts.Format + "-1" }

// Append implements export.Sink.
func (s *Sink) Append(b []byte, r flow.Report, offset int64) []byte {
	b = appendKey(b, r)
	b, at := beginValue(b)
	if s.opts.Format == formatJSON {
		b = s.copies.at(r, offset).AppendJSON(b)
	} else {
		b = pbflow.AppendRecord(b, r, offset)
	}
	return endValue(b, at)
}

// Send implements export.Sink.
func (s *Sink) Send(ctx context.Context, payload []byte, records int) error {
	if s.flight == nil {
		if err := s.load(payload, records); err != nil {
			return fmt.Errorf("%w: %w", export.ErrRejected, err)
		}
		s.flight = launch(s.client, s.all())
	} else if s.flight.landed() {
		s.flight = launch(s.client, s.flight.failed)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("topic %s: no answer: %w", s.opts.Topic, errors.Join(ctx.Err(), s.status.latest()))
	case <-s.flight.done:
	}
	err := s.flight.err
	switch {
	case err == nil:
		s.flight = nil
		return nil
	case hopeless(err):
		s.flight = nil
		return fmt.Errorf("%w: topic %s: %w", export.ErrRejected, s.opts.Topic, err)
	}
	return fmt.Errorf("topic %s: %w", s.opts.Topic, err)
}

// hopeless tells whether a broker will give the same answer to the same messages again.
func hopeless(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord)
}

// load makes messages of a block. They refer to it.
func (s *Sink) load(payload []byte, records int) error {
	if cap(s.records) < records {
		s.records = make([]kgo.Record, 0, records)
	}
	s.records = s.records[:0]
	for len(payload) > 0 {
		key, value, rest, err := cut(payload)
		if err != nil {
			return err
		}
		s.records = append(s.records, kgo.Record{Key: key, Value: value})
		payload = rest
	}
	return nil
}

func (s *Sink) all() []*kgo.Record {
	all := make([]*kgo.Record, len(s.records))
	for i := range s.records {
		all[i] = &s.records[i]
	}
	return all
}

// Close ends the connections. What is on its way may or may not arrive.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}

// flight are messages that the client has been given.
type flight struct {
	done chan struct{} // closed when all have an answer; then the rest is valid

	left   int
	failed []*kgo.Record // in their order
	err    error         // of the first that failed
}

// launch gives messages to the client.
func launch(client *kgo.Client, records []*kgo.Record) *flight {
	f := &flight{done: make(chan struct{}), left: len(records)}
	if f.left == 0 {
		close(f.done)
	}
	for _, r := range records {
		// The client calls back one at a time, and for a partition in order. The time of a message is
		// that of its first try.
		client.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil {
				f.failed = append(f.failed, r)
				if f.err == nil {
					f.err = err
				}
			}
			if f.left--; f.left == 0 {
				close(f.done)
			}
		})
	}
	return f
}

func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// status keeps why brokers cannot be reached, which the client tries to mend by itself.
type status struct {
	mu  sync.Mutex
	err error
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (s *status) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *status) latest() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// wall holds copies of reports whose times are of the wall clock.
type wall struct {
	record flow.Record
	drop   flow.Drop
	dns    flow.DNS
}

// at is a report with such times; it is good until the next one.
func (w *wall) at(r flow.Report, offset int64) flow.Report {
	switch {
	case r.Drop != nil:
		w.drop = *r.Drop
		shift(offset, &w.drop.Start, &w.drop.End)
		return flow.Report{Drop: &w.drop}
	case r.DNS != nil:
		w.dns = *r.DNS
		shift(offset, &w.dns.Start, &w.dns.End)
		return flow.Report{DNS: &w.dns}
	}
	w.record = *r.Record
	w.record.Start += offset
	w.record.End += offset
	return flow.Report{Record: &w.record}
}

// shift moves times; 0 stands for none.
func shift(offset int64, times ...*int64) {
	for _, t := range times {
		if *t != 0 {
			*t += offset
		}
	}
}
