package spec

import (
	"path"
	"strings"
)

// Parse reads and checks a scenario file and fills in everything derivable. file is its path,
// for the scenario's name and for errors. A mistake in the file is an *Error; several are
// Errors, which errors.As sees through.
func Parse(file string, data []byte) (*Scenario, error) {
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
	topology := raw.topology.build(l)
	if len(l.errs) > 0 {
		return nil, l.err()
	}
	s := &Scenario{Name: Name(file), Summary: raw.summary, Tags: raw.tags, Topology: topology,
		Agent: raw.agent.agent, Cluster: raw.cluster.v, Expect: raw.expect}
	r := resolver{list: l, scenario: s, raw: &raw}
	r.resolve()
	if err := l.err(); err != nil {
		return nil, err
	}
	return s, nil
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
