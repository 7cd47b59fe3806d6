package foreign

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

const mapText = `src: [src4, src6]
dst: to.addr
src_port: sport
dst_port: to.port
protocol: proto
packets: n
bytes: size
link_bytes: 14
only: {type: flow}
`

var (
	client = netip.MustParseAddr("10.0.0.1")
	server = netip.MustParseAddr("10.0.0.2")
	hosts  = golden.NewNames(map[string][]netip.Addr{"client": {client}, "server": {server}})
)

func parse(t *testing.T, text string) *Map {
	m, err := spec.ParseFlowMap("m.yaml", []byte(text))
	require.NoError(t, err)
	return (*Map)(m)
}

func TestRead(t *testing.T) {
	flows, err := parse(t, mapText).Read("f", []byte(`{"type":"hello"}
{"type":"flow","src4":"10.0.0.1","to":{"addr":"10.0.0.2","port":80},"sport":9,"proto":"tcp","n":2,"size":80}

{"type":"flow","src4":"10.0.0.1","to":{"addr":"10.0.0.2","port":"80"},"sport":9,"proto":6,"n":1,"size":40}
{"type":"flow","src6":"::ffff:10.0.0.2","to":{"addr":"10.0.0.1"},"proto":"ICMP","n":1,"size":40}`))
	require.NoError(t, err)
	require.Equal(t, Flows{
		{Src: client, Dst: server, SrcPort: 9, DstPort: 80, Protocol: 6}: {3, 120},
		{Src: server, Dst: client, Protocol: 1}:                          {1, 40},
	}, flows)
}

func TestReadErrors(t *testing.T) {
	m := parse(t, "src: [adr, a.src]\ndst: b\nprotocol: p\npackets: n\n")
	for text, want := range map[string]string{
		"{":                                       "f:1: ",
		`{"x":1}` + "\n":                          `f:1: the line has no "adr" and no "a.src" (src of m.yaml:1); known: x`,
		"\n" + `{"addr":"::1"}`:                   `f:2: the line has no "adr" and no "a.src" (src of m.yaml:1); did you mean "addr"?`,
		`{"a":{"source":"::1"},"z":1,"y":1}`:      `known: a.source, y, z`,
		`{"a":{"sr":"::1"},"b":"::1"}`:            `did you mean "a.sr"?`,
		`{"adr":"x","b":"y","p":1,"n":1}`:         `f:1: adr: "x" is no address (src of m.yaml:1)`,
		`{"adr":"::1","b":"::1","p":"tpc","n":1}`: `f:1: p: "tpc" is no protocol's number or name (protocol of m.yaml:3)`,
		`{"adr":"::1","b":"::1","p":1,"n":-1}`:    `f:1: n: "-1" is no number of 64 bits (packets of m.yaml:4)`,
		`{"adr":"::1","b":"::1","p":6,"n":1}`:     `f:1: the line is of a protocol with ports, and m.yaml has no key "src_port"`,
	} {
		_, err := m.Read("f", []byte(text))
		require.ErrorContains(t, err, want)
	}
}

func TestCompare(t *testing.T) {
	m := parse(t, mapText)
	truth := m.Truth([]model.Flow{
		{Src: client, Dst: server, SrcPort: 9, DstPort: 80, Protocol: 6, Packets: 2, Bytes: 108},
		{Src: client, Dst: server, SrcPort: 9, DstPort: 80, Protocol: 6, Packets: 1, Bytes: 54}, // reused ports
		{Src: server, Dst: client, SrcPort: 80, DstPort: 9, Protocol: 6, Packets: 1, Bytes: 54},
		{Src: server, Dst: client, SrcPort: 80, DstPort: 9, Protocol: 1, Cites: 17, Packets: 1, Bytes: 70},
	})
	got := Flows{
		{Src: client, Dst: server, SrcPort: 9, DstPort: 80, Protocol: 6}: {6, 240}, // all twice
		{Src: server, Dst: client, Protocol: 1}:                          {1, 56},
		{Src: client, Dst: server, SrcPort: 0, DstPort: 0, Protocol: 17}: {1, 40},
	}
	all := []result.Difference{
		{Section: "flows", Against: "model", Kind: "extra", Record: "client:0 > server:0 udp",
			Fields: []result.Field{{Name: "packets", Want: "0", Got: "1"}, {Name: "bytes", Want: "0", Got: "40"}}},
		{Section: "flows", Against: "model", Kind: "differs", Record: "client:9 > server:80 tcp",
			Fields: []result.Field{{Name: "packets", Want: "3", Got: "6"}, {Name: "bytes", Want: "120", Got: "240"}}},
		{Section: "flows", Against: "model", Kind: "missing", Record: "server:80 > client:9 tcp",
			Fields: []result.Field{{Name: "packets", Want: "1", Got: "0"}, {Name: "bytes", Want: "40", Got: "0"}}},
	}
	diffs, known := m.Compare(truth, got, hosts, nil)
	require.Equal(t, all, diffs)
	require.Zero(t, known)
	diffs, known = m.Compare(truth, got, hosts, []spec.Known{
		{Flow: "client:9 > server:80 tcp", Kind: "differs", Reason: "it counts twice"},
		{Flow: "server:80 > client:9 tcp", Kind: "extra", Reason: "not any more"}})
	require.Equal(t, append([]result.Difference{all[0]}, all[2], result.Difference{Section: "known",
		Against: "scenario", Kind: "missing", Record: "extra: server:80 > client:9 tcp (not any more)"}), diffs)
	require.Equal(t, 1, known)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(mapText), []byte(`{"type":"flow","src4":"10.0.0.1","to":{"addr":"10.0.0.2","port":80},"sport":9,"proto":"tcp","n":2,"size":80}`))
	f.Fuzz(func(t *testing.T, text, lines []byte) {
		m, err := spec.ParseFlowMap("m.yaml", text)
		require.Equal(t, err == nil, m != nil)
		if err == nil {
			_, _ = (*Map)(m).Read("f", lines) // an error or flows, no panic
		}
	})
}
