package golden

import (
	"cmp"
	"slices"
	"strconv"
)

// compare orders endpoints by host, then by port as a number; a free port comes last.
func (e Endpoint) compare(o Endpoint) int {
	return cmp.Or(cmp.Compare(e.Host, o.Host), cmp.Compare(e.portOrder(), o.portOrder()),
		cmp.Compare(e.Port, o.Port))
}

func (e Endpoint) portOrder() int {
	if n, err := strconv.Atoi(e.Port); err == nil {
		return n
	}
	return 1 << 16
}

// ends returns the flow's endpoints in the order that both directions share: the initiator's
// first, or the lower one if that is unknown.
func (f *Flow) ends() (first, second Endpoint) {
	backward := f.Initiator == InitiatorDst ||
		f.Initiator != InitiatorSrc && f.Src.compare(f.Dst) > 0
	if backward {
		return f.Dst, f.Src
	}
	return f.Src, f.Dst
}

// forward tells whether the flow is of the direction that is listed first.
func (f *Flow) forward() bool {
	first, _ := f.ends()
	return f.Initiator == InitiatorSrc || f.Initiator != InitiatorDst && first == f.Src
}

// comparePair orders flows by what the two directions of a connection share.
func comparePair(a, b *Flow) int {
	a1, a2 := a.ends()
	b1, b2 := b.ends()
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Cites, b.Cites),
		a1.compare(b1), a2.compare(b2), cmp.Compare(a.ICMP, b.ICMP), cmp.Compare(a.Zone, b.Zone))
}

// sortFlows brings flows into the order of files: by tuple, and the directions of a connection
// side by side, the initiator's first. The order depends on the flows' values alone. Lines are
// costly to make, so they decide only between flows of one tuple.
func sortFlows(flows []Flow) []Flow {
	slices.SortFunc(flows, func(a, b Flow) int {
		if c := comparePair(&a, &b); c != 0 {
			return c
		}
		if c := cmp.Or(a.Src.compare(b.Src), cmp.Compare(a.Packets.Value, b.Packets.Value),
			cmp.Compare(a.Bytes.Value, b.Bytes.Value)); c != 0 {
			return c
		}
		return cmp.Compare(a.record().line(), b.record().line())
	})
	sorted := make([]Flow, 0, len(flows))
	for rest := flows; len(rest) > 0; {
		n := 1
		for n < len(rest) && comparePair(&rest[0], &rest[n]) == 0 {
			n++
		}
		sorted = interleave(sorted, rest[:n])
		rest = rest[n:]
	}
	return sorted
}

// interleave appends the flows of one tuple, directions alternating as long as both last. A
// tuple can carry several connections; going by size mostly puts the two directions of the same
// one together, which is for readers only.
func interleave(to, flows []Flow) []Flow {
	slices.SortStableFunc(flows, func(a, b Flow) int {
		return cmp.Compare(b.Packets.Value, a.Packets.Value)
	})
	var there, back []Flow
	for _, f := range flows {
		if f.forward() {
			there = append(there, f)
		} else {
			back = append(back, f)
		}
	}
	for i := range max(len(there), len(back)) {
		if i < len(there) {
			to = append(to, there[i])
		}
		if i < len(back) {
			to = append(to, back[i])
		}
	}
	return to
}

// sortConnections brings connections into the order of files.
func sortConnections(all []Connection) []Connection {
	slices.SortFunc(all, func(a, b Connection) int {
		if c := cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Cites, b.Cites),
			a.Client.compare(b.Client), a.Server.compare(b.Server)); c != 0 {
			return c
		}
		return cmp.Compare(a.record().line(), b.record().line())
	})
	return all
}

// sortCounters brings counters into the order of files.
func sortCounters(all []HookCounters) []HookCounters {
	slices.SortFunc(all, func(a, b HookCounters) int {
		return cmp.Or(cmp.Compare(a.Hook, b.Hook),
			cmp.Compare(a.record().line(), b.record().line()))
	})
	return all
}
