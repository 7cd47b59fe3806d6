package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// wire is one direction of a link whose packets the engine carries from one end to the other. So
// it is the engine that decides which of them arrive, how often, and in what order.
type wire struct {
	from, to int // files of the two ends
	ends     [2]spec.Port
	rules    *spec.Impair // nil: all arrive as they were sent
	rand     *rand.Rand
	number   int               // of frames since the rules hold
	held     map[int][]waiting // by the number of the frame that they wait for
}

// waiting is a frame that is held back.
type waiting struct {
	number int
	frame  []byte
}

// openWires finds the links that the engine carries.
func (e *Engine) openWires(t *spec.Topology) {
	for _, l := range t.Links {
		a, ok := e.net.Wire(l.A)
		b, same := e.net.Wire(l.B)
		if ok && same {
			e.wires = append(e.wires, newWire(a, b, l.A, l.B), newWire(b, a, l.B, l.A))
		}
	}
}

func newWire(from, to int, a, b spec.Port) *wire {
	return &wire{from: from, to: to, ends: [2]spec.Port{a, b}, held: map[int][]waiting{}}
}

// impair changes what becomes of the frames of one direction of a link. Frames that are held back
// arrive before.
func (e *Engine) impair(ctx context.Context, rules *spec.Impair) error {
	return e.thread.do(func() error {
		for _, w := range e.wires {
			if w.ends != [2]spec.Port{rules.From, rules.To} {
				continue
			}
			if err := e.release(ctx); err != nil {
				return err
			}
			w.rules, w.number = rules, 0
			w.rand = rand.New(rand.NewPCG(rules.Random.Seed, 0))
			return nil
		}
		return fmt.Errorf("impair %s > %s: the engine does not carry this link", rules.From, rules.To)
	})
}

// pump carries what was sent, and returns how many frames it took.
func (e *Engine) pump() (int, error) {
	taken := 0
	for _, w := range e.wires {
		for {
			n, err := unix.Read(w.from, e.frame[:])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if gone(err) {
				break
			}
			if err != nil {
				return taken, fmt.Errorf("carry from %s: %w", w.ends[0], err)
			}
			taken++
			if err := w.carry(slices.Clone(e.frame[:n])); err != nil {
				return taken, err
			}
		}
	}
	return taken, nil
}

// gone tells that there is nothing to read, or that the interface is down or away.
func gone(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EBADFD)
}

// carry does with a frame what the rules say.
func (w *wire) carry(frame []byte) error {
	if w.rules == nil {
		return w.deliver(frame)
	}
	w.number++
	r, n := w.rules, w.number
	drawn := w.draw()
	switch pair := slices.IndexFunc(r.Swap, func(s [2]int) bool { return s[0] == n }); {
	case slices.Contains(r.Drop, n) || drawn.drop:
		return w.letGo(n)
	case pair >= 0:
		w.hold(r.Swap[pair][1], n, frame)
		return nil
	case drawn.reorder:
		w.hold(n+1, n, frame)
		return w.letGo(n)
	}
	if len(frame) > 0 && slices.Contains(r.Corrupt, n) {
		frame[len(frame)-1] ^= 1
	}
	if len(frame) > 0 && drawn.corrupt {
		frame[w.rand.IntN(len(frame))] ^= 1 << w.rand.IntN(8)
	}
	times := 1
	if slices.Contains(r.Duplicate, n) || drawn.duplicate {
		times = 2
	}
	for range times {
		if err := w.deliver(frame); err != nil {
			return err
		}
	}
	return w.letGo(n)
}

func (w *wire) hold(until, number int, frame []byte) {
	w.held[until] = append(w.held[until], waiting{number, frame})
}

// letGo delivers what was waiting for a frame.
func (w *wire) letGo(number int) error {
	for _, h := range w.held[number] {
		if err := w.deliver(h.frame); err != nil {
			return err
		}
	}
	delete(w.held, number)
	return nil
}

// fate is what chance does to a frame.
type fate struct{ drop, duplicate, reorder, corrupt bool }

// draw takes the same four numbers for every frame, so that one chance does not move the others.
func (w *wire) draw() fate {
	c := w.rules.Random
	happens := func(percent int) bool { return w.rand.IntN(100) < percent }
	return fate{happens(c.Drop), happens(c.Duplicate), happens(c.Reorder), happens(c.Corrupt)}
}

// deliver makes a frame arrive. One that arrives at an interface that is down is lost.
func (w *wire) deliver(frame []byte) error {
	err := retry(func() error { _, err := unix.Write(w.to, frame); return err })
	// EINVAL: what chance has made of the frame is none that the kernel takes.
	if err != nil && !gone(err) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("carry to %s: %w", w.ends[1], err)
	}
	return nil
}

// release delivers all frames that are held back, in the order in which they were sent, and lets
// what they cause come to its end.
func (e *Engine) release(ctx context.Context) error {
	for {
		var all []waiting
		for _, w := range e.wires {
			all = all[:0]
			for number, list := range w.held {
				all = append(all, list...)
				delete(w.held, number)
			}
			slices.SortFunc(all, func(a, b waiting) int { return a.number - b.number })
			for _, h := range all {
				if err := w.deliver(h.frame); err != nil {
					return err
				}
				e.queued++
			}
		}
		if e.queued == 0 {
			return nil
		}
		if err := e.wait(ctx); err != nil {
			return err
		}
	}
}

// carryOn carries packets on a thread of its own, for as long as others send, and returns what
// ends that.
func (e *Engine) carryOn() (stop func() error) {
	if len(e.wires) == 0 {
		return func() error { return nil }
	}
	over, result := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result <- e.carryUntil(over)
	}()
	return func() error {
		close(over)
		return <-result
	}
}

// lookAgain is how long carryUntil sleeps in the kernel at most before it looks whether it is
// over, in milliseconds.
const lookAgain = 10

func (e *Engine) carryUntil(over <-chan struct{}) error {
	var fds []unix.PollFd
	for _, w := range e.wires {
		fds = append(fds, unix.PollFd{Fd: int32(w.from), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(fds, lookAgain); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if _, err := e.pump(); err != nil {
			return err
		}
		select {
		case <-over:
			return nil
		default:
		}
	}
}
