package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirnet/weir/agent/control"
)

// pulse tells whether the agent does its work. It has a lock of its own, so that it answers also when
// a sweep hangs. It goes by the wall's monotonic clock, not the agent's.
type pulse struct {
	mu      sync.Mutex
	limit   time.Duration // between two sweeps that succeed; 0: none
	since   time.Time     // when the agent started
	good    time.Time     // when a sweep last succeeded
	running bool          // from the start until the stop begins
	sweeps  control.Sweeps
}

// minLimit leaves time for sweeps of large tables on a busy machine.
const minLimit = time.Minute

// start says that the agent watches now.
func (p *pulse) start(cfg *Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.good, p.running = time.Now(), true
	p.expect(cfg)
}

// setLimit is for a configuration that has changed.
func (p *pulse) setLimit(cfg *Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expect(cfg)
}

// expect says how often there is a sweep. On a virtual clock nobody knows.
func (p *pulse) expect(cfg *Config) {
	p.limit = max(minLimit, 3*cfg.longest())
	if cfg.Clock.Virtual {
		p.limit = 0
	}
}

// swept tells of a sweep.
func (p *pulse) swept(begun time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.sweeps.Add(now.Sub(begun), now, err)
	if err == nil {
		p.good = now
	}
}

// stop says that the agent is ending.
func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = false
}

func (p *pulse) read() (since time.Time, s control.Sweeps) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since, p.sweeps
}

// healthy is nil, or an error that says since when no sweep has succeeded.
func (p *pulse) healthy(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	silent := now.Sub(p.good)
	if !p.running || p.limit == 0 || silent <= p.limit {
		return nil
	}
	err := fmt.Errorf("no sweep has succeeded for %v", silent.Round(time.Second))
	if p.sweeps.Error != "" {
		err = fmt.Errorf("%w: %s", err, p.sweeps.Error)
	}
	return err
}

func (p *pulse) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return errors.New("the agent does not watch: it starts, or it ends")
	}
	return nil
}

// Healthy is nil when the agent does its work, else what is wrong. It never waits for a sweep.
func (a *Agent) Healthy() error { return a.pulse.healthy(time.Now()) }

// Ready is nil when the interfaces that were there at the start are watched and the agent is healthy. A sink that is down is no reason:
// what it is for waits in its queue.
func (a *Agent) Ready() error {
	if err := a.pulse.ready(); err != nil {
		return err
	}
	return a.Healthy()
}
