package chain

import (
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/chain/program"
	"github.com/weirnet/weir/agent/ifaces"
)

// Status is a chain as List tells it.
type Status struct {
	Key
	Backend string `json:"backend,omitempty"`
	// Fallback is why it has not a better backend.
	Fallback   string         `json:"fallback,omitempty"`
	Generation uint64         `json:"generation,omitempty"`
	Drift      Drift          `json:"drift,omitempty"`
	Members    []MemberStatus `json:"members"`
	// Before and After are the programs of other owners at the hook, around the chain.
	Before []hook.Program `json:"before,omitempty"`
	After  []hook.Program `json:"after,omitempty"`
	// Error is why the kernel could not be asked.
	Error string `json:"error,omitempty"`
}

// MemberStatus is a member of a chain.
type MemberStatus struct {
	Name     string         `json:"name"`
	Priority int            `json:"priority"`
	Stage    string         `json:"stage,omitempty"` // weir's own program that it is
	Object   string         `json:"object,omitempty"`
	Disabled bool           `json:"disabled,omitempty"`
	Program  ebpf.ProgramID `json:"program,omitempty"` // in the kernel; 0 when it is not
	Digest   string         `json:"digest,omitempty"`  // of what runs
	// Process is the member's process; nil: it shall have none.
	Process *process.Status `json:"process,omitempty"`
}

// List tells what was applied, and what of it is in the kernel.
func (m *Manager) List() []Status {
	all := []Status{}
	for _, r := range m.state.Chains {
		s := Status{Key: r.Key}
		err := ifaces.Do(r.Namespace, func() error { return m.status(r, &s) })
		if err != nil {
			s.Error = err.Error()
		}
		if r.gone(err) {
			s.Drift = Gone
		}
		all = append(all, s)
	}
	return all
}

func (m *Manager) status(r *record, s *Status) error {
	s.Members = memberStatus(r.Members)
	m.addProcesses(s, r.Members)
	v, err := m.look(&r.Chain)
	if err != nil {
		return err
	}
	s.Backend, s.Drift = v.backend(r.Hook), v.drift(r)
	s.Before, s.After = v.state.Others[:v.state.OwnAt], v.state.Others[v.state.OwnAt:]
	if v.running == nil {
		return nil
	}
	s.Generation, s.Fallback = v.running.Number, v.running.Fallback
	s.Members = memberStatus(v.running.Members)
	m.addProcesses(s, v.running.Members)
	g, err := program.Open(generationDir(v.folder, v.running.Number))
	if err != nil {
		return err
	}
	defer g.Close()
	return members(s, v.running, g)
}

// memberStatus lists members in their order.
func memberStatus(members []Member) []MemberStatus {
	all := []MemberStatus{}
	for i := range members {
		x := &members[i]
		all = append(all, MemberStatus{Name: x.Name, Priority: x.Priority, Stage: x.Stage, Object: x.Object,
			Disabled: x.Disabled})
	}
	slices.SortFunc(all, func(a, b MemberStatus) int {
		return order(a.Priority, a.Name, b.Priority, b.Name)
	})
	return all
}

// members adds what runs to a status.
func members(s *Status, running *generation, g *program.Generation) error {
	ids, err := g.IDs()
	if err != nil {
		return err
	}
	for i, item := range running.Items {
		for j := range s.Members {
			if s.Members[j].Name == item.Name && i < len(ids) {
				s.Members[j].Program, s.Members[j].Digest = ids[i], item.Digest
			}
		}
	}
	return nil
}
