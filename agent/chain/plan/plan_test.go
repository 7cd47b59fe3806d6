package plan

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func items(text string) []Item {
	var list []Item
	for _, r := range text {
		if digest := string(r); r >= 'A' && r <= 'Z' { // upper case is another version
			list = append(list, Item{Name: string(r + 'a' - 'A'), Digest: digest})
		} else {
			list = append(list, Item{Name: digest, Digest: digest})
		}
	}
	return list
}

func texts(steps []Step) []string {
	all := []string{}
	for _, s := range steps {
		all = append(all, s.String())
	}
	return all
}

func TestDiff(t *testing.T) {
	for name, c := range map[string]struct {
		have, want string
		steps      []string
	}{
		"nothing":           {"", "", []string{}},
		"unchanged":         {"abc", "abc", []string{}},
		"first one":         {"", "a", []string{"insert a: first"}},
		"last one":          {"a", "", []string{"remove a"}},
		"between":           {"ac", "abc", []string{"insert b: after a"}},
		"upgrade":           {"abc", "aBc", []string{"replace b"}},
		"swap":              {"ab", "ba", []string{"move b: first"}},
		"last to the front": {"abc", "cab", []string{"move c: first"}},
		"first to the back": {"abc", "bca", []string{"move a: after c"}},
		"move and upgrade":  {"abc", "Cab", []string{"move c: first", "replace c"}},
		"new before gone":   {"ab", "xb", []string{"insert x: first", "remove a"}},
		"all at once": {"abcd", "dBx",
			[]string{"move d: first", "replace b", "insert x: after b", "remove a", "remove c"}},
	} {
		t.Run(name, func(t *testing.T) {
			steps, err := Diff(items(c.have), items(c.want))
			require.NoError(t, err)
			require.Equal(t, c.steps, texts(steps))
			check(t, items(c.have), items(c.want), steps)
		})
	}
}

// check holds steps against what every plan must be.
func check(t *testing.T, have, want []Item, steps []Step) {
	t.Helper()
	list := slices.Clone(have)
	before := [][]Item{}
	moves := 0
	for _, s := range steps {
		before = append(before, append([]Item{}, list...))
		var err error
		list, err = Apply(list, s)
		require.NoError(t, err)
		if s.Op == Move {
			moves++
		}
		for _, h := range have { // who stays is never away, and nobody goes before all new ones are there
			if index(want, h.Name) >= 0 {
				require.GreaterOrEqual(t, index(list, h.Name), 0, "%v takes %s away", s, h.Name)
			}
		}
		if s.Op == Remove {
			for _, w := range want {
				require.GreaterOrEqual(t, index(list, w.Name), 0, "%v comes before %s", s, w.Name)
			}
		}
	}
	require.Equal(t, append([]Item{}, want...), append([]Item{}, list...))
	require.Equal(t, fewestMoves(have, want), moves)
	for i, s := range Undo(steps) { // undo leads back through the same lists
		var err error
		list, err = Apply(list, s)
		require.NoError(t, err)
		require.Equal(t, before[len(before)-1-i], append([]Item{}, list...))
	}
	again, err := Diff(want, want)
	require.NoError(t, err)
	require.Empty(t, again)
}

// fewestMoves tries all sets of members that could stay.
func fewestMoves(have, want []Item) int {
	var places []int
	for _, h := range have {
		if at := index(want, h.Name); at >= 0 {
			places = append(places, at)
		}
	}
	best := 0
	for set := range 1 << len(places) {
		var kept []int
		for i, p := range places {
			if set>>i&1 == 1 {
				kept = append(kept, p)
			}
		}
		if slices.IsSorted(kept) {
			best = max(best, len(kept))
		}
	}
	return len(places) - best
}

// TestRandom draws lists of up to ten members and checks the plans between them.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() []Item {
		var list []Item
		for _, n := range r.Perm(10)[:r.IntN(11)] {
			list = append(list, Item{Name: string(rune('a' + n)), Digest: string(rune('0' + r.IntN(3)))})
		}
		return list
	}
	for range 2000 {
		have, want := draw(), draw()
		steps, err := Diff(have, want)
		require.NoError(t, err)
		check(t, have, want, steps)
	}
}

func TestBadLists(t *testing.T) {
	for name, list := range map[string][]Item{
		"member a is there twice": items("aba"),
		"member 2 has no name":    {{Name: "a"}, {}},
	} {
		_, err := Diff(list, nil)
		require.EqualError(t, err, name)
		_, err = Diff(nil, list)
		require.EqualError(t, err, name)
	}
}

// A step is not done to a list that it was not made for.
func TestApplyRefuses(t *testing.T) {
	for _, s := range []Step{
		{Op: Insert, Name: "a", After: "b"},
		{Op: Insert, Name: "x", After: "y"},
		{Op: Remove, Name: "x"},
		{Op: Remove, Name: "b", Was: "b"},
		{Op: Remove, Name: "b", Was: "B", WasAfter: "a"},
		{Op: Replace, Name: "a", Was: "A", Digest: "b"},
		{Op: Move, Name: "c", After: "", WasAfter: "a"},
		{Op: Move, Name: "c", After: "c", WasAfter: "b"},
	} {
		_, err := Apply(items("abc"), s)
		require.Error(t, err, "%+v", s)
	}
}
