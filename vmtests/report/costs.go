package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/weirnet/weir/sim/result"
)

// noticed is by which part a cost must differ from that on the kernel before to be marked.
const noticed = 0.05

// costTable is what the datapath costs in one respect, over kernels.
type costTable struct {
	Title string
	Rows  []costRow
}

// costRow is one program, or one map.
type costRow struct {
	Name  string
	First string // where it is first not as on the kernel before, in words; "" when it never is
	Cells []costCell
}

// costCell is a cost on one kernel.
type costCell struct {
	Value   uint64
	Known   bool
	Percent int  // of the row's largest
	Changed bool // from the kernel before that has one
}

// costTables are those for which there are values.
func costTables(kernels []*result.Kernel, keys []string) []costTable {
	var verified, instructions, memory []map[string]uint64
	for _, k := range kernels {
		verified = append(verified, whole(k.Verified))
		instructions = append(instructions, whole(k.Instructions))
		memory = append(memory, k.Memory)
	}
	var all []costTable
	for _, t := range []costTable{
		{"Instructions per packet", costRows(instructions, keys)},
		{"Instructions that the verifier walks", costRows(verified, keys)},
		{"Memory of maps, bytes", costRows(memory, keys)},
	} {
		if len(t.Rows) > 0 {
			all = append(all, t)
		}
	}
	return all
}

// whole are costs in whole numbers.
func whole[N int | float64](costs map[string]N) map[string]uint64 {
	all := map[string]uint64{}
	for name, n := range costs {
		all[name] = uint64(math.Round(float64(max(n, 0))))
	}
	return all
}

func costRows(by []map[string]uint64, keys []string) (rows []costRow) {
	names := map[string]bool{}
	for _, costs := range by {
		for name := range costs {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, newCostRow(name, by, keys))
	}
	return rows
}

func newCostRow(name string, by []map[string]uint64, keys []string) costRow {
	row, most := costRow{Name: name}, uint64(1)
	for _, costs := range by {
		most = max(most, costs[name])
	}
	before, known := uint64(0), false
	for i, costs := range by {
		value, ok := costs[name]
		c := costCell{Value: value, Known: ok, Percent: int(float64(value) / float64(most) * 100)}
		if ok && known && differs(before, value) {
			c.Changed = true
			row.First = cmp.Or(row.First, fmt.Sprintf("first on %s: %d, before %d", keys[i], value, before))
		}
		if ok {
			before, known = value, true
		}
		row.Cells = append(row.Cells, c)
	}
	return row
}

func differs(a, b uint64) bool {
	change := float64(b) - float64(a)
	return max(change, -change) > noticed*float64(a)
}

// timeRow is where the time on a kernel went.
type timeRow struct {
	Key   string
	Total int64 // ms
	Parts []timePart
}

// timePart is one of the things that took time.
type timePart struct {
	Name    string
	Millis  int64
	Percent float64 // of the longest kernel's total
}

// timeRows tells where time went on each kernel that ran.
func timeRows(kernels []*result.Kernel, keys []string) (rows []timeRow) {
	longest := int64(1)
	for _, k := range kernels {
		longest = max(longest, k.Millis)
	}
	for i, k := range kernels {
		if k.Unavailable != "" || k.Millis <= 0 {
			continue
		}
		scenarios := int64(0)
		for _, s := range k.Scenarios {
			scenarios += s.Millis
		}
		row := timeRow{Key: keys[i], Total: k.Millis}
		left := k.Millis
		for _, p := range []timePart{{Name: "boot", Millis: k.BootMillis}, {Name: "load", Millis: k.LoadMillis},
			{Name: "scenarios", Millis: scenarios}} {
			p.Millis = min(max(p.Millis, 0), left)
			left -= p.Millis
			row.Parts = append(row.Parts, p)
		}
		row.Parts = append(row.Parts, timePart{Name: "other", Millis: left})
		for j := range row.Parts {
			row.Parts[j].Percent = float64(row.Parts[j].Millis) / float64(longest) * 100
		}
		rows = append(rows, row)
	}
	return rows
}

// slowRow is a scenario and its longest time.
type slowRow struct {
	Name, Key string
	Millis    int64
	Percent   float64 // of the slowest one's
}

// maxSlow is how many of the slowest scenarios are listed.
const maxSlow = 15

// slowest lists the scenarios that took longest, each with the kernel where it did.
func (m *matrix) slowest() []slowRow {
	var rows []slowRow
	for _, w := range m.rows {
		row := slowRow{Name: w.name}
		for i, s := range w.cells {
			if s != nil && s.Millis > row.Millis {
				row.Key, row.Millis = m.keys[i], s.Millis
			}
		}
		if row.Millis > 0 {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b slowRow) int { return cmp.Compare(b.Millis, a.Millis) })
	rows = rows[:min(len(rows), maxSlow)]
	for i := range rows {
		rows[i].Percent = float64(rows[i].Millis) / float64(rows[0].Millis) * 100
	}
	return rows
}
