// Package plan compares the members that a chain has with those that it shall have, and says which
// steps lead from one to the other. It is pure: it knows nothing of the kernel.
package plan

import (
	"fmt"
	"slices"
)

// Item is a member as the plan sees it.
type Item struct {
	Name string // unique in a chain
	// Digest tells two versions of a member apart: whatever it is made of is in it, but not its
	// place.
	Digest string
}

// Op is what a step does.
type Op string

// The operations.
const (
	Insert  Op = "insert"
	Replace Op = "replace" // by another version, at the same place
	Move    Op = "move"
	Remove  Op = "remove"
)

// Step is one change of a list of members. It holds what it takes to undo it.
type Step struct {
	Op   Op     `json:"op"`
	Name string `json:"name"`
	// After is the member that it comes after, "" for the first place. Insert, Move.
	After string `json:"after,omitempty"`
	// Digest is the new version's. Insert, Replace.
	Digest string `json:"digest,omitempty"`
	// WasAfter and Was are what After and Digest were before. Move, Remove; Replace, Remove.
	WasAfter string `json:"was_after,omitempty"`
	Was      string `json:"was,omitempty"`
}

// String is the step for people.
func (s Step) String() string {
	switch s.Op {
	case Insert, Move:
		if s.After == "" {
			return fmt.Sprintf("%s %s: first", s.Op, s.Name)
		}
		return fmt.Sprintf("%s %s: after %s", s.Op, s.Name, s.After)
	default:
		return fmt.Sprintf("%s %s", s.Op, s.Name)
	}
}

// Undo returns the step that takes s back.
func (s Step) Undo() Step {
	u := Step{Op: s.Op, Name: s.Name, After: s.WasAfter, WasAfter: s.After, Digest: s.Was, Was: s.Digest}
	switch s.Op {
	case Insert:
		u.Op = Remove
	case Remove:
		u.Op = Insert
	}
	return u
}

// Undo returns the steps that take steps back.
func Undo(steps []Step) []Step {
	var undo []Step
	for _, s := range slices.Backward(steps) {
		undo = append(undo, s.Undo())
	}
	return undo
}

// Apply does one step to a list and returns the new one. It is an error when the list is not what
// the step was made for.
func Apply(list []Item, s Step) ([]Item, error) {
	list = slices.Clone(list)
	at := index(list, s.Name)
	if (at >= 0) == (s.Op == Insert) {
		return nil, fmt.Errorf("%v: it is there, or not, against the plan", s)
	}
	item := Item{Name: s.Name, Digest: s.Digest}
	if s.Op != Insert {
		if s.Op != Move && list[at].Digest != s.Was {
			return nil, fmt.Errorf("%v: it is another version", s)
		}
		if s.Op == Replace {
			list[at] = item
			return list, nil
		}
		if before(list, at) != s.WasAfter {
			return nil, fmt.Errorf("%v: it is at another place", s)
		}
		item = list[at]
		list = slices.Delete(list, at, at+1)
	}
	if s.Op == Remove {
		return list, nil
	}
	after := index(list, s.After)
	if after < 0 && s.After != "" {
		return nil, fmt.Errorf("%v: there is no such member", s)
	}
	return slices.Insert(list, after+1, item), nil
}

// Diff returns the steps from one list to another; none when they are the same. New members come
// before old ones go, members that stay are never away, and as few as possible are moved.
func Diff(have, want []Item) ([]Step, error) {
	if err := distinct(have); err != nil {
		return nil, err
	}
	if err := distinct(want); err != nil {
		return nil, err
	}
	d := differ{list: have}
	still := unmoved(have, want)
	after := ""
	for _, w := range want {
		d.place(w, after, still[w.Name])
		after = w.Name
	}
	for _, h := range have {
		if index(want, h.Name) < 0 {
			d.do(Step{Op: Remove, Name: h.Name})
		}
	}
	return d.steps, d.err
}

// differ collects steps and follows what they make of the list.
type differ struct {
	list  []Item
	steps []Step
	err   error
}

// place brings a member to its place, and to its version.
func (d *differ) place(w Item, after string, still bool) {
	at := index(d.list, w.Name)
	if at < 0 {
		d.do(Step{Op: Insert, Name: w.Name, After: after, Digest: w.Digest})
		return
	}
	if !still {
		d.do(Step{Op: Move, Name: w.Name, After: after})
	}
	if d.err == nil && d.list[index(d.list, w.Name)].Digest != w.Digest {
		d.do(Step{Op: Replace, Name: w.Name, Digest: w.Digest})
	}
}

// do adds a step, and to it what undoes it.
func (d *differ) do(s Step) {
	if d.err != nil {
		return
	}
	if at := index(d.list, s.Name); at >= 0 {
		if s.Op != Replace {
			s.WasAfter = before(d.list, at)
		}
		if s.Op != Move {
			s.Was = d.list[at].Digest
		}
	}
	var list []Item
	if list, d.err = Apply(d.list, s); d.err == nil {
		d.list, d.steps = list, append(d.steps, s)
	}
}

// unmoved chooses the members that stay where they are: a longest run of those in both lists that
// have the same order in both.
func unmoved(have, want []Item) map[string]bool {
	var both []Item
	for _, h := range have {
		if index(want, h.Name) >= 0 {
			both = append(both, h)
		}
	}
	// length[i] is the longest run that ends with both[i], and prev[i] the one before it in that run.
	length, prev := make([]int, len(both)), make([]int, len(both))
	best := -1
	for i := range both {
		length[i], prev[i] = 1, -1
		for j := range i {
			if length[j] >= length[i] && index(want, both[j].Name) < index(want, both[i].Name) {
				length[i], prev[i] = length[j]+1, j
			}
		}
		if best < 0 || length[i] > length[best] {
			best = i
		}
	}
	still := map[string]bool{}
	for i := best; i >= 0; i = prev[i] {
		still[both[i].Name] = true
	}
	return still
}

func distinct(list []Item) error {
	for i, item := range list {
		if item.Name == "" {
			return fmt.Errorf("member %d has no name", i+1)
		}
		if index(list, item.Name) != i {
			return fmt.Errorf("member %s is there twice", item.Name)
		}
	}
	return nil
}

func index(list []Item, name string) int {
	return slices.IndexFunc(list, func(i Item) bool { return i.Name == name })
}

// before is the name of the member before a place, "" when it is the first.
func before(list []Item, at int) string {
	if at == 0 {
		return ""
	}
	return list[at-1].Name
}
