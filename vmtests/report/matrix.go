package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// matrix is a report laid out: scenarios down, kernels across.
type matrix struct {
	kernels []*result.Kernel
	keys    []string // of the kernels: their lines, made unique
	rows    []row
}

// row is one scenario on all kernels.
type row struct {
	name    string
	summary string
	cells   []*result.Scenario // by kernel; nil where it was not planned
}

// newMatrix lays r out. Rows are sorted by folder and name. When a kernel has several results
// for a scenario, the worst is shown.
func newMatrix(r *result.Report) *matrix {
	m := &matrix{}
	index := map[string]int{}
	seen := map[string]int{}
	for i := range r.Kernels {
		k := &r.Kernels[i]
		m.kernels = append(m.kernels, k)
		key := k.Line
		if seen[k.Line]++; seen[k.Line] > 1 {
			key = fmt.Sprintf("%s~%d", k.Line, seen[k.Line])
		}
		m.keys = append(m.keys, key)
		for j := range k.Scenarios {
			s := &k.Scenarios[j]
			at, ok := index[s.Name]
			if !ok {
				at = len(m.rows)
				index[s.Name] = at
				m.rows = append(m.rows,
					row{name: s.Name, cells: make([]*result.Scenario, len(r.Kernels))})
			}
			m.rows[at].add(i, s)
		}
	}
	slices.SortFunc(m.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(folder(a.name), folder(b.name)), cmp.Compare(a.name, b.name))
	})
	return m
}

// lane is how a kernel's guests were run.
func lane(k *result.Kernel) string {
	return strings.TrimSpace(k.Accel + " " + k.Lane)
}

// add puts the result on kernel i into the row.
func (w *row) add(i int, s *result.Scenario) {
	if w.summary == "" {
		w.summary = s.Summary
	}
	if old := w.cells[i]; old == nil || rank(s.Verdict) > rank(old.Verdict) {
		w.cells[i] = s
	}
}

// red tells whether the scenario is red on any kernel.
func (w *row) red() bool {
	return slices.ContainsFunc(w.cells, func(s *result.Scenario) bool {
		return s != nil && s.Verdict.Red()
	})
}

// folder is the folder of a scenario's name, empty for none.
func folder(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

// failure is a red result, together with the kernels where it came out the same.
type failure struct {
	scenario *result.Scenario // as the first kernel has it
	kernels  []*result.Kernel
}

// failures lists the red cells of m in the order of its rows. Kernels where verdict, reason and
// differences are the same share an entry, so that one defect is read once.
func (m *matrix) failures() []failure {
	var list []failure
	for _, w := range m.rows {
		first := len(list)
		for i, s := range w.cells {
			if s == nil || !s.Verdict.Red() {
				continue
			}
			at := slices.IndexFunc(list[first:], func(f failure) bool { return same(f.scenario, s) })
			if at < 0 {
				list = append(list, failure{scenario: s})
				at = len(list) - 1 - first
			}
			f := &list[first+at]
			f.kernels = append(f.kernels, m.kernels[i])
		}
	}
	return list
}

// same tells whether two red results of a scenario tell the same story.
func same(a, b *result.Scenario) bool {
	return a.Verdict == b.Verdict && a.Reason == b.Reason &&
		slices.EqualFunc(a.Differences, b.Differences, func(x, y result.Difference) bool {
			return x.Section == y.Section && x.Against == y.Against && x.Kind == y.Kind &&
				x.Record == y.Record && slices.Equal(x.Fields, y.Fields)
		})
}

// lines names the kernels of a failure.
func (f failure) lines() string {
	names := make([]string, len(f.kernels))
	for i, k := range f.kernels {
		names[i] = k.Line
	}
	return strings.Join(names, ", ")
}

// diffText is the differences of s as text.
func diffText(s *result.Scenario) string {
	var b strings.Builder
	// A strings.Builder takes all that is written to it.
	_ = result.DiffText(&b, s.Differences)
	return b.String()
}

// headline says in one line how a run went.
func headline(r *result.Report) string {
	return verdicts(r.Totals()) + unavailable(r.Totals())
}

func verdicts(t result.Totals) string {
	s := fmt.Sprintf("%d passed, %d failed", t.Passed, t.Failed)
	if t.Skipped > 0 {
		s += fmt.Sprintf(", %d skipped", t.Skipped)
	}
	return s
}

func unavailable(t result.Totals) string {
	switch t.Unavailable {
	case 0:
		return ""
	case 1:
		return ", 1 kernel unavailable"
	}
	return fmt.Sprintf(", %d kernels unavailable", t.Unavailable)
}

// duration is a time span for people.
func duration(ms int64) string {
	switch {
	case ms < 1000:
		return strconv.FormatInt(ms, 10) + " ms"
	case ms < 60_000:
		return strconv.FormatFloat(float64(ms)/1000, 'f', 1, 64) + " s"
	case ms < 3_600_000:
		return fmt.Sprintf("%d min %02d s", ms/60_000, ms/1000%60)
	}
	return fmt.Sprintf("%d h %02d min", ms/3_600_000, ms/60_000%60)
}
