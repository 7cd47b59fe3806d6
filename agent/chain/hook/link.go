package hook

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// pinned is our link on a hook, as it was found.
type pinned struct {
	link.Link
	id      link.ID
	program ebpf.ProgramID
}

// errNoLink says that there is no link of ours on the hook.
var errNoLink = errors.New("no link")

// openLink opens the link that is pinned at a path when it is on the interface. The pin of a link whose
// interface is gone stays, also when another interface has got the same index since.
func openLink(pin string, ifindex int) (*pinned, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoLink
	}
	if err != nil {
		return nil, fmt.Errorf("open the link %s: %w", pin, err)
	}
	info, err := l.Info()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask for the link %s: %w", pin, err), l.Close())
	}
	on := uint32(0)
	switch {
	case info.TCX() != nil:
		on = info.TCX().Ifindex
	case info.XDP() != nil:
		on = info.XDP().Ifindex
	}
	if on != uint32(ifindex) {
		return nil, errors.Join(errNoLink, l.Close())
	}
	return &pinned{l, info.ID, info.Program}, nil
}

// swapLink swaps the program of our link, or makes the link.
func swapLink(t Target, was []ebpf.ProgramID, to *ebpf.Program,
	attach func() (link.Link, error)) error {
	l, err := openLink(t.Pin, t.Interface)
	if err == nil {
		defer l.Close()
		if !slices.Equal(was, []ebpf.ProgramID{l.program}) {
			return ErrChanged
		}
		if err := l.Update(to); err != nil {
			return fmt.Errorf("swap the link's program: %w", err)
		}
		return nil
	}
	if !errors.Is(err, errNoLink) {
		return err
	}
	if len(was) != 0 {
		return ErrChanged
	}
	made, err := attach()
	if err != nil {
		return err
	}
	defer made.Close() // the pin holds it
	if err := removeFile(t.Pin); err != nil {
		return err
	}
	if err := made.Pin(t.Pin); err != nil {
		return fmt.Errorf("pin the link: %w", err)
	}
	return nil
}

// removeLink takes our link off.
func removeLink(t Target, was []ebpf.ProgramID) error {
	l, err := openLink(t.Pin, t.Interface)
	if errors.Is(err, errNoLink) {
		return removeFile(t.Pin)
	}
	if err != nil {
		return err
	}
	defer l.Close()
	if !slices.Equal(was, []ebpf.ProgramID{l.program}) {
		return ErrChanged
	}
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach the link: %w", err)
	}
	return removeFile(t.Pin)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// describe names a program. One that has gone meanwhile has no name.
func describe(id ebpf.ProgramID) Program {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return Program{ID: id}
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return Program{ID: id}
	}
	return Program{ID: id, Name: info.Name}
}
