// Package ipfix sends flow records to collectors of IPFIX (RFC 7011), over UDP, TCP or TLS.
package ipfix

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/flow"
)

// Options of an IPFIX sink.
type Options struct {
	// Address is the collector's host:port. Collectors listen on port 4739, or 4740 for TLS.
	Address string `yaml:"address"`
	// Transport is udp or tcp; empty: udp.
	Transport string `yaml:"transport"`
	// TLS secures a connection over tcp; nil: it is plain.
	TLS *certs.Options `yaml:"tls"`
	// Domain is the observation domain, by which a collector tells exporters apart that share an
	// address.
	Domain uint32 `yaml:"domain"`
	// Biflow puts both directions of a connection into one record (RFC 5103). A collector that
	// does not know such records sees one direction only.
	Biflow bool `yaml:"biflow"`
	// MaxMessage is how many bytes a message has at most; 0: 1400 over udp, which fits into a
	// packet, and 16384 over tcp.
	MaxMessage int `yaml:"max_message"`
	// TemplateRefresh is how often templates are sent over udp, where they can get lost; 0: each
	// minute. Over tcp they are sent once per connection.
	TemplateRefresh time.Duration `yaml:"template_refresh"`
}

// Defaults and bounds of the options.
const (
	defaultUDPMessage = 1400
	defaultTCPMessage = 16 << 10
	defaultRefresh    = time.Minute
	minMessage        = 512 // what RFC 7011, section 10.3.3, holds to fit through anything
)

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	if _, port, err := net.SplitHostPort(o.Address); err != nil || port == "" {
		return fmt.Errorf("address: %q; want host:port", o.Address)
	}
	switch o.Transport {
	case "", "udp":
		if o.TLS != nil {
			return errors.New("tls: is for the transport tcp; this one is udp")
		}
	case "tcp":
	default:
		return fmt.Errorf("transport: %q; want udp or tcp", o.Transport)
	}
	if o.MaxMessage != 0 && (o.MaxMessage < minMessage || o.MaxMessage > maxMessage) {
		return fmt.Errorf("max_message: %d; want %d to %d", o.MaxMessage, minMessage, maxMessage)
	}
	if o.TemplateRefresh < 0 {
		return fmt.Errorf("template_refresh: %v; want more than 0", o.TemplateRefresh)
	}
	if o.TLS != nil {
		if err := o.TLS.Check(); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	return nil
}

// Sink sends to a collector. It is an export.Sink.
type Sink struct {
	opts    Options
	encoder encoder
	files   *certs.Files // nil: no TLS
	refresh time.Duration

	conn      *conn // nil: there is none
	announced time.Time
	message   message
	sequence  uint32 // data records sent on the connection
	total     totals
}

// totals are what was sent since the agent started.
type totals struct{ messages, records, octets uint64 }

// Open makes a sink. It connects when it sends, so that an agent can start before its collector.
func Open(opts Options) (*Sink, error) {
	files, err := certs.Read(opts.TLS)
	if err != nil {
		return nil, err
	}
	opts.Transport = cmp.Or(opts.Transport, "udp")
	s := &Sink{opts: opts, files: files, encoder: encoder{biflow: opts.Biflow},
		refresh: cmp.Or(opts.TemplateRefresh, defaultRefresh)}
	s.message.limit = cmp.Or(opts.MaxMessage, defaultUDPMessage)
	if opts.Transport == "tcp" {
		s.message.limit = cmp.Or(opts.MaxMessage, defaultTCPMessage)
	}
	return s, nil
}

// Format implements export.Sink.
func (s *Sink) Format() string { return "ipfix-1" }

// Append implements export.Sink. IPFIX has no elements for drop and DNS records.
func (s *Sink) Append(b []byte, r flow.Report, offset int64) []byte {
	if r.Record == nil {
		return b
	}
	return s.encoder.append(b, r.Record, offset)
}

// Send implements export.Sink. Over udp it returns when the records are on their way, over tcp when
// the collector's host has them.
func (s *Sink) Send(ctx context.Context, payload []byte, _ int) error {
	if s.conn != nil && s.conn.closed() {
		if err := s.Close(); err != nil {
			return err
		}
	}
	if s.conn == nil {
		c, err := dial(ctx, s.opts, s.files)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", s.opts.Address, err)
		}
		s.conn, s.announced, s.sequence = c, time.Time{}, 0
	}
	if err := s.deliver(ctx, payload); err != nil {
		return errors.Join(fmt.Errorf("send to %s: %w", s.opts.Address, err), s.Close())
	}
	return nil
}

func (s *Sink) deliver(ctx context.Context, payload []byte) error {
	free := s.conn.limit(ctx)
	defer free()
	s.message.reset()
	if now := time.Now(); s.due(now) {
		if err := s.addAll(s.appendTotals(announcement())); err != nil {
			return err
		}
		s.announced = now
	}
	if err := s.addAll(payload); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.conn.settle(ctx)
}

// due tells whether the collector is to be told the templates.
func (s *Sink) due(now time.Time) bool {
	if s.opts.Transport == "tcp" {
		return s.announced.IsZero()
	}
	return now.Sub(s.announced) >= s.refresh
}

// appendTotals appends a set that tells how much was exported (RFC 7011, section 4.3).
func (s *Sink) appendTotals(b []byte) []byte {
	b, at := beginSet(b, exportTemplate)
	b = binary.BigEndian.AppendUint32(b, s.opts.Domain)
	b = binary.BigEndian.AppendUint64(b, s.total.messages)
	b = binary.BigEndian.AppendUint64(b, s.total.records)
	b = binary.BigEndian.AppendUint64(b, s.total.octets)
	endSet(b, at)
	return b
}

// addAll puts sets into messages, and sends those that are full.
func (s *Sink) addAll(sets []byte) error {
	for len(sets) > 0 {
		var size int
		if len(sets) >= setHeader {
			size = int(binary.BigEndian.Uint16(sets[2:]))
		}
		if size < setHeader || size > len(sets) {
			return fmt.Errorf("%w: a set is damaged", export.ErrRejected)
		}
		if !s.message.add(sets[:size]) {
			if err := s.flush(); err != nil {
				return err
			}
			if !s.message.add(sets[:size]) {
				return fmt.Errorf("%w: a record of %d bytes is larger than a message may be",
					export.ErrRejected, size)
			}
		}
		sets = sets[size:]
	}
	return nil
}

// flush sends the message at hand.
func (s *Sink) flush() error {
	if s.message.empty() {
		return nil
	}
	b := s.message.finish(time.Now(), s.sequence, s.opts.Domain)
	if _, err := s.conn.Write(b); err != nil {
		return err
	}
	s.sequence += s.message.records
	s.total.messages++
	s.total.records += uint64(s.message.records)
	s.total.octets += uint64(len(b))
	s.message.reset()
	return nil
}

// Close ends the connection.
func (s *Sink) Close() error {
	c := s.conn
	if s.conn = nil; c == nil {
		return nil
	}
	if err := c.close(); err != nil {
		return fmt.Errorf("close the connection to %s: %w", s.opts.Address, err)
	}
	return nil
}
