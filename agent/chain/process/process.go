package process

import (
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// StopTimeout is how long a process may take to end after SIGTERM, before SIGKILL.
const StopTimeout = 5 * time.Second

// State is what a process does.
type State string

// The states.
const (
	Starting State = "starting"
	Running  State = "running"
	Waiting  State = "waiting" // it has ended, and is started again after a while
	Ended    State = "ended"   // by itself, and is not started again
	Stopped  State = "stopped" // by a request
	Absent   State = "absent"  // nobody runs it; a Supervisor has no such process
)

// Status is a process as it is.
type Status struct {
	State State     `json:"state"`
	PID   int       `json:"pid,omitempty"` // while it runs
	Since time.Time `json:"since"`         // in this state
	// Restarts is how often it was started again by itself.
	Restarts uint64 `json:"restarts"`
	// LastExit is how it has ended the last time, or why it could not be started; empty: it has not ended yet.
	LastExit string `json:"last_exit,omitempty"`
}

// process starts a program again and again, until it is stopped.
type process struct {
	program *Program
	name    string // of its cgroup
	groups  *groups
	clock   Clock
	log     *slog.Logger

	mu     sync.Mutex // guards status
	status Status

	stopping chan struct{} // nil when it is stopped
	done     chan struct{}
}

// now is the status.
func (p *process) now() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// become notes a state.
func (p *process) become(s State, change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.State, p.status.Since, p.status.PID = s, p.clock.Now(), 0
	if change != nil {
		change(&p.status)
	}
}

// start begins, unless it has begun.
func (p *process) start() {
	if p.stopping != nil {
		return
	}
	p.become(Starting, nil)
	p.stopping, p.done = make(chan struct{}), make(chan struct{})
	go func(stopping <-chan struct{}, done chan<- struct{}) {
		defer close(done)
		runtime.LockOSThread() // the kernel ends the process when its parent, which is this thread, ends
		defer runtime.UnlockOSThread()
		p.run(stopping)
	}(p.stopping, p.done)
}

// stop ends it, waits until it has ended, and says so in its state.
func (p *process) stop() {
	if p.stopping == nil {
		return
	}
	close(p.stopping)
	<-p.done
	p.stopping = nil
	p.become(Stopped, nil)
}

// restart begins again what has ended by itself or was stopped, and leaves alone what runs or waits.
func (p *process) restart() {
	if p.stopping != nil && isClosed(p.done) {
		p.stopping = nil
	}
	p.start()
}

// run runs the program until it is stopped or shall not be started again.
func (p *process) run(stopping <-chan struct{}) {
	var wait backoff
	for {
		began := p.clock.Now()
		exit, clean := p.once(stopping)
		ended := func(s *Status) { s.LastExit = exit }
		if isClosed(stopping) {
			p.become(Stopped, ended)
			return
		}
		if p.program.spec.Restart == Never || p.program.spec.Restart == OnFailure && clean {
			p.become(Ended, ended)
			p.log.Info("process has ended", "exit", exit)
			return
		}
		pause := wait.next(p.clock.Now().Sub(began))
		p.become(Waiting, ended)
		p.log.Warn("process has ended, and is started again", "exit", exit, "in", pause)
		again, giveUp := p.clock.After(pause)
		select {
		case <-stopping:
			giveUp()
			return
		case <-again:
		}
		p.become(Starting, func(s *Status) { s.Restarts++ })
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// once runs the program once, and tells how it has ended, and whether that was with status 0.
func (p *process) once(stopping <-chan struct{}) (exit string, clean bool) {
	out, err := newOutput(p.log, p.clock)
	if err != nil {
		return err.Error(), false
	}
	defer func() { p.complain(out.close()) }()
	in, err := p.groups.make(p.name, p.program.spec.Limits)
	if err != nil {
		return err.Error(), false
	}
	c, err := p.program.start(in, out.write)
	if err != nil {
		p.complain(in.remove())
		return "start it: " + err.Error(), false
	}
	p.become(Running, func(s *Status) { s.PID = c.cmd.Process.Pid })
	p.log.Info("process runs", "pid", c.cmd.Process.Pid)
	p.wait(c, stopping)
	failed, err := c.finish()
	p.complain(err)
	if failed != nil {
		return failed.Error(), false
	}
	return "exit status 0", err == nil
}

// complain logs what does not keep the process from being run.
func (p *process) complain(err error) {
	if err != nil {
		p.log.Error("process", "error", err)
	}
}

// wait waits until the child has ended, and ends it when that is asked for.
func (p *process) wait(c *child, stopping <-chan struct{}) {
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		p.watch(c, stopping, ended)
	}()
	p.complain(c.ended())
	close(ended)
	<-watched // it sends no more signals
}

// watch sends a child signals that is to be stopped.
func (p *process) watch(c *child, stopping, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-stopping:
	}
	c.signal(unix.SIGTERM)
	late, giveUp := p.clock.After(StopTimeout)
	defer giveUp()
	select {
	case <-ended:
	case <-late:
		c.signal(unix.SIGKILL)
	}
}
