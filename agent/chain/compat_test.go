package chain_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/compat"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/bpf/chain/member"
)

// l3afd is a host with packages "one" and "two".
type l3afd struct {
	b      *bed
	api    *api.Server
	server *compat.Server
	host   string
}

func newL3afd(t *testing.T) l3afd {
	t.Helper()
	b := newBed(t)
	packages := t.TempDir()
	for _, name := range []string{"one", "two"} {
		folder := filepath.Join(packages, name, "1.0", "member")
		require.NoError(t, os.MkdirAll(folder, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "member.o"), member.Object(), 0o600))
	}
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(packages, "one", "1.0", "member", "link.o")))
	s := serve(t, chain.Options{State: b.state, Pin: b.pin}).server
	server, err := compat.New(s, packages)
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	return l3afd{b, s, server, host}
}

func (l l3afd) ask(method, path, body string) (status int, text string) {
	l.b.t.Helper()
	w := httptest.NewRecorder()
	l.b.inside(1, func() error {
		r := httptest.NewRequest(method, compat.Path+"/v1"+path, strings.NewReader(strings.ReplaceAll(body, "HOST", l.host)))
		l.server.ServeHTTP(w, r)
		return nil
	})
	return w.Code, w.Body.String()
}

func (l l3afd) must(method, path, body string) string {
	l.b.t.Helper()
	status, text := l.ask(method, path, body)
	require.Equal(l.b.t, http.StatusOK, status, text)
	return text
}

// order is a request for programs at the far end's tc ingress.
func order(programs ...string) string {
	return fmt.Sprintf(`[{"host_name": "HOST", "iface": %q, "bpf_programs": {"tc_ingress": [%s]}}]`,
		far, strings.Join(programs, ","))
}

func l3afProgram(name string, seq int, more string) string {
	return fmt.Sprintf(`{"name": %q, "seq_id": %d, "artifact": "member.tar.gz", "version": "1.0", "map_name": "x",
		"admin_status": "enabled", "prog_type": "tc", "cpu": 0, "object_file": "member.o",
		"entry_function_name": "tc_member"%s}`, name, seq, more)
}

// names are the programs of the far end, in their order.
func (l l3afd) names() (names []string) {
	l.b.t.Helper()
	var all []compat.Host
	require.NoError(l.b.t, json.Unmarshal([]byte(l.must("GET", "", "")), &all))
	for _, h := range all {
		for _, p := range h.Programs.Ingress {
			names = append(names, p.Name)
		}
	}
	return names
}

// own is the program at the far end, attached in the way that is the best here.
func (l l3afd) own() []ebpf.ProgramID {
	if hasTCX(l.b.t) {
		return l.b.hook(hook.Ingress, hook.TCX).Own
	}
	return l.b.hook(hook.Ingress, hook.TC).Own
}

func TestL3afd(t *testing.T) {
	l := newL3afd(t)
	one, two := l3afProgram("one", 1, `, "map_args": {"seen": "100"}`),
		l3afProgram("two", 2, `, "map_args": [{"name": "seen", "args": [{"key": 0, "value": 50}]}]`)
	l.must("POST", "/add", order(two))
	l.must("POST", "/add", order(one))
	require.Equal(t, []string{"one", "two"}, l.names())
	sent, _ := l.b.send(hook.Ingress, 3)
	require.Len(t, l.b.traces(hook.Ingress, sent)[0], 2)
	require.Greater(t, l.b.seenIn(hook.Ingress, "map-two-*-seen"), uint64(50))
	require.Contains(t, l.must("GET", "/"+far, ""), `"map_args":{"seen":"100"}`)

	l.must("POST", "/update", order(l3afProgram("one", 3, ""), two)) // another order
	require.Equal(t, []string{"two", "one"}, l.names())
	l.must("POST", "/delete", fmt.Sprintf(`[{"host_name": "HOST", "iface": %q, "bpf_programs": {"tc_ingress": ["one"]}}]`, far))
	require.Equal(t, []string{"two"}, l.names())
	l.must("POST", "/update", "[]") // removes what it does not name
	require.Empty(t, l.names())
	require.Empty(t, l.own())
	l.b.clean(0)
}

// Chains that others have made are left alone.
func TestL3afdBesideOthers(t *testing.T) {
	l := newL3afd(t)
	own := l.b.chain(hook.Ingress, "", l.b.member(hook.Ingress, 1, 1, hook.TCOk, 1))
	own.Namespace = ""
	l.b.inside(1, func() error {
		return l.api.Do(func(m *chain.Manager) error {
			_, err := m.Apply(&chain.Spec{Chains: []chain.Chain{own}}, chain.ApplyOptions{})
			return err
		})
	})
	l.must("POST", "/update", "[]")
	require.Equal(t, "[]\n", l.must("GET", "", ""))
	was := l.own()
	require.NotZero(t, was)
	status, text := l.ask("POST", "/update", order(l3afProgram("one", 1, "")))
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, text, "it was not made here")
	require.Equal(t, was, l.own())
}

// What the original lets pass, or does by half, is refused, and what runs stays.
func TestL3afdRefuses(t *testing.T) {
	l := newL3afd(t)
	one := l3afProgram("one", 1, "")
	l.must("POST", "/add", order(one))
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		err                string
	}{
		"nothing":          {"POST", "/update", "", 400, "the request cannot be read: EOF"},
		"no list":          {"POST", "/add", "{}", 400, "cannot be read"},
		"unknown field":    {"POST", "/add", `[{"hostname": "x"}]`, 400, `unknown field "hostname"`},
		"another host":     {"POST", "/add", `[{"host_name": "x", "iface": "lo", "bpf_programs": {}}]`, 422, `host_name: "x"; this is`},
		"no interface":     {"POST", "/add", `[{"host_name": "HOST", "bpf_programs": {}}]`, 422, "iface: is missing"},
		"no programs":      {"POST", "/delete", `[{"host_name": "HOST", "iface": "lo"}]`, 422, "bpf_programs: is missing"},
		"unknown one":      {"GET", "/none0", "", 404, "no such interface"},
		"unknown program":  {"POST", "/delete", fmt.Sprintf(`[{"host_name": "HOST", "iface": %q, "bpf_programs": {"xdp_ingress": ["a"]}}]`, far), 404, "there is no such program: a"},
		"there already":    {"POST", "/add", order(one), 409, "there is such a program already"},
		"out of packages":  {"POST", "/add", order(strings.Replace(one, `"1.0"`, `"../../.."`, 1)), 422, `version: "../../.."; want the name`},
		"link out of them": {"POST", "/add", order(strings.Replace(l3afProgram("one", 1, ""), "member.o", "link.o", 1)), 422, "path escapes"},
		"no object":        {"POST", "/add", order(strings.Replace(one, "member.o", "none.o", 1)), 422, "no such file"},
		"status":           {"POST", "/add", order(strings.Replace(one, `"enabled"`, `"ENABLED"`, 1)), 400, `admin_status: "ENABLED"; want enabled or disabled`},
		"type":             {"POST", "/add", order(strings.Replace(one, `"tc"`, `"xdp"`, 1)), 422, "want tc for tc-ingress"},
		"a command":        {"POST", "/add", order(l3afProgram("two", 2, `, "cmd_start": "start.sh"`)), 400, "cmd_start: weir does not do this"},
		"a limit":          {"POST", "/add", order(strings.Replace(one, `"cpu": 0`, `"cpu": 5`, 1)), 400, "cpu: weir does not do this"},
		"rules":            {"POST", "/add", order(l3afProgram("two", 2, `, "rules_file": "../../.."`)), 400, "rules_file: weir does not do this"},
		"map's value":      {"POST", "/add", order(l3afProgram("two", 2, `, "map_args": {"seen": "x"}`)), 422, `"x" is no integer`},
		"map_args":         {"POST", "/add", order(l3afProgram("two", 2, `, "map_args": 5`)), 400, `map_args: want {"map": "1,2"}`},
		"a map twice":      {"POST", "/add", order(l3afProgram("two", 2, `, "map_args": [{"name": "a", "args": []}, {"name": "a", "args": []}]`)), 400, `map "a" is there twice`},
	} {
		t.Run(name, func(t *testing.T) {
			before := l.must("GET", "", "")
			own := l.own()
			require.NotZero(t, own)
			status, text := l.ask(c.method, c.path, c.body)
			require.Contains(t, text, c.err)
			require.Equal(t, c.status, status)
			require.Equal(t, before, l.must("GET", "", ""))
			require.Equal(t, own, l.own())
		})
	}
}
