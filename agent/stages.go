package agent

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf"
)

// slotKey names a stage on a hook.
type slotKey struct {
	chain.StageHook
	stage string
}

func stageHook(h *bpf.Hook) chain.StageHook {
	return chain.StageHook{Inode: h.Namespace, Index: h.Interface, Egress: h.Egress}
}

// slotOf names a stage where the packet path is.
func slotOf(at *bpf.Attachment, stage string) slotKey { return slotKey{stageHook(&at.Hook), stage} }

// placedAt finds the attachment on a hook, nil when there is none.
func (a *Agent) placedAt(h chain.StageHook) *bpf.Attachment {
	for i := range a.placed {
		if at := a.placed[i].at; stageHook(&at.Hook) == h {
			return at
		}
	}
	return nil
}

// CheckStage tells why a stage cannot be a member of a chain on a hook.
func (a *Agent) CheckStage(stage string, h chain.StageHook) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.placedAt(h) == nil {
		return errors.New("the agent does not watch this interface; name it in its configuration's `interfaces`, " +
			"or let `discover` find it")
	}
	if stage != chain.StageFlow && a.features.watchers()[stage] == nil {
		return fmt.Errorf("the agent does not run it; name %s in its configuration's `features`", stage)
	}
	return nil
}

// StageAt tells the slot of a stage that is in a chain already.
func (a *Agent) StageAt(stage string, h chain.StageHook, slot *ebpf.Map) error {
	own, err := slot.Clone()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.setSlot(slotKey{h, stage}, own)
}

// setSlot remembers the slot of a stage, nil when it is in no chain any more. The slot is the agent's own.
func (a *Agent) setSlot(k slotKey, slot *ebpf.Map) error {
	was := a.slots[k]
	if slot == nil {
		delete(a.slots, k)
	} else {
		a.slots[k] = slot
	}
	if was == nil {
		return nil
	}
	return was.Close()
}

// emptySlots empties those that an earlier agent has left where nothing is watched any more.
func (a *Agent) emptySlots() error {
	var errs []error
	for k, slot := range a.slots {
		if a.placedAt(k.StageHook) == nil || k.stage != chain.StageFlow && a.features.watchers()[k.stage] == nil {
			errs = append(errs, bpf.EmptySlot(slot))
		}
	}
	return errors.Join(errs...)
}

// forgetGone forgets the slots of a hook whose interface or network namespace is gone.
func (a *Agent) forgetGone(p *placed) {
	there := false
	err := ifaces.Enter(ifaces.Namespace{Name: p.namespace, Inode: p.at.Namespace}, func() (err error) {
		there, err = p.at.Exists()
		return err
	})
	if err == nil && there {
		return
	}
	a.forgetSlots(p.key())
}

// forgetSlots forgets those of an interface that is gone: another one can have its index.
func (a *Agent) forgetSlots(of ifaces.Key) {
	for k := range a.slots {
		if k.Inode == of.Inode && k.Index == of.Index {
			_ = a.setSlot(k, nil) // only closed
		}
	}
}

func (a *Agent) closeSlots() error {
	var errs []error
	for k := range a.slots {
		errs = append(errs, a.setSlot(k, nil))
	}
	return errors.Join(errs...)
}

// stageMove is a stage on its way into a chain, out of it, or from one slot to another.
type stageMove struct {
	a    *Agent
	key  slotKey
	slot *ebpf.Map // where it goes; nil: into no chain
	at   *bpf.Attachment
	move *bpf.Move // nil: the agent does not run the stage on this hook
}

// MoveStage makes a stage ready to be in a slot from now on, or in no chain when that is nil.
func (a *Agent) MoveStage(stage string, h chain.StageHook, slot *ebpf.Map) (chain.Move, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := &stageMove{a: a, key: slotKey{h, stage}, at: a.placedAt(h)}
	same, err := sameMap(a.slots[m.key], slot)
	if err != nil || same {
		return nil, err
	}
	if slot != nil {
		if m.slot, err = slot.Clone(); err != nil {
			return nil, err
		}
	}
	if err := m.begin(); err != nil {
		return nil, errors.Join(err, closeMap(m.slot))
	}
	return m, nil
}

// begin moves what the agent runs.
func (m *stageMove) begin() (err error) {
	w := m.a.features.watchers()[m.key.stage]
	switch {
	case m.at == nil:
	case m.key.stage == chain.StageFlow:
		m.move, err = m.a.dp.Move(m.at, m.slot)
	case w != nil:
		m.move, err = w.Move(m.at.Number, m.slot)
	}
	return err
}

// Conclude lets the stage go from where it was.
func (m *stageMove) Conclude() error {
	m.a.mu.Lock()
	defer m.a.mu.Unlock()
	return errors.Join(m.end((*bpf.Move).Conclude), m.a.setSlot(m.key, m.slot))
}

// Undo lets it go from where it was to be.
func (m *stageMove) Undo() error {
	m.a.mu.Lock()
	defer m.a.mu.Unlock()
	return errors.Join(m.end((*bpf.Move).Undo), closeMap(m.slot))
}

// end ends the move. The hook may have been taken off meanwhile.
func (m *stageMove) end(how func(*bpf.Move) error) error {
	switch {
	case m.move == nil:
		return nil
	case m.a.placedAt(m.key.StageHook) != m.at:
		return m.move.Drop()
	}
	err := how(m.move)
	m.a.log.Info("stage", "name", m.key.stage, "hook", m.a.hook(m.at.Number).String(), "in a chain", m.slot != nil)
	return err
}

// sameMap tells whether two maps are one; both may be nil.
func sameMap(x, y *ebpf.Map) (bool, error) {
	if x == nil || y == nil {
		return x == y, nil
	}
	var ids [2]ebpf.MapID
	for i, m := range []*ebpf.Map{x, y} {
		info, err := m.Info()
		if err != nil {
			return false, fmt.Errorf("ask for a stage's slot: %w", err)
		}
		ids[i], _ = info.ID()
	}
	return ids[0] == ids[1], nil
}

func closeMap(m *ebpf.Map) error {
	if m == nil {
		return nil
	}
	return m.Close()
}
