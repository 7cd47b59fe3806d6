package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// The flags of struct hook (enum hook_flags).
const (
	hookOn  uint8 = 1
	hookL3  uint8 = 2
	hookOff uint8 = 4
)

// ErrHooks is returned by Attach when all hook numbers are taken.
var ErrHooks = errors.New("no hook number is free")

const maxHooks = 1024 // MAX_HOOKS in conn.h

// FormerHooks is the number under which the counters of hooks stand whose numbers were given back.
// No hook has it.
const FormerHooks uint16 = maxHooks - 1

// assign finds the hook's number, or gives it a free one. Known tells that an earlier agent had
// the same hook, whose counters go on. One that was taken off never comes back: an interface with its
// index is another one.
func (d *Datapath) assign(h Hook) (number uint16, known bool, err error) {
	want := weirHook{Ifindex: uint32(h.Interface), Netns: h.Namespace, Zone: h.Zone, Flags: hookOn}
	if h.Egress {
		want.Egress = 1
	}
	if h.L3 {
		want.Flags |= hookL3
	}
	for n := uint16(1); n < FormerHooks; n++ {
		have, used := d.hooks[n]
		if !used && number == 0 {
			number = n
		}
		if used && !d.Off(n) && have.Ifindex == want.Ifindex && have.Netns == want.Netns &&
			have.Egress == want.Egress {
			number, known = n, true
			break
		}
	}
	if number == 0 {
		return 0, false, fmt.Errorf("%w: %d are in use", ErrHooks, len(d.hooks))
	}
	if !known {
		if err := d.clearCounters(number); err != nil {
			return 0, false, err
		}
	}
	if err := d.objs.Hooks.Put(uint32(number), want); err != nil {
		return 0, false, fmt.Errorf("write hook %d: %w", number, err)
	}
	d.hooks[number] = want
	d.claimed[number] = true
	return number, known, nil
}

// release gives a hook number back and clears its counters.
func (d *Datapath) release(number uint16) error {
	if err := d.objs.Hooks.Update(uint32(number), weirHook{}, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("release hook %d: %w", number, err)
	}
	delete(d.hooks, number)
	delete(d.claimed, number)
	delete(d.left, number)
	return errors.Join(d.forgetName(number), d.clearCounters(number))
}

// Leftovers lists the attachments of an earlier agent that no Attach has taken over, for Detach unless
// they are off.
// Their counters go on being read by number: packets that they saw are still to be reported.
func (d *Datapath) Leftovers() []*Attachment {
	var all []*Attachment
	for number, h := range d.hooks {
		if d.claimed[number] {
			continue
		}
		a := &Attachment{Number: number, Mode: TC, Off: h.Flags&hookOff != 0, Hook: hookFrom(h)}
		a.seat = &filterSeat{a.tc(), packetPath}
		if pin := d.linkPin(number); pin != "" {
			if l, err := link.LoadPinnedLink(pin, nil); err == nil {
				a.Mode = modeOf(l)
				a.seat = &linkSeat{hook: &a.Hook, mode: a.Mode, pin: pin, link: l}
			}
		}
		all = append(all, a)
	}
	return all
}

// adoptHooks reads the hooks that an earlier agent has left in the pinned map.
func (d *Datapath) adoptHooks() error {
	var number uint32
	var h weirHook
	it := d.objs.Hooks.Iterate()
	for it.Next(&number, &h) {
		if h.Flags&hookOn != 0 {
			d.hooks[uint16(number)] = h
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read the hooks: %w", err)
	}
	return nil
}
