package bpf

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/bpf/tc"
)

// How an attachment is made.
const (
	TCX    = "tcx"    // a link, 6.6
	Netkit = "netkit" // a link on the primary end of a netkit pair, 6.7
	TC     = "tc"     // a filter on the clsact qdisc
	Chain  = "chain"  // a slot that a chain of programs calls
)

// Place is where one of weir's programs stands among the tc filters of a hook.
type Place = tc.Place

// packetPath is the packet path's place.
var packetPath = Place{Name: "weir", Priority: 0xbeef, Handle: 0x77656972 /* "weir" */}

// Hook says where packets are seen.
type Hook struct {
	Interface int // ifindex in the network namespace of the calling thread
	Egress    bool
	Namespace uint64 // inode of that namespace, to know the hook again
	Zone      uint16
	L3        bool // frames of the device begin with the IP header
	// Mode is TCX, Netkit or TC, or "" for the best of TCX and TC that the kernel has.
	Mode string
	// Tail puts a link behind those that are there, and not before them. Others may come behind it later.
	Tail bool
	// Slot is the program array with one slot through which a chain on the hook calls what is in it: then that is
	// where the program goes, whatever Mode and Tail say. It stays the caller's.
	Slot *ebpf.Map
}

// tc is the hook as the traffic control has it.
func (h *Hook) tc() tc.Hook { return tc.Hook{Interface: h.Interface, Egress: h.Egress} }

// Attachment is a hook that is in place.
type Attachment struct {
	Hook
	Number uint16 // the hook's number in the datapath, from 1
	Mode   string // TCX, Netkit, TC or Chain
	Off    bool   // it was taken off
	seat   seat   // nil: none yet
}

// Linked tells whether the attachment is a link, which can be let go of from any network namespace.
func (a *Attachment) Linked() bool { return a.Mode == TCX || a.Mode == Netkit }

// Attach puts the packet path on a hook. It must be called in the hook's network namespace, on
// a locked thread. An attachment that an earlier agent left there is taken over, with its
// number and counters.
func (d *Datapath) Attach(h Hook) (*Attachment, error) {
	number, known, err := d.assign(h)
	if err != nil {
		return nil, err
	}
	stub, err := d.stub(number)
	if err != nil {
		return nil, err
	}
	a := &Attachment{Hook: h, Number: number}
	if h.Slot != nil && known {
		if err := d.clear(a); err != nil {
			return nil, err
		}
	}
	if err := d.attach(a, stub, known); err != nil {
		return nil, errors.Join(fmt.Errorf("attach to interface %d: %w", h.Interface, err), d.undo(a))
	}
	d.attached++
	return a, nil
}

// clear takes off what an earlier agent has left beside the slot that the packet path is to be in.
func (d *Datapath) clear(a *Attachment) error {
	if err := removePin(d.linkPin(a.Number)); err != nil {
		return err
	}
	err := d.guard(a)
	if errors.Is(err, ErrGuarded) { // another agent's, which lives
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(a.tc().Delete(packetPath), d.unguard(a.Number))
}

// undo takes back what there is of an attachment that has failed. Once there is a link, it may have counted.
func (d *Datapath) undo(a *Attachment) error {
	if a.seat == nil {
		return errors.Join(d.unguard(a.Number), d.release(a.Number))
	}
	d.attached++
	return d.Detach(a)
}

func (d *Datapath) attach(a *Attachment, stub *ebpf.Program, known bool) error {
	if a.Slot != nil {
		return a.attachSlot(stub)
	}
	if a.Hook.Mode != TC {
		a.Mode = a.Hook.Mode
		if a.Mode == "" {
			a.Mode = TCX
		}
		err := d.attachLink(a, stub, known)
		if err == nil || a.Hook.Mode != "" || !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
	}
	a.Mode = TC
	if err := d.guard(a); err != nil {
		return err
	}
	s := &filterSeat{a.tc(), packetPath}
	if err := s.put(stub); err != nil {
		return err
	}
	a.seat = s
	return nil
}

// attachSlot puts a stub into a slot of a chain.
func (a *Attachment) attachSlot(stub *ebpf.Program) error {
	s, err := newSlotSeat(a.Slot)
	if err != nil {
		return err
	}
	a.Mode, a.Slot = Chain, nil
	if err := s.put(stub); err != nil {
		return errors.Join(err, s.slot.Close())
	}
	a.seat = s
	return nil
}

// attachLink makes a link, or finds that of an earlier agent.
func (d *Datapath) attachLink(a *Attachment, stub *ebpf.Program, known bool) error {
	s := &linkSeat{hook: &a.Hook, mode: a.Mode, pin: d.linkPin(a.Number)}
	if known && s.pin != "" {
		l, err := link.LoadPinnedLink(s.pin, nil)
		if err == nil && isOn(l, a.Interface) {
			s.link, a.seat = l, s
			return l.Update(stub) // that of before may jump through an older layout's array, or be on its way
		}
		if err == nil {
			l.Close()
		}
	}
	err := s.put(stub)
	if s.link != nil {
		a.seat = s
	}
	return err
}

// newLink makes a link, at the head of the chain unless the hook says otherwise: weir sees what comes, before
// others change it. What a netkit pair's primary end sends runs its own programs, and what it gets those of its
// peer.
func newLink(h *Hook, mode string, program *ebpf.Program) (link.Link, error) {
	anchor := link.Head()
	if h.Tail {
		anchor = link.Tail()
	}
	if mode == Netkit {
		kind := ebpf.AttachNetkitPeer
		if h.Egress {
			kind = ebpf.AttachNetkitPrimary
		}
		return link.AttachNetkit(link.NetkitOptions{
			Interface: h.Interface, Program: program, Attach: kind, Anchor: anchor,
		})
	}
	return h.tc().Link(program, anchor, 0)
}

// isOn tells whether a link still holds on to the interface. One whose interface was deleted stays
// pinned, also when another interface has got the same index since.
func isOn(l link.Link, ifindex int) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	if n := info.Netkit(); n != nil {
		return n.Ifindex == uint32(ifindex)
	}
	return info.TCX() != nil && info.TCX().Ifindex == uint32(ifindex)
}

// modeOf is how a link was made.
func modeOf(l link.Link) string {
	if info, err := l.Info(); err == nil && info.Netkit() != nil {
		return Netkit
	}
	return TCX
}

func (d *Datapath) linkPin(number uint16) string {
	if d.opts.Pin == "" {
		return ""
	}
	return filepath.Join(d.pinPath(), "link-"+strconv.Itoa(int(number)))
}

// Detach takes the packet path off a hook. It must be called in the hook's network namespace, on
// a locked thread. The clsact qdisc stays: others may use it. A hook whose interface is gone
// is already off. The counters stay readable until Reclaim gives the number back.
func (d *Datapath) Detach(a *Attachment) error {
	err := a.seat.leave()
	if err != nil && a.Mode == TC {
		return errors.Join(fmt.Errorf("detach from interface %d: %w", a.Interface, err), d.Leave(a))
	}
	if err := errors.Join(err, d.letGo(a), d.markOff(a.Number)); err != nil {
		return fmt.Errorf("detach from interface %d: %w", a.Interface, err)
	}
	return nil
}

// Leave is Detach for a tc filter whose network namespace cannot be entered any more. It may go on
// counting for as long as the namespace lives.
func (d *Datapath) Leave(a *Attachment) error {
	var id ebpf.ProgramID
	if p := d.stubs[a.Number]; p != nil {
		info, err := p.Info()
		if err != nil {
			return fmt.Errorf("leave interface %d: %w", a.Interface, err)
		}
		id, _ = info.ID()
	}
	d.left[a.Number] = id
	return d.letGo(a)
}

// letGo closes what this process holds of an attachment.
func (d *Datapath) letGo(a *Attachment) error {
	errs := []error{d.unguard(a.Number)}
	if p := d.stubs[a.Number]; p != nil {
		errs = append(errs, p.Close())
		delete(d.stubs, a.Number)
	}
	d.attached = max(0, d.attached-1) // an earlier agent's was not counted
	return errors.Join(errs...)
}

// InPlace tells whether an attachment is still there: with its interface it goes, and others may take a
// tc filter off. It must be called in the hook's network namespace, on a locked thread.
func (d *Datapath) InPlace(a *Attachment) (bool, error) {
	switch s := a.seat.(type) {
	case *linkSeat:
		return isOn(s.link, a.Interface), nil
	case *slotSeat: // nobody else empties it
		return a.Exists()
	}
	all, err := a.tc().Filters()
	if err != nil {
		return false, fmt.Errorf("interface %d: %w", a.Interface, err)
	}
	return slices.ContainsFunc(all, func(f netlink.Filter) bool {
		return f.Attrs().Handle == packetPath.Handle && f.Attrs().Priority == packetPath.Priority
	}), nil
}

// Exists tells whether the hook's interface is there. It must be called in the hook's network namespace, on a locked
// thread.
func (h *Hook) Exists() (bool, error) {
	_, err := netlink.LinkByIndex(h.Interface)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return false, nil
	}
	return err == nil, err
}

// Move gets the packet path of an attachment ready to be in a slot of a chain, or in none when that is nil: then it is
// attached as its Hook says. It must be called in the hook's network namespace, on a locked thread.
func (d *Datapath) Move(a *Attachment, slot *ebpf.Map) (*Move, error) {
	next := &Attachment{Hook: a.Hook, Number: a.Number}
	next.Slot = slot
	plain, err := d.stub(a.Number)
	if err != nil {
		return nil, err
	}
	m, err := startMove(a.seat, plain, d.stubSpec(a.Number), func(once *ebpf.Program) (seat, error) {
		err := d.attach(next, once, false)
		if err != nil && next.seat != nil {
			err = errors.Join(err, next.seat.leave())
		}
		return next.seat, err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("move on interface %d: %w", a.Interface, err), d.guardOnly(a))
	}
	m.settle = func(moved bool) {
		if moved {
			a.Mode, a.seat = next.Mode, next.seat
		}
		_ = d.guardOnly(a)
	}
	return m, nil
}

// guardOnly keeps a hook's guard while the packet path is a filter there.
func (d *Datapath) guardOnly(a *Attachment) error {
	if a.Mode == TC {
		return nil
	}
	return d.unguard(a.Number)
}

// stub returns the program that says which hook a packet comes from.
func (d *Datapath) stub(number uint16) (*ebpf.Program, error) {
	if p := d.stubs[number]; p != nil {
		return p, nil
	}
	p, err := d.stubSpec(number).load()
	if err != nil {
		return nil, err
	}
	d.stubs[number] = p
	return p, nil
}

func (d *Datapath) stubSpec(number uint16) stubSpec {
	return stubSpec{name: "weir_hook_" + strconv.Itoa(int(number)), number: number, jump: d.objs.Jump}
}
