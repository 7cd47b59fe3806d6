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
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
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
	// Dedupe leaves records out that tell of packets which another agent tells of, too, as long as that one
	// goes on and for so long after it; 0: it does not.
	Dedupe time.Duration
	// JustMark has such records marked instead.
	JustMark bool
	// Clock gives the time for that; nil: time.Now.
	Clock func() time.Time
	// Sink takes the records; Append and Send are called by one goroutine at a time.
	Sink export.Sink
	Log  *slog.Logger
}

// Stats is what was received.
type Stats struct {
	Records uint64 // written
	Repeats uint64 // that were written before, and left out
	// Duplicates are of packets that another agent has told of: left out, or written with a mark.
	Duplicates uint64
	Refused    uint64 // messages that could not be read
}

// Collector receives records.
type Collector struct {
	pbflow.UnimplementedCollectorServer
	opts   Options
	server *grpc.Server

	mu     sync.Mutex // guards all below, and the sink
	seen   *repeats
	dedupe *flow.Deduper // nil: duplicates are kept
	buf    []byte
	stats  Stats
}

// New makes a collector.
func New(opts Options) (*Collector, error) {
	c := &Collector{opts: opts, seen: newRepeats(maxStreams)}
	if opts.Dedupe > 0 {
		c.dedupe = flow.Dedupe(opts.Dedupe, opts.JustMark)
	}
	if c.opts.Clock == nil {
		c.opts.Clock = time.Now
	}
	serve := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessage)}
	files, err := certs.Read(opts.TLS)
	if err != nil {
		return nil, err
	}
	if files != nil {
		config, err := files.Server("h2")
		if err != nil {
			return nil, err
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
	now := c.encode(all, sender(ctx))
	if now.Records > 0 {
		if err := c.opts.Sink.Send(ctx, c.buf, int(now.Records)); err != nil {
			c.opts.Log.Error("write records", "error", err)
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	}
	for _, r := range all {
		c.seen.note(idOf(r))
	}
	c.stats.Records += now.Records
	c.stats.Repeats += now.Repeats
	c.stats.Duplicates += now.Duplicates
	return &pbflow.CollectorReply{}, nil
}

// encode puts the records that are to be written into the buffer, and counts what becomes of all.
func (c *Collector) encode(all []flow.Report, from string) (s Stats) {
	c.buf = c.buf[:0]
	at := c.opts.Clock()
	for _, r := range all {
		if c.seen.has(idOf(r)) {
			s.Repeats++
			continue
		}
		if c.dedupe != nil && r.Record != nil {
			keep, duplicate := c.dedupe.Keep(r.Record, from, at)
			if duplicate {
				s.Duplicates++
			}
			if !keep {
				continue
			}
		}
		c.buf = c.opts.Sink.Append(c.buf, r, 0)
		s.Records++
	}
	return s
}

// sender is the host that a message has come from.
func sender(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
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
