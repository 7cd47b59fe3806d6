package hook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tcxLinks are several links in the kernel's list of programs of a hook, one for each program.
type tcxLinks struct{ tcx }

// ErrSteps is returned for a change that packets would meet half done.
var ErrSteps = errors.New("links change one at a time: one program can be inserted, replaced or removed")

// open opens our links, in the order of the list.
func (p *tcxLinks) open() (links []*pinned, s State, err error) {
	files, err := os.ReadDir(p.Pin)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, s, fmt.Errorf("list the links: %w", err)
	}
	var ids []link.ID
	for _, f := range files {
		l, err := openLink(filepath.Join(p.Pin, f.Name()), p.Interface)
		if errors.Is(err, errNoLink) { // of an interface that is gone
			continue
		}
		if err != nil {
			return nil, s, errors.Join(err, closeLinks(links))
		}
		links, ids = append(links, l), append(ids, l.id)
	}
	if s, _, err = p.look(ids); err != nil {
		return nil, s, errors.Join(err, closeLinks(links))
	}
	slices.SortFunc(links, func(a, b *pinned) int {
		return slices.Index(s.Own, a.program) - slices.Index(s.Own, b.program)
	})
	return links, s, nil
}

// unchanged opens our links, if their programs are still the same.
func (p *tcxLinks) unchanged(was []ebpf.ProgramID) ([]*pinned, error) {
	links, s, err := p.open()
	if err == nil && !slices.Equal(s.Own, was) {
		return nil, errors.Join(ErrChanged, closeLinks(links))
	}
	return links, err
}

func closeLinks(links []*pinned) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// State looks at the list.
func (p *tcxLinks) State() (State, error) {
	links, s, err := p.open()
	if err != nil {
		return s, err
	}
	return s, closeLinks(links)
}

// Swap changes one program of those that are on the hook: the kernel exchanges one pointer, or the list. On a hook
// without programs of ours it attaches them one after the other, the last one first.
func (p *tcxLinks) Swap(was []ebpf.ProgramID, to []*ebpf.Program) error {
	links, err := p.unchanged(was)
	if err != nil {
		return err
	}
	defer closeLinks(links)
	if len(was) == 0 {
		return p.attachAll(to)
	}
	want, err := ProgramIDs(to)
	if err != nil {
		return err
	}
	at := same(was, want) // the first that differs
	switch {
	case slices.Equal(was, want):
		return nil
	case len(want) == len(was) && slices.Equal(was[at+1:], want[at+1:]):
		return update(links[at], to[at])
	case len(want) == len(was)+1 && slices.Equal(was[at:], want[at+1:]):
		return p.insert(to[at], anchorAt(links, at))
	case len(want) == len(was)-1 && slices.Equal(was[at+1:], want[at:]):
		return p.detach(links[at])
	}
	return ErrSteps
}

func update(l *pinned, to *ebpf.Program) error {
	if err := l.Update(to); err != nil {
		return fmt.Errorf("swap the link's program: %w", err)
	}
	return nil
}

// same is how many elements at the beginning are the same.
func same(a, b []ebpf.ProgramID) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// anchorAt is a place among our links.
func anchorAt(links []*pinned, at int) link.Anchor {
	if at == 0 {
		return link.BeforeLink(links[0].Link)
	}
	return link.AfterLink(links[at-1].Link)
}

// attachAll attaches all programs, or none.
func (p *tcxLinks) attachAll(to []*ebpf.Program) error {
	var made []ebpf.ProgramID
	place := func(s State) (link.Anchor, error) { return p.Place.anchor(s.Others) }
	for _, program := range slices.Backward(to) {
		id, err := programID(program)
		if err == nil {
			err = p.insertAt(program, place)
		}
		if err != nil {
			return errors.Join(err, p.Remove(made))
		}
		made = slices.Insert(made, 0, id)
		place = func(State) (link.Anchor, error) { return link.BeforeProgramByID(id), nil }
	}
	return nil
}

func (p *tcxLinks) insert(program *ebpf.Program, anchor link.Anchor) error {
	return p.insertAt(program, func(State) (link.Anchor, error) { return anchor, nil })
}

// insertAt attaches a program at a place, and pins its link.
func (p *tcxLinks) insertAt(program *ebpf.Program, place func(State) (link.Anchor, error)) error {
	if err := os.MkdirAll(p.Pin, 0o700); err != nil {
		return fmt.Errorf("make the folder for links: %w", err)
	}
	l, err := p.attach(program, place)
	if err != nil {
		return err
	}
	defer l.Close() // the pin holds it
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("ask for the link: %w", err)
	}
	if err := l.Pin(p.path(info.ID)); err != nil {
		return fmt.Errorf("pin the link: %w", err)
	}
	return nil
}

// path is where a link is pinned.
func (p *tcxLinks) path(id link.ID) string { return filepath.Join(p.Pin, fmt.Sprint(id)) }

func (p *tcxLinks) detach(l *pinned) error {
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach the link: %w", err)
	}
	return removeFile(p.path(l.id))
}

// Remove takes the links off, one after the other, the first one first.
func (p *tcxLinks) Remove(was []ebpf.ProgramID) error {
	links, err := p.unchanged(was)
	if err != nil {
		return err
	}
	defer closeLinks(links)
	for _, l := range links {
		if err := p.detach(l); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(p.Pin); err != nil { // also links of an interface that is gone
		return fmt.Errorf("remove the folder for links: %w", err)
	}
	return nil
}
