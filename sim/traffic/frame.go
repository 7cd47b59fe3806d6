package traffic

import (
	"errors"
	"fmt"
	"iter"

	"github.com/google/gopacket"

	"github.com/weirnet/weir/sim/spec"
)

// Frame is one frame and the place it is sent from.
type Frame struct {
	Host      string
	Interface string
	Data      []byte // from the Ethernet header, if the interface has one, to the end, without check sequence
	// Wait asks to send the next frame only when everything that this one and those before it
	// cause is over. It is always set on the last frame of a step.
	Wait bool
}

// ErrNotTraffic is returned for steps that send nothing: advance, agent, link.
var ErrNotTraffic = errors.New("not a traffic step")

// Builder makes frames from steps. It has no state that one step leaves for the next, so a step
// always gives the same frames. It is not safe for concurrent use.
type Builder struct {
	net *network
	buf gopacket.SerializeBuffer
}

// NewBuilder makes a Builder for the topology, which must not change afterwards.
func NewBuilder(t *spec.Topology) *Builder {
	return &Builder{net: newNetwork(t), buf: gopacket.NewSerializeBuffer()}
}

// Frames yields the frames of a packet, TCP, UDP, ping, burst or replay step in sending order. After an
// error, which names the step's line, it yields nothing more. A socket step has no frames: the
// kernel makes them.
func (b *Builder) Frames(step *spec.Step) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		out := &sink{yield: yield}
		if err := b.frames(step, out); err != nil && !out.stopped {
			yield(Frame{}, err)
		}
	}
}

func (b *Builder) frames(step *spec.Step, out *sink) error {
	if err := Check(step); err != nil {
		return err
	}
	var err error
	switch {
	case step.Packet != nil:
		err = b.packet(step.Packet, out)
	case step.TCP != nil:
		err = b.tcp(step.TCP, out)
	case step.UDP != nil:
		err = b.udp(step.UDP, out)
	case step.Ping != nil:
		err = b.ping(step.Ping, out)
	case step.Burst != nil:
		err = b.burst(step.Burst, out)
	case step.Replay != nil:
		err = b.replay(step.Replay, out)
	case step.Socket != nil:
		return nil
	}
	return atLine(step.Line, err)
}

// Check reports what is wrong with a step on this topology: what the function Check reports,
// an endpoint that cannot be reached, a frame that does not fit. A burst's frames are not
// built, only its ways are looked up.
func (b *Builder) Check(step *spec.Step) error {
	if err := Check(step); err != nil {
		return err
	}
	switch {
	case step.Burst != nil:
		return atLine(step.Line, b.checkWays(step.Burst.From, step.Burst.To))
	case step.Socket != nil:
		return atLine(step.Line, b.checkWays(step.Socket.From, step.Socket.To))
	}
	for _, err := range b.Frames(step) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) checkWays(from, to spec.Endpoint) error {
	if _, err := b.net.way(from, to); err != nil {
		return err
	}
	_, err := b.net.way(to, from)
	return err
}

// sink takes the frames of one step. It holds one back, because only the end of the step shows
// which one was the last.
type sink struct {
	yield   func(Frame, error) bool
	held    Frame
	holding bool
	stopped bool
}

// errStopped unwinds a step whose consumer has had enough.
var errStopped = errors.New("consumer stopped")

// put hands over the frame before f.
func (s *sink) put(f Frame) error {
	if s.holding && !s.yield(s.held, nil) {
		s.stopped = true
		return errStopped
	}
	s.held, s.holding = f, true
	return nil
}

// end hands over the last frame.
func (s *sink) end() {
	s.held.Wait = true
	if s.holding && !s.yield(s.held, nil) {
		s.stopped = true
	}
}

// lineError carries the place of a mistake through wrapping, so that the innermost line wins.
type lineError struct {
	line int
	err  error
}

// Error puts the line before the text.
func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }

// Unwrap returns the error without its line.
func (e *lineError) Unwrap() error { return e.err }

// atLine adds the line to an error that has none yet.
func atLine(line int, err error) error {
	var has *lineError
	if err == nil || line == 0 || errors.As(err, &has) {
		return err
	}
	return &lineError{line: line, err: err}
}
