package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
)

// Path is what all paths begin with.
const Path = "/l3af/configs"

// Server answers requests with an api.Server's manager.
type Server struct {
	http.Handler
	api      *api.Server
	packages string
	host     string
}

// New makes a server for packages that are unpacked below a folder.
func New(s *api.Server, packages string) (*Server, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("ask for the host's name: %w", err)
	}
	mux := http.NewServeMux()
	c := &Server{Handler: mux, api: s, packages: packages, host: host}
	mux.HandleFunc("POST "+Path+"/{version}/update", c.update)
	mux.HandleFunc("POST "+Path+"/{version}/add", c.add)
	mux.HandleFunc("POST "+Path+"/{version}/delete", c.delete)
	mux.HandleFunc("GET "+Path+"/{version}", c.all)
	mux.HandleFunc("GET "+Path+"/{version}/{iface}", c.one)
	return c, nil
}

// The errors of requests.
var (
	errUnfit    = errors.New("the request cannot be done")
	errConflict = errors.New("there is such a program already")
	errUnknown  = errors.New("there is no such")
)

// update makes the interfaces run what the request says, and nothing else of what came from here.
func (c *Server) update(w http.ResponseWriter, r *http.Request) {
	answer(w, change(c, w, r, func(state config, in []Host) error {
		wanted, err := c.wanted(in)
		if err != nil {
			return err
		}
		for k := range state {
			state[k] = nil
		}
		for k, members := range wanted {
			state[k] = members
		}
		return nil
	}))
}

// add makes the interfaces run more programs.
func (c *Server) add(w http.ResponseWriter, r *http.Request) {
	answer(w, change(c, w, r, func(state config, in []Host) error {
		wanted, err := c.wanted(in)
		if err != nil {
			return err
		}
		for k, members := range wanted {
			for _, m := range members {
				if slices.ContainsFunc(state[k], func(x chain.Member) bool { return x.Name == m.Name }) {
					return fmt.Errorf("%s: program %s: %w; update it", k, m.Name, errConflict)
				}
				state[k] = append(state[k], m)
			}
		}
		return nil
	}))
}

// delete ends programs.
func (c *Server) delete(w http.ResponseWriter, r *http.Request) {
	answer(w, change(c, w, r, func(state config, in []Names) error {
		for _, h := range in {
			if err := c.check(h.HostName, h.Iface, h.Programs != nil); err != nil {
				return err
			}
			for _, kind := range hook.Kinds() {
				k := chain.Key{Interface: h.Iface, Hook: kind}
				for _, name := range *h.Programs.of(kind) {
					at := slices.IndexFunc(state[k], func(m chain.Member) bool { return m.Name == name })
					if at < 0 {
						return fmt.Errorf("%s: %w program: %s", k, errUnknown, name)
					}
					state[k] = slices.Delete(slices.Clone(state[k]), at, at+1)
				}
			}
		}
		return nil
	}))
}

// config is what came from here: members by their chain.
type config map[chain.Key][]chain.Member

// current is the configuration that a manager has.
func current(m *chain.Manager) config {
	state := config{}
	for _, ch := range m.Applied() {
		if len(ch.Members) > 0 && !native(&ch) {
			state[ch.Key] = slices.Clone(ch.Members)
		}
	}
	return state
}

// native tells whether a chain has members that did not come from here.
func native(c *chain.Chain) bool {
	return slices.ContainsFunc(c.Members, func(m chain.Member) bool { return program(&m) == nil })
}

// change reads a request, lets fn change the configuration, and applies it, all or none.
func change[T any](c *Server, w http.ResponseWriter, r *http.Request, fn func(config, []T) error) error {
	var in []T
	if err := api.Read(w, r, &in); err != nil {
		return err
	}
	return c.api.Do(func(m *chain.Manager) error {
		state := current(m)
		if err := fn(state, in); err != nil {
			return err
		}
		return apply(m, state)
	})
}

// apply makes a manager's chains what a configuration says. Chains that did not come from here are in
// the way, and stay.
func apply(m *chain.Manager, state config) error {
	gone := map[chain.Key]bool{}
	for _, s := range m.List() {
		gone[s.Key] = s.Drift == chain.Gone
	}
	var spec chain.Spec
	var ended []chain.Key
	for k, members := range state {
		if len(members) == 0 {
			ended = append(ended, k)
		}
		if len(members) > 0 || !gone[k] {
			spec.Chains = append(spec.Chains, chain.Chain{Key: k, Members: members})
		}
	}
	for _, ch := range m.Applied() {
		if _, named := state[ch.Key]; named && native(&ch) {
			return fmt.Errorf("chain %s: %w: it was not made here", ch.Key, errConflict)
		}
	}
	if len(spec.Chains) > 0 {
		if _, err := m.Apply(&spec, chain.ApplyOptions{}); err != nil {
			return err
		}
	}
	if len(ended) == 0 {
		return nil
	}
	_, err := m.Delete(chain.ApplyOptions{}, ended...) // nothing of them is in the kernel any more
	return err
}

// check checks what is said of an interface.
func (c *Server) check(host, iface string, programs bool) error {
	switch {
	case host != c.host:
		return fmt.Errorf("%w: host_name: %q; this is %q", errUnfit, host, c.host)
	case iface == "":
		return fmt.Errorf("%w: iface: is missing", errUnfit)
	case !programs:
		return fmt.Errorf("%w: bpf_programs: is missing", errUnfit)
	}
	return nil
}

// wanted are the members that a request names.
func (c *Server) wanted(in []Host) (config, error) {
	state := config{}
	for _, h := range in {
		if err := c.check(h.HostName, h.Iface, h.Programs != nil); err != nil {
			return nil, err
		}
		if len(h.Programs.Probes) > 0 {
			return nil, fmt.Errorf("%w: probes: weir does not attach them", errUnfit)
		}
		for _, kind := range hook.Kinds() {
			k := chain.Key{Interface: h.Iface, Hook: kind}
			for _, p := range *h.Programs.of(kind) {
				m, err := p.member(c.packages, kind)
				if err != nil {
					return nil, fmt.Errorf("%w: %s: program %q: %w", errUnfit, k, p.Name, err)
				}
				state[k] = append(state[k], m)
			}
		}
	}
	return state, nil
}

// hosts is a configuration as it came.
func (c *Server) hosts(state config) []Host {
	byName := map[string]*Lists[Program]{}
	var names []string
	for k, members := range state {
		if byName[k.Interface] == nil {
			byName[k.Interface] = &Lists[Program]{XDP: []Program{}, Ingress: []Program{}, Egress: []Program{}}
			names = append(names, k.Interface)
		}
		slices.SortFunc(members, func(a, b chain.Member) int { return a.Priority - b.Priority })
		for i := range members {
			if p := program(&members[i]); p != nil {
				list := byName[k.Interface].of(k.Hook)
				*list = append(*list, *p)
			}
		}
	}
	slices.Sort(names)
	all := []Host{}
	for _, n := range names {
		all = append(all, Host{HostName: c.host, Iface: n, Programs: byName[n]})
	}
	return all
}

func (c *Server) read() (all []Host) {
	_ = c.api.Do(func(m *chain.Manager) error {
		all = c.hosts(current(m))
		return nil
	})
	return all
}

func (c *Server) all(w http.ResponseWriter, _ *http.Request) { reply(w, c.read()) }

func (c *Server) one(w http.ResponseWriter, r *http.Request) {
	for _, h := range c.read() {
		if h.Iface == r.PathValue("iface") {
			reply(w, h)
			return
		}
	}
	answer(w, fmt.Errorf("%w interface: %s", errUnknown, r.PathValue("iface")))
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nothing to do
}

// answer is empty when all is well, as the original's.
func answer(w http.ResponseWriter, err error) {
	if err == nil {
		return
	}
	status := api.Status(err)
	switch {
	case errors.Is(err, errUnknown):
		status = http.StatusNotFound
	case errors.Is(err, errConflict):
		status = http.StatusConflict
	case errors.Is(err, errUnfit):
		status = http.StatusUnprocessableEntity
	}
	http.Error(w, err.Error(), status)
}
