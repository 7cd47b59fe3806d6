// Package export hands flow records to receivers: to any number of sinks at a time, each with a
// queue, a goroutine and books of its own, so that one that is slow or down is no other's concern.
//
// Records are encoded once per sink, as they come, into blocks. A block goes into the sink's queue,
// in memory or in a spool on disk, and leaves it when the receiver has it. Of each sink, always:
// what was taken = sent + held in the queue + dropped, by reason.
package export

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/weirnet/weir/agent/export/spool"
	"github.com/weirnet/weir/agent/flow"
)

// Sink is one kind of receiver: how records look to it, and how they get there. One goroutine calls
// Append, another one Send.
type Sink interface {
	// Format names the encoding, in up to 40 bytes. It changes when the encoding does: what another
	// format has left in a spool is not for Send.
	Format() string
	// Append encodes a report behind b, or nothing, when the receiver has no use for its kind. It may
	// join it with the report before, when b still ends with that.
	// offset is what is to be added to the report's times to give ns since 1970.
	Append(b []byte, r flow.Report, offset int64) []byte
	// Send delivers records that Append has encoded, one behind the other. nil: the receiver has
	// them. ErrRejected, wrapped: it will not ever take them. Other errors: they are sent again, in the
	// next call, with the same payload, which stays as it is until then.
	Send(ctx context.Context, payload []byte, records int) error
	Close() error
}

// ErrRejected tells that a receiver will never take a block, however often it is sent.
var ErrRejected = errors.New("the receiver does not take it")

// Options of one sink.
type Options struct {
	Name string // in logs and counters
	Sink Sink
	// Queue is how many bytes may wait in memory. It is not used with a spool.
	Queue int64
	// Spool is a folder for a queue on disk, which survives the agent; "": the queue is in memory.
	Spool     string
	SpoolSize int64
	// Batch is how many records a block has at most.
	Batch int
	// Deadline is how long one attempt to send may take.
	Deadline time.Duration
	Retry    Retry
	// Through makes Flush wait until the sink has what was written, while it is in order and not
	// slower than Deadline: for sinks that are as safe as a spool.
	Through bool
}

// Exporter hands records to sinks. Flush and all that begins with Write are for one goroutine, the rest is
// safe for concurrent use.
type Exporter struct {
	outlets []*outlet
	clock   func() int64
	offset  int64
}

// New starts an outlet for each sink. The exporter closes the sinks, also when New fails. clock gives
// what is to be added to records' times to give ns since 1970.
func New(sinks []Options, clock func() int64, log *slog.Logger) (*Exporter, error) {
	e := &Exporter{clock: clock, offset: clock()}
	var errs []error
	for _, o := range sinks {
		out, err := newOutlet(o, log)
		if err != nil {
			errs = append(errs, err, o.Sink.Close())
			continue
		}
		e.outlets = append(e.outlets, out)
	}
	if err := errors.Join(errs...); err != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return nil, errors.Join(err, e.Close(ctx))
	}
	return e, nil
}

// Write takes a record for all sinks. It never fails: what a sink has no room for is in its books.
func (e *Exporter) Write(r *flow.Record) error { return e.report(flow.Report{Record: r}) }

// WriteDrop takes a drop record likewise.
func (e *Exporter) WriteDrop(d *flow.Drop) error { return e.report(flow.Report{Drop: d}) }

// WriteDNS takes a DNS record likewise.
func (e *Exporter) WriteDNS(d *flow.DNS) error { return e.report(flow.Report{DNS: d}) }

func (e *Exporter) report(r flow.Report) error {
	for _, o := range e.outlets {
		o.add(o.opts.Sink.Append(o.block, r, e.offset))
	}
	return nil
}

// Flush puts what was written into the queues of all sinks. Where a sink has a spool, it now
// outlives the process.
func (e *Exporter) Flush() error {
	for _, o := range e.outlets {
		o.cut()
	}
	for _, o := range e.outlets {
		o.wait()
	}
	e.offset = e.clock()
	return nil
}

// Stats tells of each sink what became of its records.
func (e *Exporter) Stats() []Stats {
	if e == nil {
		return nil
	}
	all := make([]Stats, len(e.outlets))
	for i, o := range e.outlets {
		all[i] = o.stats()
	}
	return all
}

// Close sends what is in the queues, until the context ends. What is then left stays in the spool,
// or is dropped.
func (e *Exporter) Close(ctx context.Context) error {
	errs := make([]error, len(e.outlets))
	var all sync.WaitGroup
	for i, o := range e.outlets {
		all.Go(func() { errs[i] = o.close(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Count is a number of records, and of the bytes that they are encoded in.
type Count = spool.Count

// Stats is what became of a sink's records. With a spool, they are told since that was made, and so go on
// where an earlier agent has ended. Taken = Sent + Held + all of Dropped.
type Stats struct {
	Name string `json:"name"`
	// Failing says that the latest attempt to send has failed, and Error how.
	Failing bool   `json:"failing"`
	Error   string `json:"error,omitempty"`
	Taken   Count  `json:"taken"`
	Sent    Count  `json:"sent"`
	// Held is in the queue; Spooled says that this is on disk.
	Held    Count `json:"held"`
	Spooled bool  `json:"spooled"`
	// Retried counts again whatever is sent again, since the agent started.
	Retried Count            `json:"retried"`
	Dropped map[string]Count `json:"dropped,omitempty"`
}

// Reasons for which records are dropped.
const (
	DroppedFull     = "queue-full" // the queue, or the spool
	DroppedDiskFull = "disk-full"  // no room on the spool's disk
	DroppedFailed   = "spool-failed"
	DroppedDamaged  = "spool-damaged" // what was in the spool could not be read
	DroppedRejected = "rejected"      // the receiver takes them never
	DroppedStopped  = "stopped"       // the agent has ended, and there is no spool
)

// Reasons lists them.
func Reasons() []string {
	return []string{DroppedFull, DroppedDiskFull, DroppedFailed, DroppedDamaged, DroppedRejected, DroppedStopped}
}
