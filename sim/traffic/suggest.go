package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// suggest ends an error about an unknown word: the nearest known one, or all of them.
func suggest(word string, known []string) string {
	best, distance := "", max(len(word), 3)
	for _, k := range known {
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	// Half of the word wrong is a different word, not a slip.
	if best != "" && 2*distance <= max(len(word), len(best)) {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known are " + strings.Join(known, ", ")
}

// edits is how many letters have to be put in, taken out, changed or swapped with the next one
// (optimal string alignment). Words are cut at 40 bytes: longer ones are not slips, and a file
// of noise must not cost time.
func edits(a, b string) int {
	a, b = a[:min(len(a), 40)], b[:min(len(b), 40)]
	var rows [41][41]int // rows[i][j]: from the first i bytes of a to the first j of b
	for i := range rows {
		rows[i][0], rows[0][i] = i, i
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
