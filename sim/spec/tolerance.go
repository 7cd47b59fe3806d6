package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tolerance is by how much a field may differ from the golden file. The model, the witness and the
// invariants know none.
type Tolerance struct {
	Field  string // packets, bytes, left
	Within Bound
	Reason string
}

// Bound is a distance from the wanted value. One of its fields is set.
type Bound struct {
	Percent  float64 // of the wanted value
	Count    uint64
	Duration time.Duration
}

// String is the bound as files have it.
func (b Bound) String() string {
	switch {
	case b.Percent > 0:
		return strconv.FormatFloat(b.Percent, 'f', -1, 64) + "%"
	case b.Duration > 0:
		return b.Duration.String()
	}
	return strconv.FormatUint(b.Count, 10)
}

// Allows tells whether a value as golden files write it is near enough to the wanted one. What is no
// number, and no duration, is not.
func (b Bound) Allows(want, got string) bool {
	if w, err := strconv.ParseUint(want, 10, 53); err == nil {
		g, err := strconv.ParseUint(got, 10, 53)
		return err == nil && b.covers(float64(w), float64(g), float64(b.Count))
	}
	w, err := time.ParseDuration(want)
	if err != nil {
		return false
	}
	g, err := time.ParseDuration(got)
	return err == nil && b.covers(float64(w), float64(g), float64(b.Duration))
}

// covers compares what float64 holds exactly: less than 2^53.
func (b Bound) covers(want, got, most float64) bool {
	if b.Percent > 0 {
		most = want * b.Percent / 100
	}
	return max(want-got, got-want) <= most
}

// tolerable are the fields that can have a tolerance; those of freeFields that are quantities.
var tolerable = []string{"packets", "bytes", "left"}

var toleranceObject = object[placed[Tolerance]]{
	what: "a tolerance",
	fields: []field[placed[Tolerance]]{
		put("field", "The field that may differ.", keepPlace(choice(tolerable...)),
			func(t *placed[Tolerance], v placed[string]) { t.v.Field, t.at = v.v, v.at }).must(),
		put("within", "By how much: a number, a part of the wanted value (2%), or a length of time.", boundValue,
			func(t *placed[Tolerance], v Bound) { t.v.Within = v }).must(),
		put("reason", "Why, in one sentence.", str("a sentence", maxSummary),
			func(t *placed[Tolerance], v string) { t.v.Reason = v }).must(),
	},
}

const boundHint = "write it like 40, 2% or 500ms"

// boundValue reads a bound. A percentage is above 0 and at most 100.
var boundValue = value[Bound]{
	schema: schema{"oneOf": []schema{
		{"type": "integer", "minimum": 1, "maximum": uint64(1 << 53)},
		{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?%$`, "examples": []string{"2%"}},
		duration(maxAdvance).schema,
	}},
	read: func(l *list, n *node) (b Bound, ok bool) {
		if !scalar(l, n, "a tolerance") {
			return b, false
		}
		if part, ok := strings.CutSuffix(n.text, "%"); ok {
			percent, err := strconv.ParseFloat(part, 64)
			if err != nil || !(percent > 0 && percent <= 100) || strings.Trim(part, "0123456789.") != "" {
				l.add(n, fmt.Sprintf("%q is no percentage above 0 and up to 100", shorten(n.text)), boundHint)
				return b, false
			}
			return Bound{Percent: percent}, true
		}
		if n.typed {
			b.Count, ok = number[uint64](1, 1<<53).read(l, n)
			return b, ok
		}
		if strings.Trim(n.text, "0123456789.hmsun") != "" {
			l.add(n, fmt.Sprintf("%q is no tolerance", shorten(n.text)), boundHint)
			return b, false
		}
		b.Duration, ok = duration(maxAdvance).read(l, n)
		return b, ok
	}}

// tolerances checks that each field has one tolerance at most, in its own unit, and is not free.
func (r *resolver) tolerances() {
	seen := map[string]bool{}
	for _, t := range r.raw.expect.tolerancesAt {
		field, at := t.v.Field, t.at
		switch timed := t.v.Within.Duration > 0; {
		case seen[field]:
			r.add(at, fmt.Sprintf("%s has a tolerance already", field), "one holds for all records")
		case slices.Contains(r.raw.expect.Free, field):
			r.add(at, fmt.Sprintf("%s is free already", field), "take it out of free, or leave out its tolerance")
		case field == "left" && t.v.Within.Count > 0:
			r.add(at, "left is a length of time", "write within: 500ms")
		case field != "left" && timed:
			r.add(at, fmt.Sprintf("%s is no length of time", field), "write within: 40, or 2%")
		case r.raw.agent.program.at != nil:
			r.add(at, noGolden, "say in known what it gets wrong")
		}
		seen[field] = true
	}
}
