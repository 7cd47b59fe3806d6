package result

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDiffText(t *testing.T) {
	diffs := []Difference{
		{Section: "flows", Against: "golden", Kind: "missing", Record: "{src: a:1}"},
		{Section: "flows", Against: "golden", Kind: "differs", Record: "{src: b:1}", Fields: []Field{
			{Name: "packets", Want: "6", Got: "5"},
			{Name: "flags", Want: "SYN|ACK", Got: ""},
		}},
		{Section: "flows", Against: "model", Kind: "duplicate", Record: "{src: c:1}"},
		{Section: "conservation", Kind: "odd\x1b[2J", Record: "two\nlines"},
	}
	var b strings.Builder
	require.NoError(t, DiffText(&b, diffs))
	require.Equal(t, `flows against golden: 2 differences
  - missing   {src: a:1}
  ~ differs   {src: b:1}
      packets  want 6        got 5  (-1)
      flags    want SYN|ACK  got (none)
flows against model: 1 difference
  = duplicate {src: c:1}
conservation: 1 difference
  ? odd\x1b[2J two\nlines
`, b.String())
}

func TestDiffTextNothing(t *testing.T) {
	var b strings.Builder
	require.NoError(t, DiffText(&b, nil))
	require.Empty(t, b.String())
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestDiffTextWriterFails(t *testing.T) {
	require.ErrorIs(t, DiffText(brokenWriter{}, []Difference{{}}), errBroken)
}

func TestDelta(t *testing.T) {
	for name, tc := range map[string]struct {
		want, got, delta string
	}{
		"less":        {"6", "5", "-1"},
		"more":        {"444", "1000", "+556"},
		"same number": {"5", "05", "+0"},
		"no number":   {"SYN", "5", ""},
		"empty":       {"5", "", ""},
		"fraction":    {"1.5", "2.5", ""},
		"overflow":    {"-9223372036854775808", "1", ""},
		"too large":   {"1", "9223372036854775808", ""},
	} {
		t.Run(name, func(t *testing.T) {
			delta, ok := Field{Want: tc.want, Got: tc.got}.Delta()
			require.Equal(t, tc.delta, delta)
			require.Equal(t, tc.delta != "", ok)
		})
	}
}

func TestPrintable(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":     {"tcp/handshake → 6.1\n\tok", "tcp/handshake → 6.1\n\tok"},
		"escape":    {"\x1b[31mred", `\x1b[31mred`},
		"return":    {"a\rb\x00c", `a\rb\x00c`},
		"utf-8":     {"a\xffb", `a\xffb`},
		"direction": {"a\u202eb", `a\u202eb`},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, Printable(tc.in)) })
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b]0;title\a\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		require.True(t, utf8.ValidString(got))
		for _, r := range got {
			require.True(t, shown(r), "%q", r)
		}
		require.Equal(t, got, Printable(got))
	})
}
