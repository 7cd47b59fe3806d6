package golden

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/result"
)

// identity is a flow id, which is unique as long as the maps live, and so within a boot of an agent.
type identity struct {
	boot string
	flow uint64
}

// life is what all records of an identity tell of when it was.
type life struct {
	identity
	start, end int64
	record     flow.Record // one of them
}

// Identities checks that flow ids, for which golden files have no name, stand for connections one to one:
// no id is of two connections, and no connection has two ids at the same time. Those that found no room in
// a table have none.
func Identities(records []flow.Record, names *Names) (diffs []result.Difference) {
	l := ledger{names: names}
	tuples := map[identity]tuple{}
	lives := map[identity]*life{}
	var order []*life
	for _, r := range records {
		if homeless(&r) {
			continue
		}
		id, of := identity{r.Boot, r.Flow}, connectionTuple(r)
		if before, ok := tuples[id]; !ok {
			tuples[id] = of
			lives[id] = &life{id, r.Start, r.End, r}
			order = append(order, lives[id])
		} else if before != of {
			l.differ("duplicate", r, "flow id", "of one connection", strconv.FormatUint(r.Flow, 10)+" is of another, too")
		}
		lives[id].start, lives[id].end = min(lives[id].start, r.Start), max(lives[id].end, r.End)
	}
	byTuple := map[tuple][]*life{}
	for _, a := range order {
		of := tuples[a.identity]
		for _, b := range byTuple[of] {
			if a.boot == b.boot && a.start < b.end && b.start < a.end {
				l.differ("duplicate", a.record, "flow id", "one at a time", fmt.Sprintf("%d and %d", b.flow, a.flow))
			}
		}
		byTuple[of] = append(byTuple[of], a)
	}
	return l.differences
}

// connectionTuple is that of a connection, the same for both directions.
func connectionTuple(r flow.Record) tuple {
	ends := []netip.AddrPort{netip.AddrPortFrom(r.Src, r.SrcPort), netip.AddrPortFrom(r.Dst, r.DstPort)}
	if slices.MaxFunc(ends, netip.AddrPort.Compare) == ends[0] {
		r.Src, r.SrcPort, r.Dst, r.DstPort = r.Dst, r.DstPort, r.Src, r.SrcPort
	}
	return recordTuple(r)
}
