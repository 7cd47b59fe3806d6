// Package grpc sends flow records to a collector by gRPC: to `weir collect`, and to those of the
// NetObserv agent, whose messages it speaks (see package pbflow).
package grpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/flow"
)

// Options of a gRPC sink.
type Options struct {
	// Address is the collector's host:port.
	Address string `yaml:"address"`
	// TLS secures the connection; nil: it is plain.
	TLS *certs.Options `yaml:"tls"`
	// Reconnect is the age at which a connection is replaced, give or take a tenth: behind a load
	// balancer that spreads connections, agents move to collectors that were added. 0: never.
	Reconnect time.Duration `yaml:"reconnect"`
}

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	if _, port, err := net.SplitHostPort(o.Address); err != nil || port == "" {
		return fmt.Errorf("address: %q; want host:port", o.Address)
	}
	if o.Reconnect < 0 {
		return fmt.Errorf("reconnect: %v; want 0 or more", o.Reconnect)
	}
	if o.TLS != nil {
		if err := o.TLS.Check(); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	return nil
}

// keepalivePing is after which silence a connection is tried: no less than what servers allow.
const keepalivePing = 5 * time.Minute

// Sink sends to a collector. It is an export.Sink.
type Sink struct {
	opts  Options
	dial  []grpc.DialOption
	conn  *grpc.ClientConn
	until time.Time // when the connection is replaced; zero: never
}

// Open makes a sink. It connects when it sends, so that an agent can start before its collector.
func Open(opts Options) (*Sink, error) {
	files, err := certs.Read(opts.TLS)
	if err != nil {
		return nil, err
	}
	s := &Sink{opts: opts}
	creds := insecure.NewCredentials()
	if files != nil {
		creds = &reloading{files: files}
	}
	s.dial = []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepalivePing,
			Timeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(encoded{})),
	}
	return s, nil
}

// Format implements export.Sink.
func (s *Sink) Format() string { return "pbflow-1" }

// Append implements export.Sink.
func (s *Sink) Append(b []byte, r flow.Report, offset int64) []byte {
	return pbflow.Append(b, r, offset)
}

// Send implements export.Sink.
func (s *Sink) Send(ctx context.Context, payload []byte, _ int) error {
	if err := s.connect(); err != nil {
		return err
	}
	err := s.conn.Invoke(ctx, pbflow.Collector_Send_FullMethodName, payload, &reply{})
	if err == nil {
		return nil
	}
	if status.Code(err) == codes.InvalidArgument {
		return fmt.Errorf("%w: %s: %w", export.ErrRejected, s.opts.Address, err)
	}
	// The next attempt connects anew, at once: pauses are the exporter's, and another of the address's
	// collectors may do better.
	return errors.Join(fmt.Errorf("send to %s: %w", s.opts.Address, err), s.Close())
}

// connect makes sure that there is a connection that is not too old.
func (s *Sink) connect() error {
	now := time.Now()
	if s.conn != nil && (s.until.IsZero() || now.Before(s.until)) {
		return nil
	}
	conn, err := grpc.NewClient(s.target(), s.dial...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", s.opts.Address, err)
	}
	if err := s.Close(); err != nil {
		return errors.Join(err, conn.Close())
	}
	s.conn = conn
	if d := s.opts.Reconnect; d > 0 {
		s.until = now.Add(d - d/10 + rand.N(d/5+1))
	}
	return nil
}

// target makes grpc look the name up with all its addresses, anew for each connection.
func (s *Sink) target() string {
	if strings.Contains(s.opts.Address, "://") {
		return s.opts.Address
	}
	return "dns:///" + s.opts.Address
}

// Close ends the connection. Nothing is on its way: Send and Close are not called at once.
func (s *Sink) Close() error {
	conn := s.conn
	if s.conn = nil; conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil {
		return fmt.Errorf("close the connection to %s: %w", s.opts.Address, err)
	}
	return nil
}
