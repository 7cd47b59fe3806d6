package matrix

import "time"

// Limits are how long the matrix waits for a guest. Time in which a busy host gave the machine
// no CPU does not count.
type Limits struct {
	Boot     time.Duration // from the start of QEMU to a guest that is ready
	Silence  time.Duration // without any sign of life
	Scenario time.Duration // for one scenario to do nothing in, before it is given up
	Busy     time.Duration // for one scenario, whatever it does
	Grace    time.Duration // for a scenario that was given up to return
	Trial    time.Duration // for a trial boot with hardware acceleration
}

// DefaultLimits suit emulation. A guest that hangs has its verdict within Silence, a scenario that
// waits for ever within Scenario plus Grace; only one that works for ever is given Busy, because
// it cannot be told from one that is slow.
var DefaultLimits = Limits{
	Boot:     90 * time.Second,
	Silence:  10 * time.Second,
	Scenario: 14 * time.Second,
	Busy:     90 * time.Second,
	Grace:    4 * time.Second,
	Trial:    5 * time.Second,
}

// exact are the limits for guests whose clock is not the host's, and to which nothing may be sent: a
// scenario ends by the guest's own deadline, and only a guest that is silent is given up.
func (l Limits) exact() Limits {
	l.Silence = l.Boot
	l.Scenario, l.Busy = 10*l.Boot, 10*l.Boot
	return l
}

// forEver is longer than anybody waits.
const forEver = 365 * 24 * time.Hour

// stopwatch tells how much time a machine has had.
type stopwatch struct {
	vm    interface{ Starved() time.Duration }
	start time.Time
}

func newStopwatch(vm interface{ Starved() time.Duration }) *stopwatch {
	return &stopwatch{vm: vm, start: time.Now()}
}

// elapsed is the time since the machine started, less what the host withheld.
func (s *stopwatch) elapsed() time.Duration { return time.Since(s.start) - s.vm.Starved() }

// tickEvery is how often deadlines are looked at.
const tickEvery = 200 * time.Millisecond

// damageGrace is what a guest that sent a damaged frame has to show that it is dying.
const damageGrace = 500 * time.Millisecond
