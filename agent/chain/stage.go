package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/program"
	"github.com/weirnet/weir/agent/ifaces"
)

// The names of stages: those of weir's own programs that stand on the hooks of the traffic control.
const (
	StageFlow      = "flow" // the packet path, which counts flows
	StageDNS       = "dns"
	StageHandshake = "handshake"
	StageSockets   = "sockets"
)

// StageNames lists the names of all stages.
func StageNames() []string { return []string{StageFlow, StageDNS, StageHandshake, StageSockets} }

// stageJumps is how many tail calls a packet takes at most from a stage's stub on: of the packet path those to its
// four parts, of the others the one to their only program.
func stageJumps(stage string) int {
	if stage == StageFlow {
		return 4
	}
	return 1
}

// ErrNoStages is returned for a stage where nobody runs weir's own programs.
var ErrNoStages = errors.New("weir's own programs run in an agent that has chains, and this is none")

// StageHook is a hook of the traffic control, by the kernel's names.
type StageHook struct {
	Inode  uint64 // of the network namespace
	Index  int    // of the interface
	Egress bool
}

// A Stager runs weir's own programs as members of chains: an agent. A stage stands in a chain, where a packet meets it
// through a slot, or where the Stager has put it by itself.
type Stager interface {
	// CheckStage tells why a stage cannot be a member of a chain on a hook.
	CheckStage(stage string, at StageHook) error
	// MoveStage makes a stage ready to be in a slot from now on, or in no chain when that is nil. Until the
	// Move is concluded, a packet that meets the stage in both places is seen once. No Move: the stage is there, and
	// stays. It is called in the interface's network namespace. The slot stays the caller's.
	MoveStage(stage string, at StageHook, slot *ebpf.Map) (Move, error)
	// StageAt tells the slot of a stage that is in a chain already. The slot stays the caller's.
	StageAt(stage string, at StageHook, slot *ebpf.Map) error
}

// Move is a stage on its way. One of its methods is to be called, in the interface's network namespace.
type Move interface {
	// Conclude lets the stage go from where it was.
	Conclude() error
	// Undo lets it go from where it was to be.
	Undo() error
}

// checkStage tells what is wrong with a member that is a stage.
func (m *Member) checkStage(path string, kind hook.Kind) error {
	if !slices.Contains(StageNames(), m.Stage) {
		return wrong(path+".stage", "%q; want one of %s", m.Stage, strings.Join(StageNames(), ", "))
	}
	if kind == hook.XDP {
		return wrong(path+".stage", "%s is a program of the traffic control; want it in a chain at %s or %s", m.Stage,
			hook.Ingress, hook.Egress)
	}
	for _, f := range []struct {
		field string
		given bool
	}{
		{"object", m.Object != ""}, {"sha256", m.SHA256 != ""}, {"signature", m.Signature != ""},
		{"program", m.Program != ""}, {"constants", len(m.Constants) > 0}, {"maps", len(m.Maps) > 0},
		{"metrics", len(m.Metrics) > 0}, {"process", m.Process != nil},
	} {
		if f.given {
			return wrong(path+"."+f.field, "a member is a stage of weir's own or an object, and this one has `stage`")
		}
	}
	if m.ProceedOn != nil {
		return wrong(path+".proceed_on", "leave it out: packets always go on after a stage")
	}
	return nil
}

// stageTwice finds a stage that two enabled members are.
func (c *Chain) stageTwice(path string) error {
	seen := map[string]bool{}
	for i := range c.Members {
		m := &c.Members[i]
		if m.Stage == "" || m.Disabled {
			continue
		}
		if seen[m.Stage] {
			return wrong(fmt.Sprintf("%s.members[%d].stage", path, i), "%s is there twice; a packet would be counted twice", m.Stage)
		}
		seen[m.Stage] = true
	}
	return nil
}

// stageItem is a stage for the planner.
func (m *Member) stageItem() plan.Item {
	sum := sha256.Sum256(fmt.Appendf(nil, "stage %s, closed: %t", m.Stage, m.Fail == FailClosed))
	return plan.Item{Name: m.Name, Digest: hex.EncodeToString(sum[:16])}
}

// stageMember is a stage that is to be built.
func (m *Member) stageMember(kind hook.Kind) program.Member {
	built := program.Stage(kind, m.Name, m.Stage, stageJumps(m.Stage))
	built.FailClosed = m.Fail == FailClosed
	return built
}

// stagesOf are the enabled members that are stages, by the stage.
func stagesOf(members []Member) map[string]string {
	all := map[string]string{}
	for i := range members {
		if m := &members[i]; m.Stage != "" && !m.Disabled {
			all[m.Stage] = m.Name
		}
	}
	return all
}

// slots opens the slots of the stages in a generation, which may be nil. They stay the generation's.
func slots(members []Member, g *program.Generation) (map[string]*ebpf.Map, error) {
	all := map[string]*ebpf.Map{}
	if g == nil {
		return all, nil
	}
	for stage, name := range stagesOf(members) {
		slot, err := g.Slot(name, stage)
		if err != nil {
			return nil, err
		}
		all[stage] = slot
	}
	return all, nil
}

// stageHook is a chain's hook as a Stager knows it.
func (v *view) stageHook(kind hook.Kind) StageHook {
	return StageHook{Inode: v.iface.Inode, Index: v.iface.Index, Egress: kind == hook.Egress}
}

// checkStages asks whether somebody runs the stages of all chains.
func (t *transaction) checkStages() error {
	var errs []error
	for _, x := range t.changes {
		if x.forget {
			continue
		}
		for _, m := range x.want.enabled() {
			if m.Stage == "" {
				continue
			}
			err := ErrNoStages
			if t.m.opts.Stages != nil {
				err = t.m.opts.Stages.CheckStage(m.Stage, x.view.stageHook(x.Hook))
			}
			if err != nil {
				errs = append(errs, &ChainError{x.Key, fmt.Errorf("member %s: stage %s: %w", m.Name, m.Stage, err)})
			}
		}
	}
	return errors.Join(errs...)
}

// moveStages gets the stages that come and go ready, before packets see anything of it.
func (t *transaction) moveStages() error {
	if t.m.opts.Stages == nil {
		return nil
	}
	for _, x := range t.changes {
		if !x.swaps() {
			continue
		}
		if err := ifaces.Do(x.Namespace, func() error { return x.moveStages(t.m.opts.Stages) }); err != nil {
			return &ChainError{x.Key, err}
		}
	}
	return nil
}

// moveStages must be called in the namespace.
func (x *change) moveStages(stager Stager) error {
	to, err := slots(x.want.Members, x.next)
	if err != nil {
		return err
	}
	for _, stage := range StageNames() {
		move, err := stager.MoveStage(stage, x.view.stageHook(x.Hook), to[stage])
		if err != nil {
			return fmt.Errorf("stage %s: %w", stage, err)
		}
		if move != nil {
			x.moves = append(x.moves, move)
		}
	}
	return nil
}

// endMoves ends what moveStages has begun.
func (t *transaction) endMoves(end func(Move) error) error {
	var errs []error
	for _, x := range t.changes {
		errs = append(errs, x.endMoves(end))
	}
	return errors.Join(errs...)
}

func (x *change) endMoves(end func(Move) error) error {
	moves := x.moves
	x.moves = nil
	if len(moves) == 0 {
		return nil
	}
	return ifaces.Do(x.Namespace, func() error {
		var errs []error
		for _, move := range slices.Backward(moves) {
			errs = append(errs, end(move))
		}
		return errors.Join(errs...)
	})
}

// dropMoves ends what a change that failed midway has left: a stage is where packets meet it.
func (x *change) dropMoves() {
	end := Move.Undo
	if x.swapped {
		end = Move.Conclude
	}
	_ = x.endMoves(end) // the failure was told
}

// tellStages tells the Stager of the stages of a chain that runs.
func (m *Manager) tellStages(r *record) error {
	v := m.glance(r)
	if m.opts.Stages == nil || v == nil || v.running == nil || len(stagesOf(v.running.Members)) == 0 {
		return nil
	}
	g, err := program.Open(generationDir(v.folder, v.running.Number))
	if err != nil {
		return err
	}
	defer g.Close()
	all, err := slots(v.running.Members, g)
	if err != nil {
		return err
	}
	for stage, slot := range all {
		if err := m.opts.Stages.StageAt(stage, v.stageHook(r.Hook), slot); err != nil {
			return fmt.Errorf("stage %s: %w", stage, err)
		}
	}
	return nil
}
