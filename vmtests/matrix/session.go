package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/splat"
	"github.com/weirnet/weir/vmtests/wire"
)

// noScenario stands for the number of a scenario when there is none.
const noScenario = -1

// session carries out orders in one guest.
type session struct {
	vm       machine
	line     io.ReadWriter
	limits   Limits
	orders   wire.Orders
	recorded func() // called for each record

	frames  <-chan received
	watch   *stopwatch
	heard   time.Duration // when the guest last gave a sign of life, by watch
	started time.Duration // when the running scenario started
	given   time.Duration // when the running scenario was given up; zero: it was not
	why     string        // it was
	busy    time.Duration // how much the guest has worked, by its own account
	before  time.Duration // what busy was when the running scenario started
	damage  string        // what was wrong with the first bytes that did not check
	damaged time.Duration // when they came

	ready   wire.Ready         // of a guest that the session saw boot
	running int                // number of the running scenario
	last    int                // number of the scenario that started last
	results []*result.Scenario // by number; nil: no record yet
}

// received is what came over the line: a frame or a defect.
type received struct {
	frame wire.Frame
	err   error
}

// ending is how a session ended.
type ending struct {
	// verdict is Pass for a good-bye. Otherwise it is the verdict of the scenario number
	// culprit; without a culprit the guest never got as far as a scenario.
	verdict result.Verdict
	culprit int
	reason  string
	console string
	log     string
	// took is the time since the scenario that started last did, less what the host withheld.
	took time.Duration
}

// machine is what a session needs of a virtual machine besides its control line.
type machine interface {
	Kill()
	Done() <-chan struct{}
	Interrupt() error       // makes the guest tell where it hangs
	Starved() time.Duration // CPU time that the host withheld
	Printed() string        // the console
	Complaint() string      // QEMU's own
}

func newSession(vm machine, line io.ReadWriter, limits Limits, orders wire.Orders) *session {
	return &session{
		vm: vm, line: line, limits: limits, orders: orders,
		frames: receive(wire.NewReader(line)), watch: newStopwatch(vm),
		running: noScenario, last: noScenario,
		results:  make([]*result.Scenario, len(orders.Jobs)),
		recorded: func() {},
	}
}

// receive reads frames until the line ends, and closes the channel then.
func receive(r *wire.Reader) <-chan received {
	frames := make(chan received, 64)
	go func() {
		defer close(frames)
		for {
			f, err := r.Next()
			if err != nil && !errors.Is(err, wire.ErrCorrupt) {
				return
			}
			frames <- received{f, err}
		}
	}()
	return frames
}

// errNoAnswer is why orders could not be handed over.
var errNoAnswer = errors.New("the guest does not answer")

// run hands the orders over and follows the guest until it says good-bye or something happens
// that ends the session. It does not kill the machine.
func (s *session) run(ctx context.Context) ending {
	w := wire.NewWriter(s.line)
	if err := wire.SendOrders(w, s.orders, func() error { return s.awaitAck(ctx) }); err != nil {
		return s.end(result.Error, noScenario, err.Error())
	}
	return s.follow(ctx, w)
}

// follow follows a guest that has its orders.
func (s *session) follow(ctx context.Context, w *wire.Writer) ending {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.end(result.Error, noScenario, "the run was interrupted")
		case r, ok := <-s.frames:
			if !ok {
				return s.gone()
			}
			if e := s.receive(r); e != nil {
				return *e
			}
		case <-tick.C:
			if e := s.overdue(w); e != nil {
				return *e
			}
		}
	}
}

// awaitAck waits for the guest to confirm a part of the orders.
func (s *session) awaitAck(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-s.frames:
			switch {
			case !ok:
				return errNoAnswer
			case r.err != nil:
				return r.err
			case r.frame.Type == wire.TypeAck:
				s.heard = s.watch.elapsed()
				return nil
			}
		case <-tick.C:
			if s.watch.elapsed()-s.heard > s.limits.Silence {
				return errNoAnswer
			}
		}
	}
}

// receive takes note of a frame; it returns an ending when the session is over.
func (s *session) receive(r received) *ending {
	s.heard = s.watch.elapsed()
	if r.err != nil {
		if s.damage == "" {
			s.damage, s.damaged = r.err.Error(), s.heard
		}
		return nil // the next that comes tells whether the guest died in the middle of a frame
	}
	if s.damage != "" && r.frame.Type != wire.TypeDied {
		return s.over(result.Corrupt, s.last, s.damage)
	}
	switch r.frame.Type {
	case wire.TypeReady:
		if err := r.frame.Decode(&s.ready); err != nil {
			return s.over(result.Corrupt, noScenario, err.Error())
		}
	case wire.TypeBeat:
		var m wire.Beat
		if r.frame.Decode(&m) == nil {
			s.busy = time.Duration(m.BusyMs) * time.Millisecond
		}
	case wire.TypeStart:
		var m wire.Start
		if e := s.decode(r.frame, &m, &m.Index); e != nil {
			return e
		}
		s.running, s.last = m.Index, m.Index
		s.started, s.given, s.before = s.heard, 0, s.busy
	case wire.TypeEnd:
		var m wire.End
		if e := s.decode(r.frame, &m, &m.Index); e != nil {
			return e
		}
		return s.record(m)
	case wire.TypeLate:
		var m wire.Late
		if e := s.decode(r.frame, &m, &m.Index); e != nil {
			return e
		}
		return s.late(m)
	case wire.TypeDied:
		var m wire.Died
		if err := r.frame.Decode(&m); err != nil {
			return s.over(result.Corrupt, s.last, err.Error())
		}
		return s.died(m)
	case wire.TypeBye:
		var m wire.Bye
		if err := r.frame.Decode(&m); err != nil {
			return s.over(result.Corrupt, s.last, err.Error())
		}
		return s.bye(m)
	}
	return nil
}

// decode reads a frame about a scenario and checks its number.
func (s *session) decode(f wire.Frame, m any, index *int) *ending {
	if err := f.Decode(m); err != nil {
		return s.over(result.Corrupt, s.last, err.Error())
	}
	if *index < 0 || *index >= len(s.results) {
		return s.over(result.Corrupt, s.last, fmt.Sprintf("there is no scenario %d", *index))
	}
	return nil
}

// record takes the record of a scenario. A guest whose kernel has complained is not used again.
func (s *session) record(m wire.End) *ending {
	if s.results[m.Index] != nil {
		return s.over(result.Corrupt, m.Index, "two records came")
	}
	got := m.Scenario
	got.Name = s.orders.Jobs[m.Index].Name
	got.Console = joinLines(m.Kernel)
	s.running = noScenario
	s.results[m.Index] = &got
	s.recorded()
	text, bad := splat.Find(m.Kernel, got.OutOfMemory...)
	switch {
	case bad:
		return s.over(result.Splat, m.Index, blame(got, text))
	case got.Verdict == result.Hang:
		if s.given > 0 {
			got.Reason = s.why + ": " + got.Reason
		}
		return s.over(result.Hang, m.Index, got.Reason)
	}
	return nil
}

// late takes what the kernel said after a record.
func (s *session) late(m wire.Late) *ending {
	got := s.results[m.Index]
	if got == nil {
		return nil // its record was lost: a verdict of its own
	}
	text, bad := splat.Find(m.Kernel, got.OutOfMemory...)
	got.Console += joinLines(m.Kernel)
	if !bad {
		return nil
	}
	return s.over(result.Splat, m.Index, blame(*got, text))
}

// blame is the reason for a splat; what the scenario's own verdict was stays in it.
func blame(s result.Scenario, text string) string {
	if s.Verdict.Red() {
		return fmt.Sprintf("%s (and %s: %s)", text, s.Verdict, s.Reason)
	}
	return text
}

// bye checks the guest's count against the records that came.
func (s *session) bye(m wire.Bye) *ending {
	recorded := 0
	for _, r := range s.results {
		if r != nil {
			recorded++
		}
	}
	reason := ""
	if m.Recorded != recorded {
		reason = fmt.Sprintf("; the guest sent %d records, %d came", m.Recorded, recorded)
	}
	for i, r := range s.results {
		if r == nil {
			s.results[i] = &result.Scenario{Name: s.orders.Jobs[i].Name, Verdict: result.Missing,
				Reason: "no record came, although the guest said good-bye" + reason}
		}
	}
	return s.over(result.Pass, noScenario, "")
}

// died judges the death of the worker.
func (s *session) died(m wire.Died) *ending {
	reason := "the guest's process ended early: " + m.How
	if text, ok := splat.Find(m.Kernel); ok && strings.Contains(text, "ut of memory") {
		reason += ": " + text
	} else if line := firstLine(m.Stderr); line != "" {
		reason += ": " + line
	}
	e := s.end(result.Exit, s.last, reason)
	e.log = m.Stderr
	e.console = joinLines(m.Kernel)
	return &e
}

// gone judges the end of QEMU without a good-bye.
func (s *session) gone() ending {
	s.vm.Kill() // it is over already, or about to be
	console := s.slice()
	if cause, ok := panicCause(console); ok {
		return s.end(result.Panic, s.last, cause)
	}
	reason := "the machine ended without a word"
	if s.damage != "" {
		reason += ": " + s.damage
	}
	if c := s.vm.Complaint(); c != "" {
		reason += ": " + c
	}
	return s.end(result.Exit, s.last, reason)
}

// overdue looks at the deadlines.
func (s *session) overdue(w *wire.Writer) *ending {
	now := s.watch.elapsed()
	if s.damage != "" && now-s.damaged > damageGrace {
		return s.over(result.Corrupt, s.last, s.damage)
	}
	if silent := now - s.heard; silent > s.limits.Silence {
		return s.hung(fmt.Sprintf("no sign of life for %v", silent.Round(time.Second)))
	}
	if s.running == noScenario {
		return nil
	}
	if s.given == 0 {
		s.giveUp(w, now-s.started)
		return nil
	}
	if now-s.given > s.limits.Grace {
		return s.hung(s.why + ", and no answer to giving it up")
	}
	return nil
}

// giveUp gives the running scenario up if it has taken too long: it is the time in which the
// guest did nothing that tells, for under emulation there is no saying how long work takes.
func (s *session) giveUp(w *wire.Writer, took time.Duration) {
	switch {
	case took-(s.busy-s.before) > s.limits.Scenario:
		s.why = fmt.Sprintf("no end within %v of waiting", s.limits.Scenario)
	case took > s.limits.Busy:
		s.why = fmt.Sprintf("no end within %v", s.limits.Busy)
	default:
		return
	}
	s.given = s.watch.elapsed()
	// If it cannot be sent the line is closed: the machine ends.
	_ = w.Send(wire.TypeCancel, wire.Cancel{Index: s.running})
}

// hung makes a hanging guest tell where it hangs, if it can: an interrupt that cannot be masked
// makes it panic, which prints a stack.
func (s *session) hung(reason string) *ending {
	if s.vm.Interrupt() == nil {
		select {
		case <-s.vm.Done():
		case <-time.After(2 * time.Second):
		}
	}
	return s.over(result.Hang, s.last, reason)
}

func (s *session) over(v result.Verdict, culprit int, reason string) *ending {
	e := s.end(v, culprit, reason)
	return &e
}

func (s *session) end(v result.Verdict, culprit int, reason string) ending {
	e := ending{verdict: v, culprit: culprit, reason: reason, console: s.slice()}
	if s.last != noScenario {
		e.took = s.watch.elapsed() - s.started
	}
	return e
}

// slice is what is on the console since the scenario that started last.
func (s *session) slice() string {
	text := strings.ReplaceAll(s.vm.Printed(), "\r", "")
	if s.last == noScenario {
		return text
	}
	marker := wire.Marker(s.last)
	if i := strings.LastIndex(text, marker); i >= 0 {
		_, text, _ = strings.Cut(text[i+len(marker):], "\n")
	}
	return text
}
