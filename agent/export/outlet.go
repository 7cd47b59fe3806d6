package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirnet/weir/agent/export/spool"
)

// maxBlock is when a block is full, in bytes: well below the 4 MiB that gRPC servers take.
const maxBlock = 1 << 20

// outlet is the way to one sink.
type outlet struct {
	opts  Options
	log   *slog.Logger
	queue queue

	block   []byte // of the records that are not yet in the queue
	records int

	more     chan struct{} // there may be something in the queue
	stopping chan struct{} // closed when the queue is to be emptied and then left
	ended    chan struct{}
	ctx      context.Context // ends when nothing more is to be sent
	cancel   context.CancelFunc

	mu       sync.Mutex
	progress sync.Cond // with mu: the queue is shorter, or the sink's state has changed
	taken    Count
	retried  Count
	failing  error
	late     bool // the attempt at hand takes longer than it may
	refusing bool // the queue was full, and was said to be
}

func newOutlet(opts Options, log *slog.Logger) (*outlet, error) {
	o := &outlet{opts: opts, log: log.With("sink", opts.Name), queue: &memory{limit: opts.Queue},
		more: make(chan struct{}, 1), stopping: make(chan struct{}), ended: make(chan struct{})}
	if opts.Spool != "" {
		s, err := spool.Open(spool.Options{Dir: opts.Spool, Size: opts.SpoolSize,
			Format: opts.Sink.Format()})
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", opts.Name, err)
		}
		o.queue = s
	}
	before := o.queue.Ledger() // of earlier agents
	o.taken = before.Written
	o.taken.Add(before.Refused())
	o.progress.L = &o.mu
	o.ctx, o.cancel = context.WithCancel(context.Background())
	go o.run()
	return o, nil
}

func count(payload []byte, records int) Count {
	return Count{Records: uint64(records), Bytes: uint64(len(payload))}
}

// add takes the block with one more record, which may be nothing.
func (o *outlet) add(block []byte) {
	if len(block) == len(o.block) {
		return
	}
	o.block = block
	o.records++
	if o.records >= o.opts.Batch || len(block) >= maxBlock {
		o.cut()
	}
}

// cut puts the block into the queue.
func (o *outlet) cut() {
	if o.records == 0 {
		return
	}
	o.mu.Lock()
	o.taken.Add(count(o.block, o.records))
	err := o.queue.Append(o.block, o.records)
	o.block, o.records = o.block[:0], 0
	news := (err != nil) != o.refusing
	o.refusing = err != nil
	o.mu.Unlock()
	switch {
	case news && err != nil:
		o.log.Warn("records are dropped", "reason", err)
	case news:
		o.log.Info("records are taken again")
	}
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// wait waits until the sink has everything, as long as it works.
func (o *outlet) wait() {
	if !o.opts.Through {
		return
	}
	late := time.AfterFunc(o.opts.Deadline, func() { o.tell(func() { o.late = true }) })
	defer late.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.failing == nil && !o.late && o.queue.Ledger().Held.Records > 0 {
		o.progress.Wait()
	}
}

// tell changes what others wait for.
func (o *outlet) tell(change func()) {
	o.mu.Lock()
	change()
	o.mu.Unlock()
	o.progress.Broadcast()
}

// run sends blocks until the outlet is closed.
func (o *outlet) run() {
	defer close(o.ended)
	for failed := 0; ; {
		payload, records, err := o.queue.Peek()
		switch {
		case err == nil:
			if !o.deliver(payload, records) {
				return
			}
			failed = 0
		case errors.Is(err, spool.ErrEmpty):
			if !o.await() {
				return
			}
		default:
			failed++
			o.judge(err)
			if !o.pause(failed) {
				return
			}
		}
	}
}

// deliver sends the first block until it is out of the queue. It returns false when that is not to be.
// A sink may still hold what it was given once, so all attempts are made with the same bytes.
func (o *outlet) deliver(payload []byte, records int) bool {
	for failed := 1; !o.send(payload, records); failed++ {
		if !o.pause(failed) {
			return false
		}
		o.tell(func() { o.retried.Add(count(payload, records)) })
	}
	return true
}

// send makes one attempt with the first block. It returns whether that is out of the queue.
func (o *outlet) send(payload []byte, records int) bool {
	ctx, cancel := context.WithTimeout(o.ctx, o.opts.Deadline)
	defer cancel()
	err := o.opts.Sink.Send(ctx, payload, records)
	take := o.queue.Done
	switch {
	case errors.Is(err, ErrRejected):
		o.log.Error("records are dropped", "records", records, "reason", err)
		take = o.queue.Discard
	case err != nil:
		o.judge(err)
		return false
	}
	if err := take(); err != nil { // it would be sent again after a restart
		o.log.Warn("keep the spool's books", "error", err)
	}
	o.judge(nil)
	return true
}

// judge notes how an attempt has ended.
func (o *outlet) judge(err error) {
	var before error
	o.tell(func() { before, o.failing, o.late = o.failing, err, false })
	switch {
	case err != nil && before == nil:
		o.log.Warn("cannot send", "error", err)
	case err == nil && before != nil:
		o.log.Info("can send again", "waiting", o.queue.Ledger().Held.Records)
	}
}

// await waits until there may be something in the queue. It returns false when there will not be.
func (o *outlet) await() bool {
	select {
	case <-o.more:
		return true
	default:
	}
	select {
	case <-o.more:
		return true
	case <-o.stopping:
		return false
	}
}

// pause waits before the next attempt. It returns false when there is to be none.
func (o *outlet) pause(failed int) bool {
	t := time.NewTimer(o.opts.Retry.after(failed))
	defer t.Stop()
	stopping := o.stopping
	if o.opts.Spool == "" {
		stopping = nil // to the end: what is not sent is lost
	}
	select {
	case <-t.C:
		return o.ctx.Err() == nil
	case <-stopping:
		return false
	case <-o.ctx.Done():
		return false
	}
}

// letGo is how long a sink may take to end an attempt whose context has ended.
const letGo = time.Second

// close sends what is left until the context ends.
func (o *outlet) close(ctx context.Context) error {
	o.cut()
	close(o.stopping)
	select {
	case <-o.ended:
	case <-ctx.Done():
	}
	o.cancel()
	select {
	case <-o.ended:
	case <-time.After(letGo):
		return fmt.Errorf("sink %s: it hangs, with %d records", o.opts.Name, o.queue.Ledger().Held.Records)
	}
	if left := o.queue.Ledger().Held; left.Records > 0 && o.opts.Spool == "" {
		o.log.Warn("records are dropped", "records", left.Records, "reason", DroppedStopped)
	} else if left.Records > 0 {
		o.log.Info("records stay in the spool", "records", left.Records)
	}
	return errors.Join(o.opts.Sink.Close(), o.queue.Close())
}

// stats tells what became of the records.
func (o *outlet) stats() Stats {
	o.mu.Lock()
	l := o.queue.Ledger()
	s := Stats{Name: o.opts.Name, Failing: o.failing != nil, Taken: o.taken, Retried: o.retried,
		Spooled: o.opts.Spool != ""}
	if o.failing != nil {
		s.Error = o.failing.Error()
	}
	o.mu.Unlock()
	s.Sent, s.Held = l.Delivered, l.Held
	select {
	case <-o.ended:
		if !s.Spooled { // nobody will send it
			s.drop(DroppedStopped, l.Held)
			s.Held = Count{}
		}
	default:
	}
	s.drop(DroppedFull, l.Full)
	s.drop(DroppedDiskFull, l.DiskFull)
	s.drop(DroppedFailed, l.Failed)
	s.drop(DroppedDamaged, l.Damaged)
	s.drop(DroppedRejected, l.Discarded)
	return s
}

func (s *Stats) drop(reason string, n Count) {
	if n == (Count{}) {
		return
	}
	if s.Dropped == nil {
		s.Dropped = map[string]Count{}
	}
	s.Dropped[reason] = n
}
