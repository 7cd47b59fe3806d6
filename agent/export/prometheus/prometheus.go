// Package prometheus sums up flow records for Prometheus to fetch: packets and bytes by labels that
// have few values, and never more series than a bound.
package prometheus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
)

// Options of a Prometheus sink.
type Options struct {
	// Listen is the host:port at which /metrics answers.
	Listen string `yaml:"listen"`
	// Labels are those of flows; empty: protocol, interface, direction, class.
	Labels []string `yaml:"labels"`
	// MaxSeries is how many combinations of their values are told apart; 0: 1000. All others are
	// one, whose values are "other".
	MaxSeries int `yaml:"max_series"`
}

const (
	defaultSeries = 1000
	maxSeries     = 100_000
)

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	if _, port, err := net.SplitHostPort(o.Listen); err != nil || port == "" {
		return fmt.Errorf("listen: %q; want host:port", o.Listen)
	}
	for i, name := range o.Labels {
		if values[name] == nil {
			return fmt.Errorf("labels[%d]: %q; want one of %s", i, name,
				strings.Join(slices.Sorted(maps.Keys(values)), ", "))
		}
		if slices.Contains(o.Labels[:i], name) {
			return fmt.Errorf("labels[%d]: %q is there twice", i, name)
		}
	}
	if o.MaxSeries < 0 || o.MaxSeries > maxSeries {
		return fmt.Errorf("max_series: %d; want 1 to %d", o.MaxSeries, maxSeries)
	}
	return nil
}

// Sink adds up. It is an export.Sink.
type Sink struct {
	values []func(*flow.Record) string
	sums   *sums
	server *http.Server
	where  net.Addr
	ended  chan error
}

// Open makes a sink, which answers from now on.
func Open(opts Options) (*Sink, error) {
	labels := opts.Labels
	if len(labels) == 0 {
		labels = defaultLabels
	}
	limit := opts.MaxSeries
	if limit == 0 {
		limit = defaultSeries
	}
	s := &Sink{sums: newSums(labels, limit), ended: make(chan error, 1)}
	for _, name := range labels {
		s.values = append(s.values, values[name])
	}
	l, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.sums)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.where = l.Addr()
	go func() { s.ended <- s.server.Serve(l) }()
	return s, nil
}

// Addr is where the sink answers.
func (s *Sink) Addr() string { return s.where.String() }

// Format implements export.Sink.
func (s *Sink) Format() string { return "prometheus-1" }

// A block holds amounts one behind the other: the family in a byte, two numbers of eight bytes, the
// length of the labels' values in four, and these, each with a separator behind it.

const (
	separator  = 0xff // which is in no UTF-8
	headerSize = 1 + 8 + 8 + 4
)

// Append implements export.Sink.
func (s *Sink) Append(b []byte, r flow.Report, _ int64) []byte {
	at := len(b)
	b = append(b, make([]byte, headerSize)...)
	var is family
	var first, second uint64
	switch {
	case r.Drop != nil:
		is, first = drops, r.Drop.Packets
		b = appendValue(b, r.Drop.Reason)
	case r.DNS != nil:
		is, first = lookups, max(r.DNS.Messages, 1)
		b = appendValue(appendValue(b, r.DNS.Outcome), r.DNS.Rcode)
	default:
		is, first, second = flows, r.Record.Packets, r.Record.Bytes
		for _, value := range s.values {
			b = appendValue(b, value(r.Record))
		}
	}
	b[at] = byte(is)
	binary.BigEndian.PutUint64(b[at+1:], first)
	binary.BigEndian.PutUint64(b[at+9:], second)
	binary.BigEndian.PutUint32(b[at+17:], uint32(len(b)-at-headerSize))
	return b
}

// appendValue appends a label's value. The kernel lets a name of an interface have any bytes.
func appendValue(b []byte, value string) []byte {
	at := len(b)
	b = append(b, value...)
	for i := at; i < len(b); i++ {
		if b[i] == separator {
			b[i] = '?'
		}
	}
	return append(b, separator)
}

// Send implements export.Sink.
func (s *Sink) Send(_ context.Context, payload []byte, _ int) error {
	if err := s.sums.add(payload); err != nil {
		return fmt.Errorf("%w: %w", export.ErrRejected, err)
	}
	return nil
}

// Close stops answering.
func (s *Sink) Close() error {
	err := s.server.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
