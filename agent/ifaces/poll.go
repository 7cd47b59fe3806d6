package ifaces

import "time"

// poller only goes by the clock.
type poller struct {
	ticker *time.Ticker
	woken  chan struct{}
	done   chan struct{}
	ended  chan struct{}
}

func newPoller(every time.Duration) *poller {
	p := &poller{ticker: time.NewTicker(every), woken: make(chan struct{}), done: make(chan struct{}),
		ended: make(chan struct{})}
	go p.run()
	return p
}

func (p *poller) run() {
	defer close(p.ended)
	for {
		select {
		case <-p.ticker.C:
		case <-p.done:
			return
		}
		select {
		case p.woken <- struct{}{}:
		case <-p.done:
			return
		}
	}
}

func (p *poller) wake() <-chan struct{} { return p.woken }

func (p *poller) follow([]Namespace) error { return nil }

func (p *poller) deleted() (keys []Key, more bool) { return nil, true }

func (p *poller) close() error {
	p.ticker.Stop()
	close(p.done)
	<-p.ended
	return nil
}
