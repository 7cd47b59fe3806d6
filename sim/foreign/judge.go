package foreign

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// Truth is what the reference model makes of the packets, as a program that knows addresses, ports
// and protocols would tell it.
func (m *Map) Truth(flows []model.Flow) Flows {
	truth := Flows{}
	for _, f := range flows {
		k := Key{Src: f.Src, Dst: f.Dst, Protocol: f.Protocol}
		if hasPorts(f.Protocol) && f.Cites == 0 {
			k.SrcPort, k.DstPort = f.SrcPort, f.DstPort
		}
		c := truth[k]
		c.Packets += f.Packets
		c.Bytes += f.Bytes - min(f.Bytes, f.Packets*m.LinkBytes)
		truth[k] = c
	}
	return truth
}

// Compare tells which flows the program has missed, which it has made up (or filed under another
// name), and whose packets and bytes are wrong. What the scenario says is known is taken out; what
// is known and was not found comes back as a difference of its own.
func (m *Map) Compare(truth, got Flows, names *golden.Names, known []spec.Known) (diffs []result.Difference, found int) {
	open := map[spec.Known]bool{}
	for _, k := range known {
		open[spec.Known{Flow: k.Flow, Kind: k.Kind}] = true
	}
	for _, d := range m.differences(truth, got, names) {
		k := spec.Known{Flow: d.Record, Kind: d.Kind}
		if _, ok := open[k]; ok {
			open[k] = false
			found++
			continue
		}
		diffs = append(diffs, d)
	}
	for _, k := range known {
		if open[spec.Known{Flow: k.Flow, Kind: k.Kind}] {
			diffs = append(diffs, result.Difference{Section: "known", Against: "scenario", Kind: "missing",
				Record: fmt.Sprintf("%s: %s (%s)", k.Kind, k.Flow, k.Reason)})
		}
	}
	return diffs, found
}

// differences are all, in the order of the flows' names.
func (m *Map) differences(truth, got Flows, names *golden.Names) []result.Difference {
	all := maps.Clone(truth)
	maps.Copy(all, got)
	var diffs []result.Difference
	for k := range all {
		want, sent := truth[k]
		have, told := got[k]
		d := result.Difference{Section: "flows", Against: "model", Record: k.Name(names)}
		switch {
		case !told:
			d.Kind, d.Fields = "missing", m.fields(want, Count{})
		case !sent:
			d.Kind, d.Fields = "extra", m.fields(Count{}, have)
		default:
			d.Kind, d.Fields = "differs", m.fields(want, have)
		}
		if len(d.Fields) > 0 || d.Kind != "differs" {
			diffs = append(diffs, d)
		}
	}
	slices.SortFunc(diffs, func(a, b result.Difference) int { return cmp.Compare(a.Record, b.Record) })
	return diffs
}

func (m *Map) fields(want, got Count) (fields []result.Field) {
	add := func(name string, want, got uint64) {
		if want != got {
			fields = append(fields, result.Field{Name: name, Want: strconv.FormatUint(want, 10),
				Got: strconv.FormatUint(got, 10)})
		}
	}
	add("packets", want.Packets, got.Packets)
	if m.countsBytes() {
		add("bytes", want.Bytes, got.Bytes)
	}
	return fields
}
