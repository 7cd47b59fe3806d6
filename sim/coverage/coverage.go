// Package coverage tells what scenarios show: which protocols, through which events, on which
// topologies. It reads that from the scenarios and from their golden files.
package coverage

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
)

// cell is how many scenarios show an event on a topology, by protocol.
type cell map[string]int

// Table counts scenarios by event, topology and protocol.
type Table struct {
	files, variants int
	cells           map[[2]string]cell // by event and topology
	events          map[string]bool
}

// New counts scenarios. A scenario with a matrix counts once, by its first variant. Those that judge
// another program have no golden file and are left out.
func New(jobs []runner.Job) (*Table, error) {
	t := &Table{cells: map[[2]string]cell{}, events: map[string]bool{}}
	seen := map[string]bool{}
	for _, j := range jobs {
		t.variants++
		if seen[j.File] {
			continue
		}
		seen[j.File] = true
		t.files++
		sc, err := j.Scenario()
		if err != nil {
			return nil, err
		}
		if sc.Agent.Program != nil {
			continue
		}
		want, err := golden.Decode(j.GoldenFile, j.Golden, sc.Expect.Free...)
		if err != nil {
			return nil, err
		}
		t.add(sc, want)
	}
	return t, nil
}

// Tags are words to select a scenario by: its own, and what it consists of.
func Tags(sc *spec.Scenario) []string {
	all := slices.Concat(sc.Tags, topologies(&sc.Topology), agentEvents(sc), stepEvents(sc))
	slices.Sort(all)
	return slices.Compact(all)
}

// add counts one scenario.
func (t *Table) add(sc *spec.Scenario, want *golden.Golden) {
	shown := map[[2]string]bool{} // events and protocols
	for _, f := range want.Flows {
		for _, event := range flowEvents(&f) {
			shown[[2]string{event, f.Proto}] = true
		}
	}
	protocols := protocolsOf(sc, want)
	for _, event := range slices.Concat(agentEvents(sc), stepEvents(sc), lossEvents(want)) {
		for _, p := range protocols {
			shown[[2]string{event, p}] = true
		}
	}
	for pair := range shown {
		t.events[pair[0]] = true
		for _, topology := range topologies(&sc.Topology) {
			key := [2]string{pair[0], topology}
			if t.cells[key] == nil {
				t.cells[key] = cell{}
			}
			t.cells[key][pair[1]]++
		}
	}
}

// protocolsOf are those of the flows that are reported. Where there is a digest of them only, the
// bursts tell; where nothing but loss is reported, there is none.
func protocolsOf(sc *spec.Scenario, want *golden.Golden) []string {
	all := map[string]bool{}
	for _, f := range want.Flows {
		all[f.Proto] = true
	}
	for _, s := range sc.Steps {
		if s.Burst != nil && s.Burst.Protocol != "" {
			all[s.Burst.Protocol] = true
		} else if s.Burst != nil {
			all["tcp"], all["udp"] = true, true
		}
	}
	if len(all) == 0 {
		return []string{"none"}
	}
	return slices.Sorted(maps.Keys(all))
}

// Markdown writes the page.
func (t *Table) Markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# What the scenarios cover

Written by `+"`weir sim coverage`"+` from the scenarios and their golden files; a test holds it against them. There are
%d scenarios; counted with each combination of a `+"`matrix:`"+` apart, %d.

A cell has the protocols with which an event is shown on a topology, and by how many scenarios. A scenario counts
in every row and column that it belongs to. "none" stands for packets that become no flow.

`, t.files, t.variants)
	fmt.Fprintf(&b, "| event | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, event := range slices.Sorted(maps.Keys(t.events)) {
		fmt.Fprintf(&b, "| %s |", event)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", t.cells[[2]string{event, c}])
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// String has the most frequent protocol first.
func (c cell) String() string {
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		return cmp.Or(cmp.Compare(c[b], c[a]), cmp.Compare(a, b))
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, c[n])
	}
	return strings.Join(names, ", ")
}
