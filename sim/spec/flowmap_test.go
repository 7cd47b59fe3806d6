package spec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseFlowMap(t *testing.T) {
	m, err := ParseFlowMap("m.yaml", []byte(`# what it calls things
src: [src4, src6]
dst: to.addr
protocol: proto
packets: n
link_bytes: 14
only: {type: flow, version: 3}
`))
	require.NoError(t, err)
	require.Equal(t, &FlowMap{
		File: "m.yaml", Src: Term{"src", []string{"src4", "src6"}, 2}, Dst: Term{"dst", []string{"to.addr"}, 3},
		Protocol: Term{"protocol", []string{"proto"}, 4}, Packets: Term{"packets", []string{"n"}, 5},
		LinkBytes: 14, Only: map[string]string{"type": "flow", "version": "3"},
	}, m)
}

func TestParseFlowMapErrors(t *testing.T) {
	const good = "src: a\ndst: b\nprotocol: p\npackets: n\n"
	for text, want := range map[string]string{
		"":                              "m.yaml: the file is empty; a map needs src, dst, protocol and packets",
		"# nothing":                     "m.yaml: the file is empty; a map needs src, dst, protocol and packets",
		"src: [":                        "m.yaml:1:",
		"src: a\ndst: b\n":              `m.yaml:1:1: a map needs the key "protocol"; what it calls the protocol`,
		good + "scr_port: x\n":          `m.yaml:5:1: scr_port: unknown key in a map; did you mean "src_port"?`,
		good + "src_port: 3\n":          `m.yaml:5:11: src_port: want a field's name, got the number 3; put it in quotes`,
		good + "bytes: {a: b}\n":        "m.yaml:5:8: bytes: want a field's name, got a mapping",
		good + "bytes: []\n":            "m.yaml:5:8: bytes: has 0 names; 1 to 16 are good",
		good + "link_bytes: -1\n":       `m.yaml:5:13: link_bytes: "-1" is not a number from 0 to 256`,
		good + "only: flow\n":           `m.yaml:5:7: only: want fields and their values, at most 16, got "flow"; write {type: flow}`,
		good + "only: {type: [flow]}\n": "m.yaml:5:14: type: want a value, got a list",
		good + "src: x\n":               "m.yaml:5:1: src: is given twice, first in line 1",
	} {
		m, err := ParseFlowMap("m.yaml", []byte(text))
		require.ErrorContains(t, err, want)
		require.Nil(t, m)
	}
}
