package chart

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
)

// parse reads a scenario and its captures.
func parse(t testing.TB, file string, data []byte) *spec.Scenario {
	sc, err := spec.Parse(file, data)
	require.NoError(t, err)
	for _, s := range sc.Steps {
		if s.Replay != nil {
			s.Replay.Data, err = os.ReadFile(filepath.Join(filepath.Dir(file), s.Replay.File))
			require.NoError(t, err)
		}
	}
	return sc
}

func draw(t testing.TB, file string, data []byte) *Chart {
	sc := parse(t, file, data)
	c, err := New(sc, data)
	require.NoError(t, err)
	return c
}

const example = `summary: a request, twice, its answer and a datagram in pieces
topology:
  client: {eth0: [10.0.0.1/24]}
  router: {forward: true, eth0: [10.0.0.254/24], eth1: [10.0.1.254/24]}
  server: {eth0: [10.0.1.1/24]}
  links: [client/eth0 - router/eth0, router/eth1 - server/eth0]
agent: {on: [router/eth0]}
traffic:
  - tcp: client:40000 > server:80   # by script
    script: |
      > SYN x2
      < SYN,ACK
      > PSH,ACK 20
  - advance: 11s
  - agent: kill
  - agent: start
  - packet: server:9 > client:53
    layers: [udp, {payload: 30}]
    count: 1
    fragments: {size: 24, order: [2, 1]}
  - packet: client:5353 > 224.0.0.251:5353
    layers: [udp]
  - socket: tcp client > server:22
    bytes: 9
`

func TestText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, draw(t, "example.yaml", []byte(example)).Text(&b, 100))
	require.Equal(t, golden(t, "example.txt", b.String()), b.String())
}

var update = flag.Bool("update", false, "rewrite golden files")

// golden is the file's text.
func golden(t *testing.T, name, got string) string {
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(want)
}

// TestScenarios draws all scenarios: no frame is lost, and lines keep to the width where they can.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../scenarios/*/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		c := draw(t, file, data)
		require.Equal(t, frames(t, file, data), drawn(c), file)
		var b strings.Builder
		require.NoError(t, c.Text(&b, 120))
		_, body, _ := strings.Cut(b.String(), "\n")
		for line := range strings.Lines(body) {
			require.LessOrEqual(t, utf8.RuneCountInString(line), 160, "%s: %s", file, line)
		}
		checkXML(t, c)
	}
}

// frames is how many frames the steps have, at most as many of each as are drawn.
func frames(t *testing.T, file string, data []byte) (n int) {
	sc := parse(t, file, data)
	b := traffic.NewBuilder(&sc.Topology)
	for i := range sc.Steps {
		for _, err := range b.Frames(&sc.Steps[i]) {
			require.NoError(t, err)
			n++
		}
	}
	return n
}

// drawn is how many frames a chart tells of.
func drawn(c *Chart) (n int) {
	for _, i := range c.Items {
		n += i.Count + i.More
	}
	return n
}

func checkXML(t *testing.T, c *Chart) {
	var b strings.Builder
	require.NoError(t, c.SVG(&b))
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestSVGEscapes(t *testing.T) {
	c := &Chart{Name: "<script>", Summary: "a & b\x1b", Hosts: []Host{{Name: "a"}},
		Items: []Item{{Kind: Step, Text: `"<x>"`}, {Kind: Message, To: Nobody, Text: "]]>"}}}
	checkXML(t, c)
	var b strings.Builder
	require.NoError(t, c.SVG(&b))
	require.NotContains(t, b.String(), "<script>")
	require.Contains(t, b.String(), "prefers-color-scheme:dark")
	require.NotContains(t, strings.ReplaceAll(b.String(), `xmlns="http://www.w3.org/2000/svg"`, ""), "http")
}

func TestNarrow(t *testing.T) {
	var b strings.Builder
	require.NoError(t, draw(t, "example.yaml", []byte(example)).Text(&b, 1))
	require.Contains(t, b.String(), "SYN,ACK seq=0 ack=1")
}

type broken struct{}

var errBroken = errors.New("broken")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestWriterFails(t *testing.T) {
	require.ErrorIs(t, (&Chart{}).Text(broken{}, 80), errBroken)
	require.ErrorIs(t, (&Chart{}).SVG(broken{}), errBroken)
}

// FuzzDescribe: whatever a frame holds, there are words for it.
func FuzzDescribe(f *testing.F) {
	sc, err := spec.Parse("example.yaml", []byte(example))
	require.NoError(f, err)
	b := traffic.NewBuilder(&sc.Topology)
	for i := range sc.Steps {
		for frame, err := range b.Frames(&sc.Steps[i]) {
			if err == nil {
				f.Add(frame.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var v view
		text, _ := v.describe(frame, layers.LayerTypeEthernet)
		require.NotEmpty(t, text)
	})
}
