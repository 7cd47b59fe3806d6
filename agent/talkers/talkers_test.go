package talkers

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
)

func entry(flow, packets, bytes uint64) conntrack.Entry {
	return conntrack.Entry{Flow: flow, Forward: conntrack.Leg{Packets: packets, Bytes: bytes},
		Reverse: conntrack.Leg{Packets: 1, Bytes: 10}}
}

func TestMeter(t *testing.T) {
	var m Meter
	begin := time.Unix(1, 0)
	require.Empty(t, m.Read([]conntrack.Entry{entry(1, 5, 500), entry(2, 5, 500)}, begin), "the first tells nothing")
	got := m.Read([]conntrack.Entry{entry(1, 6, 600), entry(2, 5, 500), entry(3, 9, 900)}, begin.Add(2*time.Second))
	require.Len(t, got, 2, "one has carried nothing")
	require.Equal(t, []uint64{3, 10, 910}, []uint64{got[0].Flow, got[0].Packets, got[0].Bytes}, "a new one, with all that it has")
	require.Equal(t, []uint64{1, 1, 100}, []uint64{got[1].Flow, got[1].Packets, got[1].Bytes})
	require.InDelta(t, 400, got[1].BitRate(), 0)
	require.InDelta(t, .5, got[1].PacketRate(), 0)
	got = m.Read([]conntrack.Entry{entry(1, 2, 200)}, begin.Add(3*time.Second))
	require.Empty(t, got, "less than before: another agent's count")
	require.Empty(t, m.Read([]conntrack.Entry{entry(1, 9, 900)}, begin.Add(3*time.Second)), "no time has passed")
}

func TestMatches(t *testing.T) {
	line := "tcp established 10.0.0.1:443 pod prod/Web-1"
	for filter, want := range map[string]bool{"": true, "  ": true, "tcp 443": true, "web TCP": true, "udp": false, "tcp udp": false} {
		require.Equal(t, want, Matches(line, filter), filter)
	}
}

func TestType(t *testing.T) {
	tests := []struct {
		name, before, typed, want string
		key                       Key
	}{
		{"letters", "a", "bé", "abé", Edited},
		{"backspace", "aé", "\x7f", "a", Edited},
		{"backspace of nothing", "", "\x08", "", Edited},
		{"escape", "abc", "\x1b", "", Edited},
		{"arrow", "abc", "\x1b[A", "abc", Edited},
		{"line", "a b", "\x15", "", Edited},
		{"word", "ab cd ", "\x17", "ab ", Edited},
		{"the only word", "ab", "\x17", "", Edited},
		{"not a character", "a", "\xff\x01\n", "a", Edited},
		{"quit", "a", "b\x03c", "ab", Quit},
		{"end", "", "\x04", "", Quit},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, key := Type(test.before, []byte(test.typed))
			require.Equal(t, test.want, got)
			require.Equal(t, test.key, key)
		})
	}
}

func TestDraw(t *testing.T) {
	var b strings.Builder
	require.NoError(t, Draw(&b, 5, 3, []string{"first line", "\x1b[2Jb", "no room"}, "> filter"))
	require.Equal(t, "\x1b[Hfirst\x1b[K\r\n?[2Jb\x1b[K\r\n\x1b[J\x1b[3;1H> fil\x1b[K", b.String())
	b.Reset()
	require.NoError(t, Draw(&b, 0, 0, []string{"x"}, "y"), "a terminal of no size")
}

func FuzzType(f *testing.F) {
	f.Add("a", []byte("b\x7f\x17\xff"))
	f.Fuzz(func(t *testing.T, before string, typed []byte) {
		if !utf8.ValidString(before) || strings.ContainsFunc(before, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return
		}
		after, _ := Type(before, typed)
		require.True(t, utf8.ValidString(after))
		require.Equal(t, after, Clean(after, len(after)), "nothing in it moves the cursor")
	})
}
