package process

import "time"

// How long a process waits before it is started again.
const (
	FirstWait   = 250 * time.Millisecond
	LongestWait = time.Minute
	// Stable is how long a process must have run for the wait to begin anew.
	Stable = time.Minute
)

// backoff doubles the wait with each start that was in vain.
type backoff struct{ last time.Duration }

// next is how long to wait after a process that has run for so long.
func (b *backoff) next(ran time.Duration) time.Duration {
	if ran >= Stable || b.last == 0 {
		b.last = FirstWait
	} else {
		b.last = min(2*b.last, LongestWait)
	}
	return b.last
}
