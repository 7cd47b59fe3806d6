package chain_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
)

// caller asks a server.
type caller struct {
	t      testing.TB
	server *api.Server
}

func serve(t testing.TB, opts chain.Options) caller {
	t.Helper()
	m, err := chain.Open(opts)
	require.NoError(t, err)
	s := api.New(m)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return caller{t, s}
}

func (c caller) ask(method, path, match string, body any) (status int, a api.Answer) {
	c.t.Helper()
	text, ok := body.(string)
	if !ok {
		data, err := json.Marshal(body)
		require.NoError(c.t, err)
		text = string(data)
	}
	r := httptest.NewRequest(method, api.Path+path, strings.NewReader(text))
	if match != "" {
		r.Header.Set("If-Match", match)
	}
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, r)
	if w.Header().Get("Content-Type") == "application/json" {
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &a), w.Body.String())
	}
	return w.Code, a
}

// A request that is wrong is told what would be right, and changes nothing.
func TestAPIRefuses(t *testing.T) {
	c := serve(t, chain.Options{State: t.TempDir(), Pin: t.TempDir()})
	const one = `{"chains": [{"interface": "eth0", "hook": "xdp", "members": [{"name": "m", "object": "m.o"}]}]}`
	for name, test := range map[string]struct {
		method, path, match, body string
		status                    int
		err                       string
	}{
		"no JSON":       {"POST", "/apply", "", "{", 400, "the request cannot be read: unexpected EOF"},
		"no order":      {"POST", "/apply", "", "[]", 400, "cannot unmarshal array"},
		"nothing":       {"POST", "/apply", "", "", 400, "the request cannot be read: EOF"},
		"another field": {"POST", "/plan", "", `{"chain": []}`, 400, `unknown field "chain"`},
		"more":          {"POST", "/apply", "", one + "{}", 400, "there is more after its end"},
		"too large":     {"POST", "/apply", "", strings.Repeat(" ", 5<<20), 413, "too large"},
		"no chains":     {"POST", "/apply", "", "{}", 422, "chains: is empty"},
		"wrong field":   {"POST", "/apply", "", one, 422, `chains[0].members[0].object: "m.o" is not an absolute path`},
		"no such chain": {"POST", "/delete", "", `{"chains": [{"interface": "eth0", "hook": "xdp"}]}`, 404, "chain eth0 xdp: there is no such chain"},
		"another state": {"POST", "/apply", `"7"`, one, 412, `the chains have changed since: their revision is "0", not "7"`},
		"method":        {"PUT", "/apply", "", one, 405, ""},
		"path":          {"POST", "/aply", "", one, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, a := c.ask(test.method, test.path, test.match, test.body)
			require.Equal(t, test.status, status)
			require.Contains(t, a.Error, test.err)
			require.Zero(t, a.Revision)
		})
	}
}

// Each chain of a request is told what has become of it.
func TestAPI(t *testing.T) {
	b := newBed(t)
	c := serve(t, chain.Options{State: b.state, Pin: b.pin})
	order := func(generation int, broken bool) api.Order {
		in := b.chain(hook.Ingress, "", b.member(hook.Ingress, 1, 1, hook.TCOk, generation))
		out := b.chain(hook.Egress, "", b.member(hook.Egress, 2, 1, hook.TCOk, generation))
		if broken {
			out.Members[0].Constants["member"] = 1 << 16
		}
		return api.Order{Spec: chain.Spec{Chains: []chain.Chain{in, out}}}
	}
	results := func(a api.Answer) (all []api.Result) {
		for _, i := range a.Items {
			all = append(all, i.Result)
		}
		return all
	}
	status, a := c.ask("POST", "/plan", "", order(1, false))
	require.Equal(t, http.StatusOK, status, a.Error)
	require.Equal(t, []api.Result{api.Planned, api.Planned}, results(a))
	require.Zero(t, a.Revision)

	status, a = c.ask("POST", "/apply", `"0"`, order(1, false))
	require.Equal(t, http.StatusOK, status, a.Error)
	require.Equal(t, []api.Result{api.Changed, api.Changed}, results(a))
	backend := a.Items[1].Change.Backend
	require.Equal(t, uint64(1), a.Revision)

	status, a = c.ask("POST", "/apply", `"0", "1"`, order(1, false))
	require.Equal(t, http.StatusOK, status, a.Error)
	require.Equal(t, []api.Result{api.Unchanged, api.Unchanged}, results(a))
	require.Equal(t, uint64(1), a.Revision)

	for _, path := range []string{"/plan", "/apply"} {
		status, a = c.ask("POST", path, "", order(2, true))
		require.Equal(t, http.StatusUnprocessableEntity, status)
		require.Equal(t, []api.Result{api.Kept, api.Failed}, results(a))
		require.Equal(t, "member m02: constant member: 65536 does not fit 2 bytes, signed: false", a.Items[1].Error)
	}

	b.displace(way{hook.Egress, backend}, foreign(t, hook.Egress, "other"))
	status, a = c.ask("POST", "/apply", "", order(2, false))
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, []api.Result{api.Kept, api.Failed}, results(a))
	require.Contains(t, a.Items[1].Error, chain.ErrReplaced.Error())
	sent, _ := b.send(hook.Ingress, 3)
	wantTraces(t, []step{{1, 1}}, b.traces(hook.Ingress, sent))

	both := []chain.Key{b.chain(hook.Ingress, "").Key, b.chain(hook.Egress, "").Key}
	status, _ = c.ask("POST", "/delete", "", api.Deletion{Chains: both})
	require.Equal(t, http.StatusConflict, status)
	status, a = c.ask("POST", "/delete", "", api.Deletion{Chains: both, Force: true})
	require.Equal(t, http.StatusOK, status, a.Error)
	require.Equal(t, uint64(2), a.Revision)
}

// Requests that come at once are handled one after the other.
func TestAPIAtOnce(t *testing.T) {
	b := newBed(t)
	c := serve(t, chain.Options{State: b.state, Pin: b.pin})
	var wg sync.WaitGroup
	for generation := range 4 {
		wg.Go(func() {
			body, err := json.Marshal(b.chain(hook.Ingress, "", b.member(hook.Ingress, 1, 1, hook.TCOk, generation)))
			if err != nil {
				panic(err)
			}
			for _, r := range []*http.Request{
				httptest.NewRequest("POST", api.Path+"/apply", strings.NewReader(`{"chains": [`+string(body)+`]}`)),
				httptest.NewRequest("GET", api.Path, nil),
			} {
				w := httptest.NewRecorder()
				c.server.ServeHTTP(w, r)
				assert.Equal(t, http.StatusOK, w.Code, w.Body.String())
			}
		})
	}
	wg.Wait()
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, httptest.NewRequest("GET", api.Path, nil))
	var all api.Chains
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &all))
	require.Equal(t, uint64(4), all.Revision)
	require.Equal(t, `"4"`, w.Header().Get("ETag"))
	require.Len(t, all.Chains, 1)
	require.Equal(t, uint64(4), all.Chains[0].Generation)
	b.clean(1)
}
