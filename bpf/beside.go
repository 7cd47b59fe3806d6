package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Beside is a program that stands beside the packet path on a hook and sees the same packets: an
// optional feature. It has attachments of its own and leaves packets as they are. Nothing of it
// is pinned: a tc filter outlives its agent that is killed, until RemoveBeside or the next
// AttachBeside in its place.
type Beside struct {
	Hook
	place Place
	stub  *ebpf.Program
	link  link.Link // nil: a tc filter
}

// AttachBeside puts the first program of a program array on a hook, which the program finds by
// its number in skb->cb[4]. It must be called in the hook's network namespace, on a locked thread.
func AttachBeside(h Hook, p Place, number uint16, jump *ebpf.Map) (*Beside, error) {
	stub, err := NewStub(fmt.Sprintf("%s_%d", p.Name, number), number, jump)
	if err != nil {
		return nil, err
	}
	b := &Beside{Hook: h, place: p, stub: stub}
	if err := b.attach(); err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s to interface %d: %w", p.Name, h.Interface, err),
			stub.Close())
	}
	return b, nil
}

func (b *Beside) attach() (err error) {
	if b.Mode != TC {
		b.link, err = newLink(&b.Hook, b.Mode, b.stub)
		if err == nil || b.Mode != "" || !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
		b.link = nil
	}
	b.Mode = TC
	return b.tc().Put(b.place, b.stub)
}

// Detach takes the program off the hook. With Mode TC it must be called in the hook's network
// namespace, on a locked thread. A hook whose interface is gone is already off.
func (b *Beside) Detach() error {
	var err error
	if b.link != nil {
		err = b.link.Close()
	} else {
		err = b.tc().Delete(b.place)
	}
	if err = errors.Join(err, b.stub.Close()); err != nil {
		return fmt.Errorf("detach %s from interface %d: %w", b.place.Name, b.Interface, err)
	}
	return nil
}

// RemoveBeside removes the tc filter that a killed agent may have left in a place. It must be called
// in the hook's network namespace, on a locked thread.
func RemoveBeside(h Hook, p Place) error {
	if err := h.tc().Delete(p); err != nil {
		return fmt.Errorf("remove %s from interface %d: %w", p.Name, h.Interface, err)
	}
	return nil
}
