package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// ID names a process: that of a member of a chain.
type ID struct{ Chain, Member string }

// Options say how processes are run.
type Options struct {
	Rules Rules
	// Group is the name of the cgroup that theirs are below; no other Supervisor of this host has it.
	Group string
	// Log is told what becomes of processes, and what they write; nil: nobody is.
	Log *slog.Logger
	// Clock is what waiting is measured by; nil: the real one.
	Clock Clock
}

// Supervisor runs processes. It is safe for concurrent use.
type Supervisor struct {
	rules  Rules
	groups *groups
	log    *slog.Logger
	clock  Clock

	mu  sync.Mutex
	all map[ID]*process
}

// ErrUnknown is returned for a process that there is not.
var ErrUnknown = errors.New("there is no such process")

// New makes a supervisor without processes. What an earlier one, which was killed, has left in their cgroups is ended.
func New(opts Options) (*Supervisor, error) {
	s := &Supervisor{rules: opts.Rules, groups: &groups{}, log: opts.Log, clock: opts.Clock, all: map[ID]*process{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.clock == nil {
		s.clock = realClock{}
	}
	if err := s.rules.Check(); err != nil {
		return nil, err
	}
	if !s.rules.Allow {
		return s, nil
	}
	var err error
	s.groups, err = openGroups(opts.Group)
	return s, err
}

// Allowed is an error where processes are not allowed.
func (s *Supervisor) Allowed() error {
	if !s.rules.Allow {
		return ErrNotAllowed
	}
	return nil
}

// Start starts a program, which is the supervisor's from now on, as a process that is not there yet. That the program
// cannot be executed is told by its status.
func (s *Supervisor) Start(id ID, p *Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &process{program: p, name: groupName(id), groups: s.groups, clock: s.clock,
		log: s.log.With("chain", id.Chain, "member", id.Member)}
	s.all[id] = x
	x.start()
}

// groupName is the name of a process's cgroup: chains' names have characters that files' cannot have.
func groupName(id ID) string {
	sum := sha256.Sum256([]byte(id.Chain))
	return id.Member + "-" + hex.EncodeToString(sum[:4])
}

// Remove ends processes, all at the same time, waits until they have ended, and forgets them.
func (s *Supervisor) Remove(ids ...ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wait sync.WaitGroup
	for _, id := range ids {
		if x := s.all[id]; x != nil {
			wait.Go(x.stop)
		}
	}
	wait.Wait()
	var errs []error
	for _, id := range ids {
		if x := s.all[id]; x != nil {
			errs = append(errs, x.program.Close())
			delete(s.all, id)
		}
	}
	return errors.Join(errs...)
}

// Pause ends a process, which is not started again until Resume. It is no error when it has ended already.
func (s *Supervisor) Pause(id ID) error { return s.do(id, (*process).stop) }

// Resume starts a process that was paused.
func (s *Supervisor) Resume(id ID) error { return s.do(id, (*process).restart) }

func (s *Supervisor) do(id ID, what func(*process)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[id]
	if x == nil {
		return fmt.Errorf("%s: member %s: %w", id.Chain, id.Member, ErrUnknown)
	}
	what(x)
	return nil
}

// Status is what a process does; false when there is none.
func (s *Supervisor) Status(id ID) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[id]
	if x == nil {
		return Status{}, false
	}
	return x.now(), true
}

// Digest is that of a process's program, "" when there is none.
func (s *Supervisor) Digest(id ID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.all[id]; x != nil {
		return x.program.Digest
	}
	return ""
}

// IDs lists the processes of a chain.
func (s *Supervisor) IDs(chain string) (all []ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.all {
		if id.Chain == chain {
			all = append(all, id)
		}
	}
	return all
}

// Close ends all processes.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	var ids []ID
	for id := range s.all {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	return errors.Join(s.Remove(ids...), s.groups.close())
}
