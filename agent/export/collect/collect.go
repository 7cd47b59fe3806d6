// Package collect is a receiver of flow records: a gRPC server that writes what agents send as JSON
// lines, each record once.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/flow"
)

// maxMessage is how large a message may be, in bytes. weir's own have up to about one MiB.
const maxMessage = 16 << 20

// Options of a collector.
type Options struct {
	// TLS secures connections; with a CA, agents need a certificate. nil: connections are plain.
	TLS *certs.Options
	// Sink takes the records; Append and Send are called by one goroutine at a time.
	Sink export.Sink
	Log  *slog.Logger
}

// Stats is what was received.
type Stats struct {
	Records uint64 // written
	Repeats uint64 // that were written before, and left out
	Refused uint64 // messages that could not be read
}

// Collector receives records.
type Collector struct {
	pbflow.UnimplementedCollectorServer
	opts   Options
	server *grpc.Server

	mu    sync.Mutex // guards all below, and the sink
	seen  *repeats
	buf   []byte
	stats Stats
}

// New makes a collector.
func New(opts Options) (*Collector, error) {
	c := &Collector{opts: opts, seen: newRepeats(maxStreams)}
	serve := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessage)}
	if opts.TLS != nil {
		files, err := certs.Read(*opts.TLS)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		config, err := files.Server("h2")
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		serve = append(serve, grpc.Creds(credentials.NewTLS(config)))
	}
	c.server = grpc.NewServer(serve...)
	pbflow.RegisterCollectorServer(c.server, c)
	return c, nil
}

// Serve receives records until the context ends, and answers those that are on their way.
func (c *Collector) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, c.server.GracefulStop)()
	if err := c.server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Stats tells what was received.
func (c *Collector) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Send implements the gRPC service. It replies when the records are written: an agent that gets no reply
// sends them again.
func (c *Collector) Send(ctx context.Context, m *pbflow.Records) (*pbflow.CollectorReply, error) {
	all, err := decode(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.stats.Refused++
		c.opts.Log.Warn("a message is refused", "error", err)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	fresh := c.encode(all)
	if fresh > 0 {
		if err := c.opts.Sink.Send(ctx, c.buf, fresh); err != nil {
			c.opts.Log.Error("write records", "error", err)
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	}
	for _, r := range all {
		c.seen.note(idOf(r))
	}
	c.stats.Records += uint64(fresh)
	c.stats.Repeats += uint64(len(all) - fresh)
	return &pbflow.CollectorReply{}, nil
}

// encode puts the records that are new into the buffer, and counts them.
func (c *Collector) encode(all []flow.Report) (fresh int) {
	c.buf = c.buf[:0]
	for _, r := range all {
		if !c.seen.has(idOf(r)) {
			c.buf = c.opts.Sink.Append(c.buf, r, 0)
			fresh++
		}
	}
	return fresh
}

func decode(m *pbflow.Records) ([]flow.Report, error) {
	all := make([]flow.Report, len(m.GetEntries()))
	for i, e := range m.GetEntries() {
		var err error
		if all[i], err = pbflow.Decode(e); err != nil {
			return nil, fmt.Errorf("entries[%d].%w", i, err)
		}
	}
	return all, nil
}
