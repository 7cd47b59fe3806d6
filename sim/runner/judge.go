package runner

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
)

// judge compares what the agent has reported with the invariants, the witness, the model and
// the golden file, in this order: what comes first explains what comes later.
func (p *play) judge(want *wanted, out *result.Scenario) error {
	told, err := golden.ParseOutput("flows.jsonl", p.flows)
	if err != nil {
		return err
	}
	got, diffs := p.reported(told)
	diffs = append(diffs, p.sampled(told.Flows)...)
	diffs = append(diffs, golden.Identities(told.Flows, golden.TopologyNames(p.sc.Topology))...)
	diffs = append(diffs, joined(told.Flows)...)
	diffs = append(diffs, p.labelled(told.Flows)...)
	diffs = append(diffs, p.held(told.Flows)...)
	diffs = append(diffs, golden.Conservation(p.counters, got.Flows, p.witness)...)
	diffs = append(diffs, golden.Compare(p.modelled(), got.Modelled(), "model")...)
	diffs = append(diffs, p.expected()...)
	diffs = append(diffs, p.leaks...)
	diffs = append(diffs, p.oracle...)
	sound := len(diffs) == 0
	for _, c := range p.witness {
		out.Packets += c.Packets
	}
	if err := got.Free(p.sc.Expect.Free...); err != nil {
		return err
	}
	diffs = append(diffs, want.compare(got, out)...)
	out.Differences = diffs
	out.Verdict, out.Reason = verdict(diffs, want.golden() != nil)
	if sound && out.Verdict != result.Pass {
		out.Golden = string(golden.Encode(got))
	}
	want.except(got, time.Now(), out)
	return nil
}

func verdict(diffs []result.Difference, judged bool) (result.Verdict, string) {
	if len(diffs) > 0 {
		against := map[string]int{}
		var order []string
		for _, d := range diffs {
			if against[d.Against] == 0 {
				order = append(order, d.Against)
			}
			against[d.Against]++
		}
		var parts []string
		for _, a := range order {
			parts = append(parts, fmt.Sprintf("%d from the %s", against[a], a))
		}
		return result.Fail, "differences: " + strings.Join(parts, ", ")
	}
	if !judged {
		return result.Fail, "there is no golden file; write it with --update"
	}
	return result.Pass, ""
}

// reported is what the agent has told, in canonical form.
func (p *play) reported(told *golden.Output) (*golden.Golden, []result.Difference) {
	names := golden.TopologyNames(p.sc.Topology)
	flows, diffs := golden.Records(told.Flows, names)
	dns, more := golden.TakeDNS(told.DNS, names)
	return &golden.Golden{
		Flows: flows, Connections: golden.Connections(p.connections, names),
		Labels: names.RecordOwners(told.Flows), Counters: golden.Counters(p.counters),
		DNS: dns, Drops: golden.Drops(told.Drops, names, p.namespaces),
	}, append(diffs, more...)
}

// sampled checks that every record tells the factor by which it stands for more.
func (p *play) sampled(records []flow.Record) []result.Difference {
	want := p.sc.Agent.Sample
	if want == 1 {
		want = 0 // not written
	}
	for _, r := range records {
		if r.Sampling != want {
			return []result.Difference{{Section: "flows", Against: "invariant", Kind: "differs",
				Record: fmt.Sprintf("boot %s, sequence %d", r.Boot, r.Sequence),
				Fields: []result.Field{{Name: "sampling", Want: strconv.FormatUint(uint64(want), 10),
					Got: strconv.FormatUint(uint64(r.Sampling), 10)}}}}
		}
	}
	return nil
}

// joined checks that records of what has been translated name the flow of what came to the
// translation, where there are records of that.
func joined(records []flow.Record) (diffs []result.Difference) {
	flows := map[string]uint64{} // by the translation's id
	for _, r := range records {
		if r.NATAfter.ID != "" && r.Cites == 0 {
			flows[r.NATAfter.ID] = r.Flow
		}
	}
	for _, r := range records {
		if want := flows[r.NATBefore.ID]; r.NATBefore.ID != "" && r.Cites == 0 && r.NATBefore.Flow != want {
			diffs = append(diffs, result.Difference{Section: "flows", Against: "invariant", Kind: "differs",
				Record: fmt.Sprintf("boot %s, sequence %d", r.Boot, r.Sequence),
				Fields: []result.Field{{Name: "nat_before.flow", Want: strconv.FormatUint(want, 10),
					Got: strconv.FormatUint(r.NATBefore.Flow, 10)}}})
		}
	}
	return diffs
}

// modelled is what the model makes of the packets that the witness saw.
func (p *play) modelled() *golden.Golden {
	names := golden.TopologyNames(p.sc.Topology)
	flows := p.model.Flows()
	p.nat.tell(flows)
	for i := range flows {
		p.cluster.Label(&flows[i])
	}
	return &golden.Golden{
		Flows: golden.ModelFlows(flows, names), Connections: p.modelConnections,
		Labels: names.ModelOwners(flows), Counters: golden.Counters(p.model.Counters()),
		DNS: golden.ModelDNS(p.model.DNS(), names),
	}
}

// expected checks the counters that the scenario names, summed over all hooks.
func (p *play) expected() []result.Difference {
	var diffs []result.Difference
	for name, want := range p.sc.Expect.Counters {
		if got := p.counter(name); got != want {
			diffs = append(diffs, result.Difference{
				Section: "counters", Against: "invariant", Kind: "differs", Record: name,
				Fields: []result.Field{{Name: "packets", Want: strconv.FormatUint(want, 10),
					Got: strconv.FormatUint(got, 10)}},
			})
		}
	}
	return diffs
}

func (p *play) counter(name string) uint64 {
	var sum uint64
	for _, c := range p.counters {
		outcome, reason, _ := strings.Cut(name, ".")
		switch {
		case outcome == "lost":
			sum += c.Lost[model.Reason(reason)].Packets
		case outcome == "left_out":
			sum += c.LeftOut[model.Reason(reason)].Packets
		case name == "seen":
			sum += c.Seen.Packets
		case name == "accounted":
			sum += c.Accounted.Packets
		case name == "observed":
			sum += c.Observed.Packets
		}
	}
	return sum
}
