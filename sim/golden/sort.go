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

// rank is where a flow stands in the order of files, by what the two directions of a connection
// share. A flow is compared with many, so what is costly to find out is found out once.
type rank struct {
	flow          *Flow
	first, second Endpoint
	ports         [2]int // as numbers, of first and second
}

func rankOf(f *Flow) rank {
	p := rank{flow: f}
	p.first, p.second = f.ends()
	p.ports = [2]int{p.first.portOrder(), p.second.portOrder()}
	return p
}

// comparePair orders flows by what the two directions of a connection share.
func comparePair(a, b *rank) int {
	return cmp.Or(cmp.Compare(a.flow.Proto, b.flow.Proto), cmp.Compare(a.flow.Cites, b.flow.Cites),
		cmp.Compare(a.first.Host, b.first.Host), cmp.Compare(a.ports[0], b.ports[0]),
		cmp.Compare(a.first.Port, b.first.Port),
		cmp.Compare(a.second.Host, b.second.Host), cmp.Compare(a.ports[1], b.ports[1]),
		cmp.Compare(a.second.Port, b.second.Port),
		cmp.Compare(a.flow.ICMP, b.flow.ICMP), cmp.Compare(a.flow.Zone, b.flow.Zone))
}

// sortFlows brings flows into the order of files: by tuple, and the directions of a connection
// side by side, the initiator's first. The order depends on the flows' values alone. Lines are
// costly to make, so they decide only between flows of one tuple.
func sortFlows(flows []Flow) []Flow {
	ranks := make([]rank, len(flows))
	for i := range flows {
		ranks[i] = rankOf(&flows[i])
	}
	slices.SortFunc(ranks, func(x, y rank) int {
		if c := comparePair(&x, &y); c != 0 {
			return c
		}
		a, b := x.flow, y.flow
		if c := cmp.Or(a.Src.compare(b.Src), cmp.Compare(a.Packets.Value, b.Packets.Value),
			cmp.Compare(a.Bytes.Value, b.Bytes.Value)); c != 0 {
			return c
		}
		return cmp.Compare(a.record().line(), b.record().line())
	})
	sorted := make([]Flow, 0, len(flows))
	for rest := ranks; len(rest) > 0; {
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
func interleave(to []Flow, ranks []rank) []Flow {
	slices.SortStableFunc(ranks, func(a, b rank) int {
		return cmp.Compare(b.flow.Packets.Value, a.flow.Packets.Value)
	})
	var there, back []*Flow
	for _, p := range ranks {
		if p.flow.forward() {
			there = append(there, p.flow)
		} else {
			back = append(back, p.flow)
		}
	}
	for i := range max(len(there), len(back)) {
		if i < len(there) {
			to = append(to, *there[i])
		}
		if i < len(back) {
			to = append(to, *back[i])
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
