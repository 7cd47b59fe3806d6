package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

var update = flag.Bool("update", false, "rewrite golden files and the published schema")

// golden compares with a file, or rewrites it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run the test with -update to write it")
	require.Equal(t, string(want), string(got))
}

func files(t testing.TB, pattern string) []string {
	t.Helper()
	out, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, out)
	return out
}

// TestValid compares what is made of each valid file with the JSON file beside it.
func TestValid(t *testing.T) {
	for _, file := range files(t, "testdata/valid/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			s, err := Parse(file, data)
			require.NoError(t, err)
			got, err := json.MarshalIndent(s, "", " ")
			require.NoError(t, err)
			golden(t, strings.TrimSuffix(file, ".yaml")+".json", append(got, '\n'))
		})
	}
}

// TestInvalid compares the error of each invalid file with the text file beside it. Whatever is
// wrong, it is told once, with a place.
func TestInvalid(t *testing.T) {
	for _, file := range files(t, "testdata/invalid/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			_, err = Parse(filepath.Base(file), data)
			require.Error(t, err)
			var e *Error
			require.True(t, errors.As(err, &e))
			require.Positive(t, e.Line)
			require.Positive(t, e.Column)
			golden(t, strings.TrimSuffix(file, ".yaml")+".err", []byte(err.Error()+"\n"))
		})
	}
}

// TestHostile parses what nobody would write by hand. Each must end soon, with one error.
func TestHostile(t *testing.T) {
	noise := make([]byte, 10<<20)
	for i := range noise {
		noise[i] = byte(i*7 + i>>9)
	}
	const begin = "summary: x\ntopology:\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", "the file is empty"},
		"blank":           {" \n\n\t\n", "the file is empty"},
		"comment":         {"# nothing\n", "the file is empty"},
		"document marker": {"---\n", "the file is empty"},
		"noise":           {string(noise), "the file has 10485760 bytes"},
		"binary":          {string(noise[:1000]), "control character"},
		"latin 1":         {"summary: caf\xe9\n", "byte 0xe9 is not UTF-8"},
		"long line":       {"summary: " + strings.Repeat("x", 10000), "the line has 10009 bytes"},
		"flow depth":      {strings.Repeat("[", 1000), "too many collections"},
		"deep lines":      {strings.Repeat("[\n", 200000), "too many collections"},
		"block depth":     {strings.Repeat("- ", 900) + "x", "too many collections"},
		"alias bomb":      {"a: &a [x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n", "anchors and aliases"},
		"merge key":       {"a:\n  <<: {b: c}\n", "anchors and aliases"},
		"tag":             {"summary: !!binary aGk=\n", "tags and directives"},
		"two documents":   {"summary: x\n---\nsummary: y\n", "a second document"},
		"many hosts":      {begin + repeat("  h%d: {eth0: []}\n", 100), "more than 64"},
		"many errors":     {begin + repeat("  h%d: {zap: []}\n", 60), "unknown key"},
		"a list":          {"[1, 2]\n", "want a scenario, got a list"},
		"a word":          {"hello\n", `want a scenario, got "hello"`},
		"quote":           {"summary: \"x\n", ""},
		"brace":           {"summary: {x\n", ""},
		"many keys":       {repeat("k%d: 1\n", 100000), "more than 200 keys"},
		"many items":      {"traffic:\n" + repeat("  - advance: %ds\n", 40000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("x.yaml", []byte(c.text))
			require.Error(t, err)
			require.Less(t, time.Since(start), 10*time.Second)
			require.Contains(t, err.Error(), c.want)
			require.LessOrEqual(t, strings.Count(err.Error(), "\n"), maxErrors)
			require.Less(t, len(err.Error()), 4000)
			var e *Error
			require.True(t, errors.As(err, &e))
		})
	}
}

// repeat puts numbers into a format, one after the other.
func repeat(format string, count int) string {
	var b strings.Builder
	for i := range count {
		b.WriteString(strings.Replace(format, "%d", itoa(i+1), 1))
	}
	return b.String()
}

func itoa(i int) string {
	b, _ := json.Marshal(i)
	return string(b)
}

func TestName(t *testing.T) {
	for file, want := range map[string]string{
		"scenarios/tcp/handshake.yaml":              "tcp/handshake",
		"/home/x/scenarios/a.yaml":                  "a",
		"./scenarios/../scenarios/l2/b.yml":         "l2/b",
		"x/scenarios/old/scenarios/tcp/c.yaml":      "tcp/c",
		"my-scenarios/d.yaml":                       "d",
		"e.yaml":                                    "e",
		`C:\weir\scenarios\udp\zero-length-v6.yaml`: "udp/zero-length-v6",
	} {
		require.Equal(t, want, Name(file), file)
	}
}

// TestDerived spells out the rules by which things are derived.
func TestDerived(t *testing.T) {
	data, err := os.ReadFile("testdata/valid/everything.yaml")
	require.NoError(t, err)
	s, err := Parse("everything.yaml", data)
	require.NoError(t, err)
	top := &s.Topology
	client, router := top.Host("client"), top.Host("router")

	require.Equal(t, [6]byte{2, 0, 0, 0, 1, 1}, client.Interfaces[0].MAC)
	require.Equal(t, client.Interfaces[0].MAC, client.Interface("eth0.7").MAC)
	require.Equal(t, 10, client.Interfaces[0].Index)
	seen := map[int]bool{}
	for _, h := range top.Hosts {
		for _, i := range h.Interfaces {
			require.False(t, seen[i.Index], "index %d", i.Index)
			seen[i.Index] = true
		}
	}
	require.Equal(t, 7, router.Interface("eth1").Index)
	require.Equal(t, 1400, top.Host("hub").Interface("eth0").MTU, "of the link's other end")
	require.Equal(t, 1400, top.Host("hub").Interface("br0").MTU, "least of its ports")

	require.True(t, client.Stack, "it has a real socket")
	require.True(t, router.Stack && top.Host("server").Stack)
	require.False(t, top.Host("last").Stack || top.Host("switch").Stack)

	via := netip.MustParseAddr
	require.Equal(t, []Route{{netip.MustParsePrefix("0.0.0.0/0"), via("10.0.0.254")},
		{netip.MustParsePrefix("::/0"), via("fd00:0:0:1::fe")}}, client.Routes)
	require.Contains(t, router.Routes,
		Route{netip.MustParsePrefix("10.2.0.0/24"), via("10.1.0.253")})
	require.Contains(t, client.Neighbours,
		Neighbour{"eth0", via("10.0.0.254"), router.Interfaces[0].MAC})
	require.Contains(t, client.Neighbours,
		Neighbour{"eth0.7", via("10.7.0.2"), top.Host("tagged").Interfaces[0].MAC})
	require.True(t, s.Agent.Process, "a step kills it")
}

// TestScript checks the grammar of scripts beyond what the valid files hold.
func TestScript(t *testing.T) {
	data, err := os.ReadFile("testdata/valid/everything.yaml")
	require.NoError(t, err)
	s, err := Parse("everything.yaml", data)
	require.NoError(t, err)
	tcp := s.Steps[0].TCP
	require.Equal(t, uint32(0xfffffff0), tcp.ClientISN)
	require.Len(t, tcp.Script, 4)
	require.Equal(t, flow.SYN|flow.ECE|flow.CWR, tcp.Script[0].Flags)
	require.Equal(t, 2, tcp.Script[0].Repeat)
	require.True(t, tcp.Script[1].FromServer)
	require.Zero(t, tcp.Script[2].Flags)
	last := tcp.Script[3]
	require.Equal(t, uint32(1<<32-1), *last.Ack)
	require.Equal(t, 120, last.Payload)
	lines := bytes.Split(data, []byte("\n"))
	for _, seg := range tcp.Script {
		require.Regexp(t, `^ +[<>]`, string(lines[seg.Line-1]))
	}
	require.Equal(t, "too-big", s.Steps[1].UDP.Script[3].Unreachable)
}

// TestSeveralMistakes checks that independent mistakes are told together, in file order.
func TestSeveralMistakes(t *testing.T) {
	_, err := Parse("x.yaml", []byte(`summary: x
topology:
  a: {eth0: [10.0.0.300/24]}
  b: {eth0: [10.0.0.2/24], forwrd: true}
  links: [a/eth0 - b/eth0]
agent: {on: [b/eth0], hok: tc}
traffic: [advance: 1s]
`))
	var all Errors
	require.True(t, errors.As(err, &all))
	require.Len(t, all, 3)
	require.Equal(t, []int{3, 4, 6}, []int{all[0].Line, all[1].Line, all[2].Line})
	require.Equal(t, `did you mean "forward"?`, all[1].Hint)
}

// FuzzParse checks that nothing crashes the parser, and that what it takes is sound.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.yaml", "testdata/invalid/*.yaml"} {
		for _, file := range files(f, pattern) {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz.yaml", data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || s != nil {
				t.Fatalf("error of type %T", err)
			}
			if e.Msg == "" || e.Line < 0 || e.Column < 0 {
				t.Fatalf("error without place or words: %#v", e)
			}
			return
		}
		if s.Summary == "" || len(s.Topology.Hosts) == 0 || len(s.Steps) == 0 || len(s.Agent.On) == 0 {
			t.Fatal("a scenario with parts missing")
		}
		if problems := validate(t, data); problems != nil {
			t.Fatalf("the schema refuses what the parser takes: %v", problems)
		}
	})
}

// TestMixIsPlainSteps checks that a mix means the same as the steps that it draws, written out.
func TestMixIsPlainSteps(t *testing.T) {
	const head = `summary: x
topology:
  client: {eth0: [10.0.0.1/24, fd00::1/64]}
  server: {eth0: [10.0.0.2/24, fd00::2/64]}
  links: [client/eth0 - server/eth0]
agent: {on: [server/eth0]}
traffic:
`
	mixed, err := Parse("a.yaml", []byte(head+`  - mix: [client, server]
    flows: {tcp: 30, udp: 20, ping: 10, dns: 10, sctp: 10, fragments: 10, errors: 10}
`))
	require.NoError(t, err)
	require.Greater(t, len(mixed.Steps), 200)
	var text strings.Builder
	for _, s := range mixed.Steps {
		require.Equal(t, 8, s.Line)
		text.WriteString("  " + strings.ReplaceAll(strings.TrimSpace(s.Text), "\n", "\n  ") + "\n")
	}
	plain, err := Parse("a.yaml", []byte(head+text.String()))
	require.NoError(t, err)
	places := cmpopts.IgnoreFields(Step{}, "Line", "Text")
	lines := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Line" }, cmp.Ignore())
	addrs := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	require.Empty(t, cmp.Diff(plain.Steps, mixed.Steps, places, lines, addrs))
}
