package agent

import (
	"errors"
	"fmt"
	"os"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf"
)

// placed is a hook that the datapath is attached to.
type placed struct {
	namespace string
	at        *bpf.Attachment
	named     bool // the configuration names the interface
}

// key names the interface.
func (p *placed) key() ifaces.Key { return ifaces.Key{Inode: p.at.Namespace, Index: p.at.Interface} }

// attachAll puts the interfaces of the configuration in place.
func (a *Agent) attachAll() error {
	for _, n := range a.cfg.Interfaces {
		if err := a.attach(n); err != nil {
			return err
		}
	}
	return nil
}

// attach puts both directions of an interface of the configuration in place.
func (a *Agent) attach(n Interface) error {
	return ifaces.Do(n.Namespace, func() error {
		found, err := ifaces.Find(n.Namespace, n.Name)
		if err != nil {
			return err
		}
		before := len(a.placed)
		err = a.place(n, found)
		for i := range a.placed[before:] {
			a.placed[before+i].named = true
		}
		return err
	})
}

// place puts both directions of an interface in place, or none. It must be called in its namespace.
func (a *Agent) place(n Interface, found ifaces.Interface) error {
	before := len(a.placed)
	for _, dir := range []flow.Direction{flow.Ingress, flow.Egress} {
		h := bpf.Hook{
			Interface: found.Index, Egress: dir == flow.Egress, Namespace: found.Inode,
			Zone: n.Zone, L3: found.L3, Mode: n.Hook, Tail: n.Anchor == anchorTail,
		}
		h.Slot = a.slots[slotKey{stageHook(&h), chain.StageFlow}]
		at, err := a.dp.Attach(h)
		if err != nil {
			return errors.Join(fmt.Errorf("%s %s: %w", n.Name, dir, err), a.takeOffFrom(before))
		}
		hook := flow.Hook{Namespace: n.shown(), Interface: n.Name, Direction: dir}
		a.name(at.Number, hook)
		a.placed = append(a.placed, placed{namespace: n.Namespace, at: at})
		a.log.Info("attached", "hook", hook.String(), "mode", at.Mode, "number", at.Number)
		a.attachFeatures(at)
	}
	return nil
}

// takeOffFrom takes the last attachments off.
func (a *Agent) takeOffFrom(first int) error {
	var errs []error
	for _, p := range a.placed[first:] {
		errs = append(errs, a.takeOff(p))
	}
	a.left = append(a.left, a.placed[first:]...)
	a.placed = a.placed[:first]
	return errors.Join(errs...)
}

// dropLeftovers takes off what an earlier agent has left on interfaces that are not watched any
// more. Their hooks stay in the books: what they have counted is still to be reported.
func (a *Agent) dropLeftovers() error {
	if err := a.emptySlots(); err != nil {
		return err
	}
	if !a.own { // hooks of a datapath that is lent are its owner's
		return nil
	}
	for _, at := range a.dp.Leftovers() {
		namespace, err := ifaces.ByInode(at.Namespace)
		p := placed{namespace: namespace, at: at}
		if at.Off {
			a.left = append(a.left, p)
			continue
		}
		if err == nil || at.Mode != bpf.TC {
			err = a.takeOff(p)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("take an earlier agent's %s off: %w", a.hook(at.Number), err)
		}
		a.left = append(a.left, p)
		a.log.Info("taken off", "hook", a.hook(at.Number).String(), "mode", at.Mode)
	}
	return nil
}

func (a *Agent) detach() error {
	var errs []error
	for _, p := range a.placed {
		errs = append(errs, a.takeOff(p))
	}
	return errors.Join(errs...)
}

func (a *Agent) takeOff(p placed) error {
	off := func() error { return errors.Join(a.dp.Detach(p.at), a.features.detach(p.at)) }
	if p.at.Linked() {
		return off()
	}
	entered := false
	err := ifaces.Enter(ifaces.Namespace{Name: p.namespace, Inode: p.at.Namespace}, func() error {
		entered = true
		return off()
	})
	if entered {
		return err
	}
	if errors.Is(err, os.ErrNotExist) { // the namespace is gone, or has lost its name; what is ours is not
		err = nil
	}
	leave := a.dp.Leave
	if p.at.Mode == bpf.Chain { // a slot is left from anywhere
		leave = a.dp.Detach
	}
	return errors.Join(err, leave(p.at), ifaces.DoNowhere(func() error { return a.features.detach(p.at) }))
}
