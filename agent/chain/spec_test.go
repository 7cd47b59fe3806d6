package chain

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain/hook"
)

const goodSpec = `chains:
  - interface: eth0
    hook: tc-ingress
    place: {at: before, program: cil_from_netdev}
    members:
      - {name: second, priority: 20, object: second.o}
      - name: first
        priority: 10
        object: /opt/first.o
        sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
        program: entry
        proceed_on: [ok]
        fail: closed
        constants: {limit: 5}
        maps: {ports: "80,443"}
      - {name: also-second, priority: 20, object: second.o}
      - {name: off, priority: 1, object: off.o, disabled: true}
`

func TestParse(t *testing.T) {
	s, err := Parse("/etc/weir/chain.yaml", []byte(goodSpec))
	require.NoError(t, err)
	require.Len(t, s.Chains, 1)
	c := &s.Chains[0]
	require.Equal(t, Key{Interface: "eth0", Hook: hook.Ingress}, c.Key)
	var names, objects []string
	for _, m := range c.enabled() {
		names, objects = append(names, m.Name), append(objects, m.Object)
	}
	require.Equal(t, []string{"first", "also-second", "second"}, names)
	require.Equal(t, []string{"/opt/first.o", "/etc/weir/second.o", "/etc/weir/second.o"}, objects)
	require.Equal(t, []hook.Verdict{hook.TCOk}, c.enabled()[0].proceed(c.Hook))
	require.Equal(t, []hook.Verdict{hook.TCNext, hook.TCOk, hook.TCPipe}, c.enabled()[1].proceed(c.Hook))
}

// A mistake is told with its place and with what would be right.
func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct{ from, to, err string }{
		"unknown key":      {"    place:", "    plaec:", `f.yaml:4:5: unknown key "plaec"; did you mean "place"?`},
		"a text":           {"priority: 10", "priority: high", `f.yaml:8:19: priority: cannot unmarshal string`},
		"no interface":     {"interface: eth0", "interface: ''", `f.yaml:2:16: chains[0].interface: is missing`},
		"hook":             {"tc-ingress", "tc", `f.yaml:3:11: chains[0].hook: "tc" is no hook; want xdp, tc-ingress or tc-egress`},
		"backend":          {"hook: tc-ingress", "hook: tc-ingress\n    backend: xdp-link", `f.yaml:4:14: chains[0].backend: "xdp-link"; want one of ["tcx" "tc" "tcx-links"] for tc-ingress`},
		"place":            {"at: before", "at: middle", `f.yaml:4:12: chains[0].place: at "middle": want head, tail, before or after`},
		"place's program":  {"at: before", "at: head", `program "cil_from_netdev": only before and after have one`},
		"place of nothing": {", program: cil_from_netdev", "", `at "before": wants a program, by its name in the kernel`},
		"member's name":    {"name: second", "name: sec/ond", `f.yaml:6:16: chains[0].members[0].name: "sec/ond"; want letters`},
		"twice":            {"name: second", "name: first", `f.yaml:7:15: chains[0].members[1].name: there are two members "first"`},
		"object":           {", object: off.o", "", `f.yaml:17:9: chains[0].members[3].object: is missing; want where an eBPF object is`},
		"object's scheme":  {"object: off.o", "object: 'oci:'", `f.yaml:17:42: chains[0].members[3].object: "" is not an absolute path, an http(s) URL or oci:FOLDER[:TAG]`},
		"unpinned":         {"object: off.o", "object: https://host/off.o", `chains[0].members[3].sha256: is missing: an object from a server needs its sha256`},
		"signature":        {"object: off.o", "object: off.o, signature: 'http:'", `chains[0].members[3].signature: "http:" names no host`},
		"sha256":           {"e3b0", "E3B0", `f.yaml:10:17: chains[0].members[1].sha256: "E3B0`},
		"fail":             {"fail: closed", "fail: over", `f.yaml:13:15: chains[0].members[1].fail: "over"; want open or closed`},
		"verdict":          {"[ok]", "[ok, pass]", `f.yaml:12:26: chains[0].members[1].proceed_on[1]: "pass" is no verdict of tc-ingress; want one of next, ok, reclassify, drop, pipe, stolen, queued, repeat, redirect, trap`},
		"verdict twice":    {"[ok]", "[ok, ok]", `f.yaml:12:26: chains[0].members[1].proceed_on[1]: "ok" is there twice`},
		"map":              {`"80,443"`, "{80: 1}", `f.yaml:15:23: chains[0].members[1].maps.ports: {"80":1}; want a text like "80,443", a number, or a list of {key, value}`},
		"metric":           {"object: off.o", "object: off.o, metrics: [{key: 1}]", `chains[0].members[3].metrics[0].map: is missing`},
		"metric as":        {"object: off.o", "object: off.o, metrics: [{map: a, as: avg}]", `chains[0].members[3].metrics[0].as: "avg"; want value, average or max-rate`},
		"metric twice":     {"object: off.o", "object: off.o, metrics: [{map: a}, {map: a}]", `chains[0].members[3].metrics[1]: it is there twice`},
		"process":          {"object: off.o", "object: off.o, process: {command: ../a, user: 7}", `f.yaml:17:68: chains[0].members[3].process.command: "../a" is no name inside of the member's artifact`},
		"process's user":   {"object: off.o", "object: off.o, process: {command: a}", `chains[0].members[3].process.user: is missing`},
		"process unpinned": {"object: off.o", "object: 'http://h/a.tar#off.o', sha256: " + strings.Repeat("a", 64) + ", process: {command: a, user: 7}", `chains[0].members[3].process.sha256: is missing: what a server sends is not executed without it`},
		"process nowhere":  {"object: off.o", "object: 'http://h/off.o', sha256: " + strings.Repeat("a", 64) + ", process: {command: a, user: 7}", `chains[0].members[3].process.command: "a" is inside of nothing: the object is no archive`},
		"process's key":    {"object: off.o", "object: off.o, process: {comand: a}", `unknown key "comand"; did you mean "command"?`},
		"stage":            {"object: off.o", "stage: drops", `f.yaml:17:41: chains[0].members[3].stage: "drops"; want one of flow, dns, handshake, sockets`},
		"stage of XDP":     {goodSpec, "chains: [{interface: a, hook: xdp, members: [{name: a, stage: flow}]}]", `f.yaml:1:63: chains[0].members[0].stage: flow is a program of the traffic control; want it in a chain at tc-ingress or tc-egress`},
		"stage's object":   {"object: off.o", "stage: flow, object: off.o", `f.yaml:17:55: chains[0].members[3].object: a member is a stage of weir's own or an object, and this one has ` + "`stage`"},
		"stage's process":  {"object: off.o", "stage: flow, process: {command: a, user: 7}", `chains[0].members[3].process: a member is a stage`},
		"stage's verdicts": {"object: off.o", "stage: flow, proceed_on: [next]", `chains[0].members[3].proceed_on: leave it out: packets always go on after a stage`},
		"stage twice":      {"- {name: off, priority: 1, object: off.o, disabled: true}", "- {name: a, stage: flow}\n      - {name: b, stage: flow, disabled: true}\n      - {name: c, stage: flow}", `f.yaml:19:26: chains[0].members[5].stage: flow is there twice; a packet would be counted twice`},
		"constant":         {"limit: 5", "limit: five", `f.yaml:14:28: limit: cannot unmarshal string`},
	} {
		t.Run(name, func(t *testing.T) {
			text := regexp.MustCompile(regexp.QuoteMeta(c.from)).ReplaceAllLiteralString(goodSpec, c.to)
			require.NotEqual(t, goodSpec, text)
			_, err := Parse("f.yaml", []byte(text))
			require.ErrorContains(t, err, c.err)
		})
	}
	for text, want := range map[string]string{
		"":             "f.yaml: the file is empty; at least `chains` is needed",
		"chains: []":   "f.yaml:1:9: chains: is empty; to remove chains, delete them",
		"chains: [{}]": "f.yaml:1:10: chains[0].interface: is missing",
		"chains: {":    "f.yaml:1:",
		goodSpec + "  - {interface: eth0, hook: tc-ingress, members: []}\n": "f.yaml:18:5: chains[1]: eth0 tc-ingress: there are two such chains",
	} {
		_, err := Parse("f.yaml", []byte(text))
		require.ErrorContains(t, err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goodSpec))
	f.Add([]byte("chains: [{interface: a, hook: xdp, members: [{name: a, object: /a, proceed_on: []}]}]"))
	f.Add([]byte("chains: [{interface: a, hook: tc-egress, members: [{name: a, stage: flow}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := Parse("/f.yaml", text); err == nil {
			require.NoError(t, s.Check())
		}
	})
}

func TestInRange(t *testing.T) {
	for _, c := range []struct {
		value  int64
		size   uint32
		signed bool
		want   bool
	}{
		{0, 1, false, true}, {255, 1, false, true}, {256, 1, false, false}, {-1, 1, false, false},
		{127, 1, true, true}, {128, 1, true, false}, {-128, 1, true, true}, {-129, 1, true, false},
		{1<<32 - 1, 4, false, true}, {1 << 32, 4, false, false}, {-1 << 63, 8, true, true},
		{1<<63 - 1, 8, false, true}, {-1, 8, false, false},
	} {
		require.Equal(t, c.want, inRange(c.value, c.size, c.signed), "%+v", c)
	}
}

// A damaged store stops everything, and says what to do.
func TestDamagedStore(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chains.json"), []byte("{}"), 0o600))
	_, err := Open(Options{State: dir, Pin: dir})
	require.ErrorContains(t, err, "chains.json: the file is damaged")
	require.ErrorContains(t, err, "chains in the kernel go on running")
}

// There is one manager at a time.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(Options{State: dir, Pin: dir})
	require.NoError(t, err)
	_, err = Open(Options{State: dir, Pin: dir})
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, m.Close())
	m, err = Open(Options{State: dir, Pin: dir})
	require.NoError(t, err)
	require.NoError(t, m.Close())
}
