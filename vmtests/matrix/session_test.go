package matrix

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/vmtests/wire"
)

// fakeMachine is a machine whose guest is a function in this process.
type fakeMachine struct {
	line    net.Conn
	console string
	done    chan struct{}
	starved func() time.Duration
	killed  bool
}

func (f *fakeMachine) Kill()                 { f.killed = true; _ = f.line.Close() }
func (f *fakeMachine) Done() <-chan struct{} { return f.done }
func (f *fakeMachine) Interrupt() error      { close(f.done); return nil }
func (f *fakeMachine) Printed() string       { return f.console }
func (f *fakeMachine) Complaint() string     { return "" }

func (f *fakeMachine) Starved() time.Duration {
	if f.starved == nil {
		return 0
	}
	return f.starved()
}

var quick = Limits{Silence: 600 * time.Millisecond, Scenario: 600 * time.Millisecond,
	Busy: 2 * time.Second, Grace: 300 * time.Millisecond}

// alive are limits for guests that beat: a busy host may let them wait between two beats.
var alive = Limits{Silence: time.Minute, Scenario: quick.Scenario, Busy: quick.Busy, Grace: time.Minute}

// guestLine is the guest's end of the line.
type guestLine struct {
	t *testing.T
	w *wire.Writer
	r *wire.Reader
}

func (g guestLine) start(i int) { g.send(wire.TypeStart, wire.Start{Index: i}) }

func (g guestLine) end(i int, v result.Verdict, kernel ...string) {
	g.send(wire.TypeEnd, wire.End{Index: i, Kernel: kernel,
		Scenario: result.Scenario{Verdict: v, Millis: 5}})
}

// send ignores errors: the host may hang up when it has seen enough.
func (g guestLine) send(t wire.Type, v any) { _ = g.w.Send(t, v) }

// converse runs a session with a guest that is a function; the line ends when it returns. The
// jobs are a, b and c.
func converse(t *testing.T, m *fakeMachine, guest func(guestLine)) (ending, *session) {
	t.Helper()
	return converseWithin(t, quick, m, guest)
}

func converseWithin(t *testing.T, limits Limits, m *fakeMachine, guest func(guestLine)) (ending, *session) {
	t.Helper()
	host, far := net.Pipe()
	m.line, m.done = host, make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer far.Close()
		g := guestLine{t, wire.NewWriter(far), wire.NewReader(far)}
		if _, err := wire.ReceiveOrders(g.r, g.w); err == nil {
			guest(g)
		}
	}()
	s := newSession(m, host, limits, wire.Orders{
		Jobs: []runner.Job{{Name: "a"}, {Name: "b"}, {Name: "c"}}})
	e := s.run(context.Background())
	if e.culprit != noScenario {
		e.apply(s.results, s.orders.Jobs[e.culprit].Name)
		s.passedOver()
	}
	_ = host.Close()
	<-ended
	return e, s
}

// verdicts writes the verdicts of a, b and c in short.
func verdicts(s *session) string {
	var words []string
	for _, r := range s.results {
		if r == nil {
			words = append(words, "-")
			continue
		}
		words = append(words, string(r.Verdict))
	}
	return strings.Join(words, " ")
}

// warning is a line that a kernel prints with a stack of its own.
const warning = "[    1.000000] WARNING: CPU: 0 PID: 1 at net/x.c:1"

type sessionCase struct {
	guest    func(guestLine)
	console  string
	verdicts string
	reason   string  // of the ending
	limits   *Limits // nil: quick
}

var sessionCases = map[string]sessionCase{
	"all is well": {
		guest: func(g guestLine) {
			for i := range 3 {
				g.start(i)
				g.send(wire.TypeBeat, nil)
				g.end(i, result.Pass)
			}
			g.send(wire.TypeBye, wire.Bye{Planned: 3, Recorded: 3})
		},
		verdicts: "pass pass pass",
	},
	"panic": {
		guest:    func(g guestLine) { g.start(0); g.end(0, result.Pass); g.start(1) },
		console:  "weir: scenario 1 starts\r\n[ 1.0] Kernel panic - not syncing: boom\r\n",
		verdicts: "pass panic -",
		reason:   "kernel panic: boom",
	},
	"panic before any scenario": {
		guest:    func(guestLine) {},
		console:  "[    1.0] Kernel panic - not syncing: early\n",
		verdicts: "- - -",
		reason:   "kernel panic: early",
	},
	"power-off": {
		guest:    func(g guestLine) { g.start(0) },
		console:  "weir: scenario 0 starts\n",
		verdicts: "exit - -",
		reason:   "without a word",
	},
	"panic of another scenario": {
		guest: func(g guestLine) { g.start(0); g.end(0, result.Pass); g.start(1) },
		console: "[    1.0] Kernel panic - not syncing: quoted by scenario 0\n" +
			"[    1.1] weir: scenario 1 starts\n",
		verdicts: "pass exit -",
	},
	"dead in the middle of a frame": {
		guest: func(g guestLine) {
			g.start(0)
			_ = g.w.Raw(wire.Append(nil, wire.Frame{Type: wire.TypeBeat})[:7])
		},
		console:  "weir: scenario 0 starts\nKernel panic - not syncing: cut\n",
		verdicts: "panic - -",
		reason:   "cut",
	},
	"worker dies in the middle of a frame": {
		guest: func(g guestLine) {
			g.start(0)
			_ = g.w.Raw([]byte("half"))
			g.send(wire.TypeDied, wire.Died{How: "exit status 2", Stderr: "panic: x\n..."})
		},
		verdicts: "exit - -",
		reason:   "exit status 2: panic: x",
	},
	"noise": {
		guest: func(g guestLine) {
			g.start(0)
			_ = g.w.Raw([]byte("noise"))
			g.end(0, result.Pass)
		},
		verdicts: "corrupt - -",
		reason:   "belong to no frame",
	},
	"a damaged frame, and nothing after it": {
		guest: func(g guestLine) {
			g.start(0)
			frame := wire.Append(nil, wire.Frame{Type: wire.TypeBeat, Body: []byte("{}")})
			frame[len(frame)-1] ^= 1
			_ = g.w.Raw(frame)
			g.waitHangUp()
		},
		verdicts: "corrupt - -",
	},
	"warning": {
		guest:    func(g guestLine) { g.start(0); g.end(0, result.Pass, warning) },
		verdicts: "splat - -",
		reason:   "WARNING: CPU: 0 PID: 1 at net/x.c:1",
	},
	"warning in a red scenario": {
		guest:    func(g guestLine) { g.start(0); g.end(0, result.Fail, warning) },
		verdicts: "splat - -",
		reason:   "(and fail: )",
	},
	"late warning": {
		guest: func(g guestLine) {
			g.start(0)
			g.end(0, result.Pass, "harmless")
			g.send(wire.TypeLate, wire.Late{Index: 0, Kernel: []string{warning}})
		},
		verdicts: "splat - -",
	},
	"harmless lines": {
		guest: func(g guestLine) {
			for i := range 3 {
				g.start(i)
				g.end(i, result.Pass, "link is up")
				g.send(wire.TypeLate, wire.Late{Index: i, Kernel: []string{"link is down"}})
			}
			g.send(wire.TypeBye, wire.Bye{Planned: 3, Recorded: 3})
		},
		verdicts: "pass pass pass",
	},
	"record lost in the middle": {
		guest: func(g guestLine) {
			g.start(0)
			g.end(0, result.Pass)
			g.start(1)
			g.start(2)
			g.end(2, result.Pass)
			g.send(wire.TypeBye, wire.Bye{Planned: 3, Recorded: 3})
		},
		verdicts: "pass missing pass",
	},
	"lost, then panic": {
		guest:    func(g guestLine) { g.start(0); g.start(1) },
		console:  "weir: scenario 1 starts\nKernel panic - not syncing: x\n",
		verdicts: "missing panic -",
	},
	"early good-bye": {
		guest: func(g guestLine) {
			g.start(0)
			g.end(0, result.Fail)
			g.send(wire.TypeBye, wire.Bye{Planned: 3, Recorded: 1})
		},
		verdicts: "fail missing missing",
	},
	"two records": {
		guest:    func(g guestLine) { g.start(0); g.end(0, result.Pass); g.end(0, result.Pass) },
		verdicts: "corrupt - -",
		reason:   "two records",
	},
	"no such scenario": {
		guest:    func(g guestLine) { g.start(0); g.end(7, result.Pass) },
		verdicts: "corrupt - -",
	},
	"silence": {
		guest:    func(g guestLine) { g.start(0); g.waitHangUp() },
		verdicts: "hang - -",
		reason:   "no sign of life",
	},
	"stuck, and returns when given up": {
		limits: &alive,
		guest: func(g guestLine) {
			g.start(0)
			stop := g.beat(0)
			f, _ := g.r.Next()
			require.Equal(g.t, wire.TypeCancel, f.Type)
			close(stop)
			g.end(0, result.Hang)
		},
		verdicts: "hang - -",
		reason:   "no end within",
	},
	"slow": {
		limits: &alive,
		guest: func(g guestLine) {
			g.start(0)
			stop := g.beat(0.9)
			<-time.After(2 * quick.Scenario)
			close(stop)
			for i := range 3 {
				g.end(i, result.Pass)
			}
			g.send(wire.TypeBye, wire.Bye{Planned: 3, Recorded: 3})
		},
		verdicts: "pass pass pass",
	},
	"busy for ever": {
		limits: &alive,
		guest: func(g guestLine) {
			g.start(0)
			stop := g.beat(1)
			_, _ = g.r.Next()
			close(stop)
			g.end(0, result.Hang)
		},
		verdicts: "hang - -",
		reason:   "no end within 2s: ",
	},
	"stuck, and does not listen": {
		guest: func(g guestLine) {
			g.start(0)
			stop := g.beat(0)
			_, _ = g.r.Next()
			g.waitHangUp()
			close(stop)
		},
		verdicts: "hang - -",
		reason:   "no answer to giving it up",
	},
}

func TestSession(t *testing.T) {
	for name, tt := range sessionCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := quick
			if tt.limits != nil {
				limits = *tt.limits
			}
			e, s := converseWithin(t, limits, &fakeMachine{console: tt.console}, tt.guest)
			require.Equal(t, tt.verdicts, verdicts(s))
			require.Contains(t, e.reason, tt.reason)
			for _, r := range s.results {
				require.True(t, r == nil || r.Name != "")
			}
		})
	}
}

// waitHangUp reads until the host closes the line.
func (g guestLine) waitHangUp() {
	for {
		if _, err := g.r.Next(); err != nil {
			return
		}
	}
}

// beat gives signs of life until the channel is closed, of a guest that works for a share of its
// time.
func (g guestLine) beat(busy float64) chan struct{} {
	stop := make(chan struct{})
	start := time.Now()
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				ms := busy * float64(time.Since(start).Milliseconds())
				if g.w.Send(wire.TypeBeat, wire.Beat{BusyMs: int64(ms)}) != nil {
					return
				}
			}
		}
	}()
	return stop
}

// On a busy host a guest gets no CPU for a while. That is not its fault.
func TestStarvedIsNotSilent(t *testing.T) {
	begin := time.Now()
	m := &fakeMachine{starved: func() time.Duration { return time.Since(begin) * 9 / 10 }}
	e, s := converse(t, m, func(g guestLine) {
		g.start(0)
		<-time.After(2 * quick.Silence)
		for i := range 3 {
			g.end(i, result.Pass)
		}
		g.send(wire.TypeBye, wire.Bye{Planned: 3, Recorded: 3})
	})
	require.Equal(t, result.Pass, e.verdict, e.reason)
	require.Equal(t, "pass pass pass", verdicts(s))
}

func TestInterrupted(t *testing.T) {
	host, far := net.Pipe()
	defer far.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m := &fakeMachine{line: host, done: make(chan struct{})}
	go func() { _, _ = wire.NewReader(far).Next() }()
	s := newSession(m, host, quick, wire.Orders{Jobs: []runner.Job{{Name: "a"}}})
	e := s.run(ctx)
	require.Equal(t, result.Error, e.verdict)
	require.Equal(t, noScenario, e.culprit)
}
