package chain

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/weirnet/weir/agent/chain/artifact"
	"github.com/weirnet/weir/agent/chain/process"
)

// ProcessStep is what an apply does to a member's process.
type ProcessStep struct {
	Op     ProcessOp `json:"op"`
	Member string    `json:"member"`
}

// ProcessOp is what is done to a process.
type ProcessOp string

// The operations.
const (
	StartProcess   ProcessOp = "start"
	ReplaceProcess ProcessOp = "replace" // by another version
	StopProcess    ProcessOp = "stop"
)

// String is the step for people.
func (s ProcessStep) String() string { return fmt.Sprintf("%s process of %s", s.Op, s.Member) }

// groupOf is the name of the cgroup for the processes of a store: there is one manager of it at a time.
func groupOf(state string) (string, error) {
	folder, err := filepath.Abs(state)
	if err != nil {
		return "", fmt.Errorf("find the folder of the store: %w", err)
	}
	sum := sha256.Sum256([]byte(folder))
	return "weir-chains-" + hex.EncodeToString(sum[:4]), nil
}

func processID(k Key, member string) process.ID { return process.ID{Chain: k.String(), Member: member} }

// program gets what a member's process executes, and checks all that can be checked before it is started.
func (m *Manager) program(member *Member) (*process.Program, error) {
	if err := m.processes.Allowed(); err != nil {
		return nil, err // before anything is fetched
	}
	object, err := artifact.Parse(member.Object)
	if err != nil {
		return nil, err
	}
	file, signature, err := object.Executable(member.Process.Command)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	executable, err := m.fetcher.Executable(context.Background(), file, member.Process.SHA256, signature)
	if err != nil {
		return nil, fmt.Errorf("command: %s: %w", member.Process.Command, err)
	}
	return m.processes.Prepare(member.Process, executable.Data)
}

// prepareProcesses finds out what is to be done to processes.
func (t *transaction) prepareProcesses() error {
	var errs []error
	for _, x := range t.changes {
		if err := x.prepareProcesses(t.m); err != nil {
			errs = append(errs, &ChainError{x.Key, err})
		}
	}
	return errors.Join(errs...)
}

func (x *change) prepareProcesses(m *Manager) error {
	x.digests, x.programs = map[string]string{}, map[string]*process.Program{}
	for _, member := range x.wanted() {
		p, err := m.program(member)
		if err != nil {
			return fmt.Errorf("member %s: process: %w", member.Name, err)
		}
		x.digests[member.Name] = p.Digest
		switch m.processes.Digest(processID(x.Key, member.Name)) {
		case p.Digest:
			if err := p.Close(); err != nil {
				return err
			}
			continue
		case "":
			x.Processes = append(x.Processes, ProcessStep{StartProcess, member.Name})
		default:
			x.Processes = append(x.Processes, ProcessStep{ReplaceProcess, member.Name})
		}
		x.programs[member.Name] = p
	}
	for _, id := range m.processes.IDs(x.Key.String()) {
		if x.digests[id.Member] == "" {
			x.Processes = append(x.Processes, ProcessStep{StopProcess, id.Member})
		}
	}
	slices.SortFunc(x.Processes, func(a, b ProcessStep) int { return cmp.Compare(a.Member, b.Member) })
	return nil
}

// wanted are the members that shall have a process.
func (x *change) wanted() []*Member {
	if x.forget {
		return nil
	}
	return withProcess(&x.want)
}

func withProcess(c *Chain) []*Member {
	return slices.DeleteFunc(c.enabled(), func(m *Member) bool { return m.Process == nil })
}

// stopProcesses ends the processes that are replaced or not wanted any more.
func (t *transaction) stopProcesses() error {
	var ids []process.ID
	for _, x := range t.changes {
		for _, s := range x.Processes {
			if s.Op != StartProcess {
				ids = append(ids, processID(x.Key, s.Member))
			}
		}
	}
	return t.m.processes.Remove(ids...)
}

// startProcesses starts those that were prepared.
func (t *transaction) startProcesses() {
	for _, x := range t.changes {
		for member, p := range x.programs {
			t.m.processes.Start(processID(x.Key, member), p)
		}
		x.programs = nil
	}
}

// closePrograms lets go of what was prepared and not started.
func (x *change) closePrograms() {
	for _, p := range x.programs {
		_ = p.Close() // it was only read
	}
}

// errOtherFile is why a process is not started again.
var errOtherFile = errors.New("its executable or its user is another than the one that was applied; apply it again")

// restoreProcesses starts the processes of a chain that runs. Only what was applied is executed.
func (m *Manager) restoreProcesses(k Key) error {
	r := m.record(k)
	if r == nil || len(withProcess(&r.Chain)) == 0 {
		return nil
	}
	v := m.glance(r)
	if v == nil || v.running == nil {
		return nil
	}
	var errs []error
	for _, member := range withProcess(&Chain{Members: v.running.Members}) {
		if err := m.restoreProcess(k, member, v.running.Processes[member.Name]); err != nil {
			errs = append(errs, fmt.Errorf("member %s: process: %w", member.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) restoreProcess(k Key, member *Member, applied string) error {
	p, err := m.program(member)
	if err != nil {
		return err
	}
	if p.Digest != applied {
		return errors.Join(errOtherFile, p.Close())
	}
	m.processes.Start(processID(k, member.Name), p)
	return nil
}

// Start starts the process of a member again that was stopped or has ended.
func (m *Manager) Start(k Key, member string) error {
	return m.onProcess(k, member, m.processes.Resume)
}

// Stop ends the process of a member, until Start, or until another version of it is applied, or the manager is
// another. The member's program goes on.
func (m *Manager) Stop(k Key, member string) error {
	return m.onProcess(k, member, m.processes.Pause)
}

func (m *Manager) onProcess(k Key, member string, do func(process.ID) error) error {
	if m.record(k) == nil {
		return &ChainError{k, ErrUnknown}
	}
	if err := do(processID(k, member)); err != nil {
		return &ChainError{k, fmt.Errorf("member %s: %w", member, err)}
	}
	return nil
}

// addProcesses adds what processes do to a status.
func (m *Manager) addProcesses(s *Status, members []Member) {
	for _, member := range withProcess(&Chain{Members: members}) {
		at := slices.IndexFunc(s.Members, func(x MemberStatus) bool { return x.Name == member.Name })
		now, ok := m.processes.Status(processID(s.Key, member.Name))
		if !ok {
			now.State = process.Absent
		}
		s.Members[at].Process = &now
	}
}
