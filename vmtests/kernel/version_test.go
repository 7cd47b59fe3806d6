package kernel

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompareVersions(t *testing.T) {
	ordered := []string{
		"5.10.0-1", "5.10.9-1", "5.10.262-1", "6.1.0-1", "6.1.192-2", "6.12.95-1~bpo12+1",
		"6.12.95-1", "6.12.117-1", "6.18.5-1", "6.18.15-1~bpo13+1", "7.3~rc1-1~exp1",
		"7.3~rc7-1~exp1", "7.3~rc10-1~exp1", "7.3-1~exp1", "7.3-1", "7.3.4-1~bpo13+1", "1:0.1-1",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got := compareVersions(a, b)
			require.Equal(t, sign(i-j), sign(got), "%s and %s", a, b)
		}
	}
	require.Zero(t, compareVersions("6.01-1", "6.1-1"))
	require.True(t, slices.IsSortedFunc(ordered, compareVersions))
}

func sign(n int) int { return min(max(n, -1), 1) }

func TestLineOf(t *testing.T) {
	tests := []struct {
		version, line string
		candidate     bool
	}{
		{"6.12.95-1~bpo12+1", "6.12", false},
		{"7.3~rc7-1~exp1", "7.3", true},
		{"7.3-1", "7.3", false},
		{"5.10.262-1", "5.10", false},
		{"1:6.1-1", "6.1", false},
		{"nonsense", "", false},
		{"6", "", false},
		{"a.b-1", "", false},
	}
	for _, tt := range tests {
		line, candidate := lineOf(tt.version)
		require.Equal(t, tt.line, line, tt.version)
		require.Equal(t, tt.candidate, candidate, tt.version)
	}
}

func TestParseLines(t *testing.T) {
	tests := map[string]struct {
		text  string
		lines []string
		err   string
	}{
		"all":        {"all,5.10", []string{Every, "5.10"}, ""},
		"matrix":     {"matrix", Matrix, ""},
		"default":    {"", Matrix, ""},
		"some":       {"6.1, 5.10,6.1", []string{"6.1", "5.10"}, ""},
		"moving":     {"rc,newest,7.x", []string{"rc", "newest", "7.x"}, ""},
		"path":       {"/boot/vmlinuz,./k", []string{"/boot/vmlinuz", "./k"}, ""},
		"matrix and": {"matrix,5.15", append(slices.Clone(Matrix), "5.15"), ""},
		"typo":       {"6.1,6.1.2", nil, `unknown kernel "6.1.2"`},
		"word":       {"newset", nil, `unknown kernel "newset"`},
		"empty word": {"6.1,", nil, `unknown kernel ""`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			lines, err := ParseLines(tt.text)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.lines, lines)
		})
	}
}
