package golden

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// Allowed is a field that differs, but within a tolerance.
type Allowed struct {
	Tolerance spec.Tolerance
	Section   string
	Record    string // its line in the golden file
	Field     result.Field
}

// String tells the field, both values, and why that is good.
func (a Allowed) String() string {
	return fmt.Sprintf("%s of %s %s: want %s, got %s, within %s: %s", a.Field.Name, a.Section, a.Record,
		a.Field.Want, a.Field.Got, a.Tolerance.Within, a.Tolerance.Reason)
}

// matchWithin takes out records that differ from a wanted one in nothing but fields within their
// tolerances; those that differ in the fewest choose first.
func (c *comparison) matchWithin(w, g *side) {
	if len(c.within) == 0 {
		return
	}
	byTuple := g.byTuple()
	var all []candidate
	for _, i := range w.left() {
		for _, j := range byTuple[w.records[i].identity] {
			fields := differing(w.records[i], g.records[j])
			if c.allow(w.records[i], fields) != nil {
				all = append(all, candidate{i, j, len(fields)})
			}
		}
	}
	pairs := pairUp(w, g, all)
	for i, r := range w.records {
		if j, ok := pairs[i]; ok {
			c.allowed = append(c.allowed, c.allow(r, differing(r, g.records[j]))...)
		}
	}
}

// allow tells by which tolerances all of the fields may differ; nil if one may not.
func (c *comparison) allow(r record, fields []result.Field) []Allowed {
	var all []Allowed
	for _, f := range fields {
		t := c.toleranceOf(f.Name)
		if t == nil || !t.Within.Allows(f.Want, f.Got) {
			return nil
		}
		all = append(all, Allowed{*t, c.section, r.line(), f})
	}
	return all
}

// toleranceOf is the tolerance of a field of a record: "forward" and "seen.packets" are packets.
func (c *comparison) toleranceOf(name string) *spec.Tolerance {
	if name == "forward" || name == "reverse" {
		name = "packets"
	}
	name = name[strings.LastIndexByte(name, '.')+1:]
	for i := range c.within {
		if c.within[i].Field == name {
			return &c.within[i]
		}
	}
	return nil
}
