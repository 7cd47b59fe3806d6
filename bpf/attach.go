package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/bpf/tc"
)

// How an attachment is made.
const (
	TCX    = "tcx"    // a link, 6.6
	Netkit = "netkit" // a link on the primary end of a netkit pair, 6.7
	TC     = "tc"     // a filter on the clsact qdisc
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
}

// tc is the hook as the traffic control has it.
func (h *Hook) tc() tc.Hook { return tc.Hook{Interface: h.Interface, Egress: h.Egress} }

// Attachment is a hook that is in place.
type Attachment struct {
	Hook
	Number uint16 // the hook's number in the datapath, from 1
	Mode   string // TCX, Netkit or TC
	Off    bool   // it was taken off
	link   link.Link
}

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
	if err := d.attach(a, stub, known); err != nil {
		return nil, errors.Join(fmt.Errorf("attach to interface %d: %w", h.Interface, err), d.undo(a))
	}
	d.attached++
	return a, nil
}

// undo takes back what there is of an attachment that has failed. Once there is a link, it may have counted.
func (d *Datapath) undo(a *Attachment) error {
	if a.link == nil {
		return errors.Join(d.unguard(a.Number), d.release(a.Number))
	}
	d.attached++
	return d.Detach(a)
}

func (d *Datapath) attach(a *Attachment, stub *ebpf.Program, known bool) error {
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
	return a.tc().Put(packetPath, stub)
}

// attachLink makes a link, or finds that of an earlier agent.
func (d *Datapath) attachLink(a *Attachment, stub *ebpf.Program, known bool) error {
	pin := d.linkPin(a.Number)
	if known && pin != "" {
		l, err := link.LoadPinnedLink(pin, nil)
		if err == nil && isOn(l, a.Interface) {
			a.link = l
			if d.older == nil {
				return nil // its stub jumps to the new packet path already
			}
			return l.Update(stub) // the older layout's array of programs goes
		}
		if err == nil {
			l.Close()
		}
	}
	l, err := newLink(&a.Hook, a.Mode, stub)
	if err != nil {
		return err
	}
	a.link = l
	if pin == "" {
		return nil
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return l.Pin(pin)
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
	if a.Mode == TC {
		if err := a.tc().Delete(packetPath); err != nil {
			return errors.Join(fmt.Errorf("detach from interface %d: %w", a.Interface, err), d.Leave(a))
		}
	}
	if err := errors.Join(d.letGo(a), d.markOff(a.Number)); err != nil {
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
	if a.link != nil {
		errs = append(errs, removePin(d.linkPin(a.Number)), a.link.Close())
	}
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
	if a.link != nil {
		return isOn(a.link, a.Interface), nil
	}
	all, err := a.tc().Filters()
	if err != nil {
		return false, fmt.Errorf("interface %d: %w", a.Interface, err)
	}
	return slices.ContainsFunc(all, func(f netlink.Filter) bool {
		return f.Attrs().Handle == packetPath.Handle && f.Attrs().Priority == packetPath.Priority
	}), nil
}

func removePin(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// stub returns the program that says which hook a packet comes from.
func (d *Datapath) stub(number uint16) (*ebpf.Program, error) {
	if p := d.stubs[number]; p != nil {
		return p, nil
	}
	p, err := NewStub("weir_hook_"+strconv.Itoa(int(number)), number, d.objs.Jump)
	if err != nil {
		return nil, err
	}
	d.stubs[number] = p
	return p, nil
}

// NewStub loads a program that puts a hook's number into skb->cb[4] and jumps to the first
// program of a program array.
func NewStub(name string, number uint16, jump *ebpf.Map) (*ebpf.Program, error) {
	const cb4 = 64 // offset of cb[4] in struct __sk_buff (linux/bpf.h)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, int32(number)),
			asm.StoreMem(asm.R1, cb4, asm.R2, asm.Word),
			asm.LoadMapPtr(asm.R2, jump.FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, -1), // TCX_NEXT, TC_ACT_UNSPEC
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load the stub of hook %d: %w", number, err)
	}
	return p, nil
}
