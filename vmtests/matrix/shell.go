package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/weirnet/weir/vmtests/wire"
)

// Terminal is where a shell is used.
type Terminal struct {
	Lines      <-chan string    // typed; closed at the end of input
	Interrupts <-chan os.Signal // for the command that runs
	Out        io.Writer
}

// Shell serves a shell in a guest of the configuration's only kernel until its user leaves. The
// first of the jobs, if any, is the scenario that the guest builds.
func Shell(ctx context.Context, c Config, t Terminal) error {
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	if err := c.Kernels[0].Err; err != nil {
		return err
	}
	snaps, err := newSnapshots(c.Cache, c.Binary, c.Files, c.Limits)
	if err != nil {
		return err
	}
	on, err := decide(ctx, c, snaps)
	if err != nil {
		return err
	}
	snap, err := snaps.get(ctx, c.Kernels[0].Kernel, on)
	if err != nil {
		return err
	}
	vm, err := snap.restore(ctx)
	if err != nil {
		return err
	}
	defer vm.Close()
	orders := wire.Orders{Shell: true, Jobs: c.Jobs, Now: time.Now()}
	s := newSession(vm, vm.Control, c.Limits, orders)
	w := wire.NewWriter(vm.Control)
	if err := wire.SendOrders(w, orders, func() error { return s.awaitAck(ctx) }); err != nil {
		return err
	}
	return s.shell(ctx, w, t)
}

// shell passes lines and output on. Typed lines wait for the prompt: a guest takes one at a time.
func (s *session) shell(ctx context.Context, w *wire.Writer, t Terminal) error {
	var lines <-chan string
	for {
		select {
		case <-ctx.Done():
			return nil
		case r, ok := <-s.frames:
			if !ok {
				return s.shellGone()
			}
			switch {
			case r.err != nil:
				fmt.Fprintln(t.Out, "weir:", r.err)
			case r.frame.Type == wire.TypeBye:
				return nil
			case r.frame.Type == wire.TypeOutput:
				var o wire.Output
				if r.frame.Decode(&o) == nil {
					fmt.Fprint(t.Out, o.Text)
				}
			case r.frame.Type == wire.TypePrompt:
				var p wire.Prompt
				if r.frame.Decode(&p) == nil {
					fmt.Fprint(t.Out, p.Text)
				}
				lines = t.Lines
			}
		case line, ok := <-lines:
			if !ok {
				fmt.Fprintln(t.Out)
				line = "exit"
			}
			lines = nil
			if err := w.Send(wire.TypeInput, wire.Input{Line: line}); err != nil {
				return s.shellGone()
			}
		case <-t.Interrupts:
			if err := w.Send(wire.TypeInput, wire.Input{Interrupt: true}); err != nil {
				return s.shellGone()
			}
		}
	}
}

// shellGone tells how a guest ended that should not have.
func (s *session) shellGone() error {
	s.vm.Kill()
	if cause, ok := panicCause(s.slice()); ok {
		return fmt.Errorf("the guest is gone: %s\n%s", cause, clip(s.slice()))
	}
	return errors.New(strings.TrimSpace("the guest is gone " + s.vm.Complaint()))
}
