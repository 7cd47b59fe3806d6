package process

import "time"

// Clock is the time; the real one, unless a test has another.
type Clock interface {
	Now() time.Time
	// After returns a channel that gets a value when so much time has passed, and a function that gives it up.
	After(time.Duration) (at <-chan time.Time, stop func())
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
