package golden

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// The kinds of difference.
const (
	kindMissing   = "missing"
	kindExtra     = "extra"
	kindDuplicate = "duplicate"
	kindDiffers   = "differs"
)

// maxPairs bounds the search for the nearest records among those that share no tuple.
const maxPairs = 250_000

// Compare returns how got differs from want; against is the name of want in the differences.
//
// Records are multisets: their order is of no matter, their number is. Free values of want go
// with anything. Where want has a digest, the same values must be free in got (see Free).
// A record of want that is not there is paired with the nearest that is there in its place,
// first among those of its tuple and direction, and differs from that in fields.
func Compare(want, got *Golden, against string) []result.Difference {
	diffs, _ := CompareWithin(want, got, against, nil)
	return diffs
}

// CompareWithin is Compare with tolerances. A record that is not there, but one of its tuple and
// direction that differs in nothing but fields within their tolerances, is no difference: these fields
// are the allowed. A section that a digest stands for has no tolerance.
func CompareWithin(want, got *Golden, against string, within []spec.Tolerance) ([]result.Difference, []Allowed) {
	c := comparison{against: against, within: within}
	c.section = "flows"
	if want.FlowDigest != nil || got.FlowDigest != nil {
		c.digests(flowDigest(want), flowDigest(got))
	} else {
		w, g := sortFlows(slices.Clone(want.Flows)), sortFlows(slices.Clone(got.Flows))
		if !reflect.DeepEqual(w, g) { // records are costly to write out
			c.records(flowRecords(w), flowRecords(g))
		}
	}
	c.section = "connections"
	if want.ConnectionDigest != nil || got.ConnectionDigest != nil {
		c.digests(connectionDigest(want), connectionDigest(got))
	} else {
		w := sortConnections(slices.Clone(want.Connections))
		g := sortConnections(slices.Clone(got.Connections))
		if !slices.Equal(w, g) {
			c.records(connectionRecords(w), connectionRecords(g))
		}
	}
	c.section = "labels"
	c.records(labelRecords(want.Labels), labelRecords(got.Labels))
	c.section = "counters"
	c.records(counterRecords(sortCounters(slices.Clone(want.Counters))),
		counterRecords(sortCounters(slices.Clone(got.Counters))))
	c.section = "dns"
	c.records(dnsRecords(sortDNS(slices.Clone(want.DNS))), dnsRecords(sortDNS(slices.Clone(got.DNS))))
	c.section = "drops"
	c.records(dropRecords(sortDrops(slices.Clone(want.Drops))),
		dropRecords(sortDrops(slices.Clone(got.Drops))))
	return c.found, c.allowed
}

func flowDigest(g *Golden) Digest {
	if g.FlowDigest != nil {
		return *g.FlowDigest
	}
	return digestFlows(sortFlows(slices.Clone(g.Flows)))
}

func connectionDigest(g *Golden) Digest {
	if g.ConnectionDigest != nil {
		return *g.ConnectionDigest
	}
	return digestConnections(g.Connections)
}

// labelRecords makes a record of each name; the name is part of it as "name".
func labelRecords(all map[string]map[string]string) []record {
	records := make([]record, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := labelRecord(name, all[name])
		r.fields = append([]column{{key: "name", value: name}}, r.columns...)
		r.columns = []column{{key: scalar(name), value: r.line(), raw: true}}
		records = append(records, r)
	}
	return records
}

// comparison compares one section after the other.
type comparison struct {
	section, against string
	within           []spec.Tolerance
	found            []result.Difference
	allowed          []Allowed
}

func (c *comparison) add(kind string, r record, fields []result.Field) {
	c.found = append(c.found, result.Difference{Section: c.section, Against: c.against,
		Kind: kind, Record: r.line(), Fields: fields})
}

// digests compares what stands for long sections.
func (c *comparison) digests(want, got Digest) {
	w, g := want.record(), got.record()
	if fields := differing(w, g); len(fields) > 0 {
		c.add(kindDiffers, w, fields)
	}
}

// side is the records of one side that are not accounted for yet.
type side struct {
	records []record
	done    []bool
}

// left returns the indexes of the records that are not accounted for.
func (s *side) left() []int {
	var left []int
	for i, done := range s.done {
		if !done {
			left = append(left, i)
		}
	}
	return left
}

// records compares two sorted multisets.
func (c *comparison) records(want, got []record) {
	w := side{want, make([]bool, len(want))}
	g := side{got, make([]bool, len(got))}
	matchEqual(&w, &g)
	c.matchWithin(&w, &g)
	duplicates := matchDuplicates(&w, &g)
	pairs := matchTuples(&w, &g)
	maps.Copy(pairs, matchNearest(&w, &g))
	for i, r := range want {
		switch partner, ok := pairs[i]; {
		case ok:
			c.add(kindDiffers, r, differing(r, got[partner]))
		case !w.done[i]:
			c.add(kindMissing, r, nil)
		}
	}
	for i, r := range got {
		switch {
		case duplicates[i]:
			c.add(kindDuplicate, r, nil)
		case !g.done[i]:
			c.add(kindExtra, r, nil)
		}
	}
}

// matchEqual takes out the records that both sides have: equal ones, and then those that free
// values of want make equal. Records with few free values choose first.
func matchEqual(w, g *side) {
	lines := map[string][]int{}
	for i, r := range g.records {
		lines[r.line()] = append(lines[r.line()], i)
	}
	for i, r := range w.records {
		if at := lines[r.line()]; len(at) > 0 {
			lines[r.line()] = at[1:]
			w.done[i], g.done[at[0]] = true, true
		}
	}
	open := slices.DeleteFunc(w.left(), func(i int) bool { return w.records[i].stars() == 0 })
	slices.SortStableFunc(open, func(a, b int) int {
		return cmp.Compare(w.records[a].stars(), w.records[b].stars())
	})
	for _, i := range open {
		for j, r := range g.records {
			if !g.done[j] && same(w.records[i], r) {
				w.done[i], g.done[j] = true, true
				break
			}
		}
	}
}

// matchDuplicates takes out records of got that are further copies of one that was matched.
func matchDuplicates(w, g *side) map[int]bool {
	matched := map[string]bool{}
	for i, r := range g.records {
		if g.done[i] {
			matched[r.line()] = true
		}
	}
	duplicates := map[int]bool{}
	for _, i := range g.left() {
		if matched[g.records[i].line()] {
			duplicates[i] = true
			g.done[i] = true
		}
	}
	return duplicates
}

// maxPartners bounds how many records of one tuple are tried.
const maxPartners = 64

// byTuple returns the indexes of what is left, by what it is about; not all where there are many.
func (s *side) byTuple() map[string][]int {
	all := map[string][]int{}
	for _, j := range s.left() {
		if id := s.records[j].identity; len(all[id]) < maxPartners {
			all[id] = append(all[id], j)
		}
	}
	return all
}

// candidate is a record of each side, and in how many fields they differ.
type candidate struct{ want, got, distance int }

// matchTuples pairs what is left of the same tuple and direction, nearest first.
func matchTuples(w, g *side) map[int]int {
	byTuple := g.byTuple()
	var all []candidate
	for _, i := range w.left() {
		for _, j := range byTuple[w.records[i].identity] {
			all = append(all, candidate{i, j, len(differing(w.records[i], g.records[j]))})
		}
	}
	return pairUp(w, g, all)
}

// matchNearest pairs what is left with the nearest, if most fields agree.
func matchNearest(w, g *side) map[int]int {
	wants, gots := w.left(), g.left()
	if len(wants)*len(gots) > maxPairs {
		return nil
	}
	var all []candidate
	for _, i := range wants {
		for _, j := range gots {
			distance := len(differing(w.records[i], g.records[j]))
			if distance*3 <= len(w.records[i].compared()) {
				all = append(all, candidate{i, j, distance})
			}
		}
	}
	return pairUp(w, g, all)
}

// pairUp takes out pairs in order of their distance.
func pairUp(w, g *side, all []candidate) map[int]int {
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Compare(a.distance, b.distance)
	})
	pairs := map[int]int{}
	for _, c := range all {
		if !w.done[c.want] && !g.done[c.got] {
			w.done[c.want], g.done[c.got] = true, true
			pairs[c.want] = c.got
		}
	}
	return pairs
}

// same tells whether no field differs.
func same(want, got record) bool {
	return slices.EqualFunc(want.compared(), got.compared(), func(w, g column) bool {
		return w.key == g.key && fits(w.value, g.value)
	})
}

// differing returns the fields in which two records differ, in the order of want's.
func differing(want, got record) []result.Field {
	var fields []result.Field
	values := map[string]string{}
	for _, c := range got.compared() {
		values[c.key] = c.value
	}
	for _, c := range want.compared() {
		value, ok := values[c.key]
		delete(values, c.key)
		if !ok || !fits(c.value, value) {
			fields = append(fields, result.Field{Name: c.key, Want: c.value, Got: value})
		}
	}
	for _, c := range got.compared() {
		if _, more := values[c.key]; more {
			fields = append(fields, result.Field{Name: c.key, Got: c.value})
		}
	}
	return fields
}

// fits tells whether a value is the wanted one, or the wanted one is free in it: as a whole, or
// in its port. Of two ends, each must fit.
func fits(want, got string) bool {
	if want == got || want == star {
		return true
	}
	wantSrc, wantDst, ends := strings.Cut(want, between)
	gotSrc, gotDst, others := strings.Cut(got, between)
	if ends && others {
		return fits(wantSrc, gotSrc) && fits(wantDst, gotDst)
	}
	prefix, free := strings.CutSuffix(want, ":"+star)
	at := strings.LastIndexByte(got, ':')
	return free && at >= 0 && got[:at] == prefix
}

// stars counts the free values.
func (r record) stars() int {
	n := 0
	for _, c := range r.compared() {
		if c.value == star {
			n++
		}
		n += strings.Count(c.value, ":"+star)
	}
	return n
}
