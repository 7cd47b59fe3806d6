package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// turns tells in words where along the kernels, in the order in which they were asked for, things change:
// each scenario that is red on some and not on others, with the first kernel on which that is otherwise
// than on the one before, and the first kernel whose costs are not those of the baseline.
func (m *matrix) turns() []string {
	var all []string
	for _, row := range m.rows {
		if t := m.turn(&row); t != "" {
			all = append(all, t)
		}
	}
	if t := m.costTurn(); t != "" {
		all = append(all, t)
	}
	return all
}

// turn is "" for a scenario that is red on all kernels or on none. Where it was skipped nothing is known.
func (m *matrix) turn(w *row) string {
	var before *result.Scenario
	line := ""
	for i, s := range w.cells {
		if s == nil || s.Verdict == result.Skip {
			continue
		}
		if before != nil && before.Verdict.Red() != s.Verdict.Red() {
			return fmt.Sprintf("%s: %s on %s, first %s on %s", w.name, before.Verdict, line, s.Verdict,
				m.kernels[i].Line)
		}
		before, line = s, m.kernels[i].Line
	}
	return ""
}

func (m *matrix) costTurn() string {
	before := ""
	for _, k := range m.kernels {
		switch {
		case k.Unavailable != "":
		case len(k.Drift) == 0:
			before = k.Line
		case before == "":
			return "" // from the first kernel on
		default:
			return fmt.Sprintf("cost: as the baseline has it on %s, first otherwise on %s: %s", before, k.Line,
				k.Drift[0])
		}
	}
	return ""
}

// listed is how many turns, and how many notes, are told.
const listed = 20

// writeLists writes the turns and the notes, each behind a bullet.
func (m *matrix) writeLists(b *bytes.Buffer, bullet string, clean func(string) string) {
	for _, all := range [][]string{m.turns(), m.notes()} {
		for _, t := range all[:min(len(all), listed)] {
			b.WriteString(bullet + clean(t) + "\n")
		}
		if more := len(all) - listed; more > 0 {
			fmt.Fprintf(b, "%s%d more\n", bullet, more)
		}
		if len(all) > 0 {
			b.WriteByte('\n')
		}
	}
}

// notes are the scenarios' notes, each with the kernels on which it is the same.
func (m *matrix) notes() (all []string) {
	for _, row := range m.rows {
		var order []string
		lines := map[string][]string{}
		for i, s := range row.cells {
			if s == nil {
				continue
			}
			for _, n := range s.Notes {
				if lines[n] == nil {
					order = append(order, n)
				}
				lines[n] = append(lines[n], m.kernels[i].Line)
			}
		}
		for _, n := range order {
			all = append(all, fmt.Sprintf("%s on %s: %s", row.name, strings.Join(lines[n], ", "), n))
		}
	}
	return all
}
