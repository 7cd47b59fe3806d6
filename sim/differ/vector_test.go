package differ

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
)

const oneVector = `# A file.

== first   # with a comment
set l3
set table 7
set overflow
set ring-full
set takeover 2s
set lifetime established 5s
set zone 2 9
packet hook 2 after 3s segments 4
  45 00 # bytes
  0014
-> accounted 1/4
report
again tag
-> observed 1/4
sweep after 1m
| table x

# The second.
== second
packet
  00
-> lost not-ip 1/1
`

func TestParseVectors(t *testing.T) {
	f, err := ParseVectors("x", []byte(oneVector))
	require.NoError(t, err)
	require.Len(t, f.Vectors, 2)
	frame := []byte{0x45, 0, 0, 0x14}
	require.Equal(t, Case{L3: true, Table: 7, Overflow: true, RingFull: true, Takeover: 2 * time.Second,
		Lifetimes: map[conntrack.State]time.Duration{conntrack.StateEstablished: 5 * time.Second},
		Zones:     [Hooks + 1]uint16{2: 9},
		Steps: []Step{{Hook: 2, Wait: 3 * time.Second, Segments: 4, Frame: frame},
			{Kind: Report, Hook: 1}, {Hook: 1, Tag: true, Frame: frame},
			{Kind: Sweep, Hook: 1, Wait: time.Minute}}}, f.Vectors[0].Case)
	require.Equal(t, []string{"-> accounted 1/4", "-> observed 1/4", "| table x"}, f.Vectors[0].Want)
	require.Equal(t, 3, f.Vectors[0].Line)

	var said [][]string
	for _, v := range f.Vectors {
		said = append(said, v.Want)
	}
	require.Equal(t, oneVector, string(f.Update(said)))
	said[1] = []string{"-> new", "| table y"}
	text := string(f.Update(said))
	require.Equal(t, oneVector[:len(oneVector)-len("-> lost not-ip 1/1\n")]+"-> new\n| table y\n", text)
}

func TestParseVectorsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"packet\n":                          `x:1: a vector begins with "== name"`,
		"-> accounted\n":                    `x:1: a vector begins with "== name"`,
		"== a\n== b\npacket\n":              `x:1: vector "a" has no packet`,
		"== a\npacket\n== a\n":              `x:3: want one name`,
		"== a b\n":                          `x:1: want one name`,
		"== a\n  00\n":                      `x:2: bytes stand behind`,
		"== a\npacket\n  0\n":               `x:3: encoding/hex: odd length`,
		"== a\npacket\nset l3\n":            `x:3: settings stand before`,
		"== a\nset table 0\n":               `x:2: want a number from 1`,
		"== a\nset zone 9 1\n":              `x:2: want a number from 1 to 5`,
		"== a\nset lifetime open 5s\n":      `x:2: unknown connection state`,
		"== a\nset lifetime closed 5\n":     `x:2: time: missing unit`,
		"== a\nset tunnels vlan\n":          `x:2: `,
		"== a\nset fire\n":                  `x:2: unknown setting "fire"`,
		"== a\nagain\n":                     `x:2: no packet comes before`,
		"== a\njump\n":                      `x:2: unknown step "jump"`,
		"== a\nsweep hook 1\n":              `x:2: unknown option "hook"`,
		"== a\npacket hook\n":               `x:2: "hook": want a value`,
		"== a\npacket segments 1\n":         `x:2: want a number from 2`,
		"== a\npacket\n" + long(maxFrame+1): `a frame has at most 3000 bytes`,
	} {
		_, err := ParseVectors("x", []byte(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
}

func long(n int) string { return "  " + string(bytes.Repeat([]byte("00"), n)) + "\n" }

// FuzzParseVectors checks that what is read can be written and read again.
func FuzzParseVectors(f *testing.F) {
	f.Add([]byte(oneVector))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseVectors("x", data)
		if err != nil {
			return
		}
		var said [][]string
		for i := range file.Vectors {
			v := &file.Vectors[i]
			v.Want = nil
			for range v.outcomes {
				v.Want = append(v.Want, "-> accounted 1/1")
			}
			said = append(said, v.Want)
		}
		again, err := ParseVectors("x", file.Update(said))
		require.NoError(t, err)
		require.Len(t, again.Vectors, len(file.Vectors))
		for i := range again.Vectors {
			require.Equal(t, file.Vectors[i].Case, again.Vectors[i].Case)
			require.Equal(t, said[i], again.Vectors[i].Want)
		}
	})
}

func FuzzReadCapture(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, Draw(1, 1, nil).writeCapture(&b))
	f.Add(b.Bytes()[:400])
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = readCapture(bytes.NewReader(data))
	})
}
