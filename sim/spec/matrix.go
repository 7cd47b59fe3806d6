package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds on a matrix.
const (
	maxAxis     = 8  // values of one axis
	maxVariants = 64 // of one scenario
)

// axes are what a matrix can vary: the family that steps are sent in, and keys of the agent.
var axes = []string{"family", "hook", "mid_stream", "sample", "sweep", "table", "table_full"}

// axis is a key and the values that the scenario is run with.
type axis struct {
	name   string
	at     *node
	values []*node
}

// choiceOf is one value of one axis.
type choiceOf struct {
	axis  *axis
	value *node
}

// variantName is what tells a variant from the others.
func variantName(choices []choiceOf) string {
	var parts []string
	for _, c := range choices {
		parts = append(parts, c.axis.name+"="+c.value.text)
	}
	return strings.Join(parts, ",")
}

// Variants lists the variants of a scenario file: "family=ipv6,hook=tc" for each combination of its
// matrix, in file order; one that is "" for a file without a matrix, or one that cannot be read.
func Variants(file string, data []byte) []string {
	root, err := parseYAML(file, data)
	if err != nil {
		return []string{""}
	}
	var raw rawScenario
	l := &list{file: file, lines: strings.Split(string(data), "\n")}
	scenarioObject.read(l, root, &raw)
	names := []string{""}
	if len(l.errs) == 0 {
		names = names[:0]
		for _, c := range combinations(raw.matrix) {
			names = append(names, variantName(c))
		}
	}
	return names
}

// combinations lists all combinations, the last axis changing first.
func combinations(all []axis) [][]choiceOf {
	out := [][]choiceOf{nil}
	for i := range all {
		var next [][]choiceOf
		for _, c := range out {
			for _, v := range all[i].values {
				next = append(next, append(slices.Clone(c), choiceOf{&all[i], v}))
			}
		}
		out = next
	}
	return out
}

// Judged is the part of a variant that may change what the agent reports. Hooks and ways through the
// tables must not: their variants have one golden file.
func Judged(variant string) string {
	parts := slices.DeleteFunc(strings.Split(variant, ","), func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		return name == "hook" || name == "sweep"
	})
	return strings.Join(parts, ",")
}

var matrixValue = value[[]axis]{
	schema: func() schema {
		properties := schema{}
		for _, name := range axes {
			properties[name] = schema{"type": "array", "minItems": 1, "maxItems": maxAxis,
				"uniqueItems": true, "description": "Values of " + name + ".", "items": axisSchema(name)}
		}
		return schema{"type": "object", "minProperties": 1, "properties": properties,
			"additionalProperties": false}
	}(),
	read: func(l *list, n *node) (all []axis, ok bool) {
		if n.kind != mapKind || len(n.pairs) == 0 {
			l.add(n, fmt.Sprintf("want a matrix, got %s", n.what()), "write {family: [ipv4, ipv6]}")
			return nil, false
		}
		before, count := len(l.errs), 1
		for _, p := range n.pairs {
			if !slices.Contains(axes, p.key.text) {
				l.add(p.key, "unknown axis of the matrix", suggest(p.key.text, axes))
				continue
			}
			a := axis{name: p.key.text, at: p.key}
			a.values, _ = listOf("values", axisItem, 1, maxAxis).read(l, p.value)
			for i, v := range a.values {
				if slices.ContainsFunc(a.values[:i], func(o *node) bool { return o.text == v.text }) {
					l.add(v, fmt.Sprintf("%q is given twice", v.text), "")
				}
			}
			count *= max(1, len(a.values))
			all = append(all, a)
		}
		if count > maxVariants {
			l.add(n, fmt.Sprintf("the matrix has %d combinations", count),
				fmt.Sprintf("at most %d are run", maxVariants))
		}
		return all, len(l.errs) == before
	}}

// axisItem is a value that is read when it is put in its place.
var axisItem = value[*node]{read: func(l *list, n *node) (*node, bool) {
	return n, scalar(l, n, "a value")
}}

var familyChoice = choice("ipv4", "ipv6")

// axisSchema is the schema of the values of an axis.
func axisSchema(name string) schema {
	for _, f := range agentObject.fields {
		if f.name == name {
			return f.schema
		}
	}
	return familyChoice.schema
}

// take puts the values of a variant in their places.
func (s *rawScenario) take(l *list, root *node, choices []choiceOf) {
	for _, c := range choices {
		if c.axis.name != "family" {
			s.takeAgent(l, root, c)
			continue
		}
		family, ok := familyChoice.read(l, c.value)
		for _, step := range s.steps {
			if ok && (step.pair != nil || step.mix != nil) && step.family == "" {
				step.family = family
			}
		}
	}
}

func (s *rawScenario) takeAgent(l *list, root *node, c choiceOf) {
	for _, p := range root.pairs {
		for _, own := range p.value.pairs {
			if p.key.text == "agent" && own.key.text == c.axis.name {
				l.add(own.key, "is an axis of the matrix already", "leave it out here, or there")
			}
		}
	}
	for _, f := range agentObject.fields {
		if f.name == c.axis.name {
			f.read(l, c.value, &s.agent)
		}
	}
}
