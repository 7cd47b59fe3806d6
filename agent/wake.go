package agent

import (
	"errors"
	"time"
)

// listen starts to listen to the datapath's bell: what it sends asks for drain. On a virtual clock
// nobody listens, as only the control socket is to make the agent do something.
func (a *Agent) listen(cfg *Config) (rings <-chan struct{}, stop func(), err error) {
	if cfg.Clock.Virtual {
		return nil, func() {}, nil
	}
	a.mu.Lock() // the control socket is served by now, and may replace the datapath
	bell, err := a.dp.Bell()
	a.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	heard, ended := make(chan struct{}, 1), make(chan error)
	go func() {
		for {
			rang, err := bell.Wait()
			if !rang {
				ended <- err
				return
			}
			select {
			case heard <- struct{}{}:
			default: // the drain that is to come reads these events, too
			}
		}
	}()
	return heard, func() {
		if err := errors.Join(bell.Hush(), <-ended, bell.Close()); err != nil {
			a.log.Error("listen to the datapath", "error", err)
		}
	}, nil
}

// drain reads what the packet path has handed over, between two sweeps. It tells whether a table has
// filled up in which the next sweep may make room.
func (a *Agent) drain() (full bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return false, errors.New("the agent has stopped")
	}
	return a.sweeper.drain()
}

// schedule says when to sweep: at every tick, and when a table is full, but then with a pause between
// two sweeps, lest a flood of new connections keeps a CPU busy with them.
type schedule struct {
	tick  <-chan time.Time // nil: never
	early <-chan time.Time // nil while no table is full
	last  time.Time        // when the last sweep ended
}

// swept tells that a sweep has ended.
func (s *schedule) swept() { s.last, s.early = time.Now(), nil }

// hurry makes the next sweep come as soon as may be.
func (s *schedule) hurry() { s.early = time.After(time.Until(s.last.Add(minEvery))) }
