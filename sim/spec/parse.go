package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Parse reads and checks a scenario file and fills in everything derivable. file is its path,
// for the scenario's name and for errors. A mistake in the file is an *Error; several are
// Errors, which errors.As sees through. Of a file with a matrix all variants are checked, and the
// first is returned.
func Parse(file string, data []byte) (*Scenario, error) {
	var first *Scenario
	for _, v := range Variants(file, data) {
		s, err := ParseVariant(file, data, v)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = s
		}
	}
	return first, nil
}

// ParseVariant is Parse for one variant of those that Variants lists.
func ParseVariant(file string, data []byte, variant string) (*Scenario, error) {
	root, err := parseYAML(file, data)
	if err != nil {
		return nil, err
	}
	l := &list{file: file, lines: strings.Split(string(data), "\n")}
	var raw rawScenario
	scenarioObject.read(l, root, &raw)
	// Names are looked up only when all parts are sound: what a broken part would have
	// declared would be missed a second time.
	if len(l.errs) > 0 {
		return nil, l.err()
	}
	all := combinations(raw.matrix)
	i := slices.IndexFunc(all, func(c []choiceOf) bool { return variantName(c) == variant })
	if i < 0 {
		return nil, &Error{File: file, Msg: fmt.Sprintf("the scenario has no variant %q", variant)}
	}
	raw.take(l, root, all[i])
	if len(l.errs) > 0 {
		return nil, l.err()
	}
	s := raw.scenario(l, file)
	if err := l.in(variant).err(); err != nil {
		return nil, err
	}
	s.Requires = s.required()
	return s, nil
}

// scenario looks up what the parts of the file name.
func (s *rawScenario) scenario(l *list, file string) *Scenario {
	topology := s.topology.build(l)
	if len(l.errs) > 0 {
		return nil
	}
	out := &Scenario{Name: Name(file), Summary: s.summary, Tags: s.tags, Topology: topology,
		Agent: s.agent.agent, Cluster: s.cluster.v, Oracle: s.oracle.v, Expect: s.expect, Requires: s.requires}
	r := resolver{list: l, scenario: out, raw: s}
	r.resolve()
	return out
}

// Name is the scenario's name: the file's path below the last folder "scenarios", or else its
// base, without the extension.
func Name(file string) string {
	file = path.Clean(strings.ReplaceAll(file, "\\", "/"))
	if i := strings.LastIndex("/"+file, "/scenarios/"); i >= 0 {
		file = file[i+len("scenarios/"):]
	} else {
		file = path.Base(file)
	}
	return strings.TrimSuffix(file, path.Ext(file))
}
