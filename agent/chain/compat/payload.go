// Package compat accepts the paths and the JSON of l3afd's API for chains, so that what deploys to
// it can deploy to weir: programs that need nothing but the kernel.
//
// It differs where the original is silent about a failure: a request is done whole or not at all,
// names what is wrong with a status from 400 on, and what weir cannot do is refused.
package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/mapargs"
)

// Host is what a host's interface shall run.
type Host struct {
	HostName string          `json:"host_name"`
	Iface    string          `json:"iface"`
	IPv4     string          `json:"ipv4_address,omitempty"`
	Programs *Lists[Program] `json:"bpf_programs"`
}

// Names are programs of an interface that shall end.
type Names struct {
	HostName string         `json:"host_name"`
	Iface    string         `json:"iface"`
	IPv4     string         `json:"ipv4_address,omitempty"`
	Programs *Lists[string] `json:"bpf_programs"`
}

// Lists are programs by their hook.
type Lists[T any] struct {
	XDP     []T `json:"xdp_ingress"`
	Ingress []T `json:"tc_ingress"`
	Egress  []T `json:"tc_egress"`
	Probes  []T `json:"probes,omitempty"`
}

// of are the programs of a hook.
func (l *Lists[T]) of(k hook.Kind) *[]T {
	switch k {
	case hook.XDP:
		return &l.XDP
	case hook.Ingress:
		return &l.Ingress
	}
	return &l.Egress
}

// Program is a program of a chain, with those fields that weir acts on, and all others in a map.
type Program struct {
	Name     string
	Sequence int
	Artifact string
	Version  string
	Object   string
	Entry    string
	Disabled bool
	Type     string
	Maps     map[string]mapargs.Args
	Metrics  []chain.Metric
	// raw is all of it, as it came.
	raw map[string]json.RawMessage
}

// harmless are fields that say nothing about what a program does, or about what weir needs no help
// with: it links members by itself.
var harmless = []string{"id", "is_plugin", "cfg_version", "map_name"}

// UnmarshalJSON reads a program. A field that asks for what weir does not do is an error, unless it is
// empty.
func (p *Program) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, &p.raw); err != nil {
		return err
	}
	var status string
	known := map[string]any{"name": &p.Name, "seq_id": &p.Sequence, "artifact": &p.Artifact,
		"version": &p.Version, "object_file": &p.Object, "entry_function_name": &p.Entry,
		"admin_status": &status, "prog_type": &p.Type}
	for _, field := range slices.Sorted(maps.Keys(p.raw)) {
		var err error
		switch to := known[field]; {
		case to != nil:
			err = json.Unmarshal(p.raw[field], to)
		case field == "map_args":
			p.Maps, err = mapArgs(p.raw[field])
		case field == "monitor_maps":
			p.Metrics, err = monitorMaps(p.raw[field])
		case !slices.Contains(harmless, field) && !empty(p.raw[field]):
			err = errors.New("weir does not do this")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
	}
	switch status {
	case "", "enabled":
	case "disabled":
		p.Disabled = true
	default:
		return fmt.Errorf("admin_status: %q; want enabled or disabled", status)
	}
	return nil
}

// MarshalJSON writes what was read.
func (p Program) MarshalJSON() ([]byte, error) { return json.Marshal(p.raw) }

// empty tells whether a field asks for nothing.
func empty(text json.RawMessage) bool {
	return slices.Contains([]string{"null", `""`, "0", "false", "{}", "[]"}, string(text))
}

// mapArgs reads both shapes: {"map": "1,2"}, and [{"name": "map", "args": [{"key": 1, "value": 2}]}].
func mapArgs(text json.RawMessage) (map[string]mapargs.Args, error) {
	var texts map[string]mapargs.Args
	if json.Unmarshal(text, &texts) == nil {
		return texts, nil
	}
	var list []struct {
		Name string       `json:"name"`
		Args mapargs.Args `json:"args"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf(`want {"map": "1,2"} or [{"name": "map", "args": [{"key": 1, "value": 2}]}]: %w`, err)
	}
	all := map[string]mapargs.Args{}
	for _, m := range list {
		if _, twice := all[m.Name]; twice {
			return nil, fmt.Errorf("map %q is there twice", m.Name)
		}
		all[m.Name] = m.Args
	}
	return all, nil
}

// aggregators are what l3afd makes of a map's values.
var aggregators = map[string]string{"scalar": chain.AsValue, "avg": chain.AsAverage, "max-rate": chain.AsMaxRate}

// monitorMaps reads what is to be measured: [{"name": "map", "key": 0, "aggregator": "scalar"}].
func monitorMaps(text json.RawMessage) ([]chain.Metric, error) {
	var list []struct {
		Name       string `json:"name"`
		Key        uint64 `json:"key"`
		Aggregator string `json:"aggregator"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	var all []chain.Metric
	for _, m := range list {
		as, ok := aggregators[m.Aggregator]
		if !ok {
			return nil, fmt.Errorf("aggregator: %q; want scalar, avg or max-rate", m.Aggregator)
		}
		all = append(all, chain.Metric{Map: m.Name, Key: m.Key, As: as})
	}
	return all, nil
}

// annotation keeps a member's program as it came.
const annotation = "l3afd"

// member is a program as a member of a chain. Its package is unpacked below a folder, as
// NAME/VERSION/ARTIFACT, the artifact's name without what follows its first dot.
func (p *Program) member(packages string, k hook.Kind) (chain.Member, error) {
	if want := strings.SplitN(string(k), "-", 2)[0]; p.Type != "" && p.Type != want {
		return chain.Member{}, fmt.Errorf("prog_type: %q; want %s for %s", p.Type, want, k)
	}
	folder, _, _ := strings.Cut(p.Artifact, ".")
	path := packages
	for _, part := range []struct{ field, name string }{{"name", p.Name}, {"version", p.Version},
		{"artifact", folder}, {"object_file", p.Object}} {
		if part.name == "" || part.name == "." || filepath.Base(part.name) != part.name || !filepath.IsLocal(part.name) {
			return chain.Member{}, fmt.Errorf("%s: %q; want the name of a file or folder", part.field, part.name)
		}
		path = filepath.Join(path, part.name)
	}
	if err := contained(packages, path); err != nil {
		return chain.Member{}, fmt.Errorf("object_file: %w", err)
	}
	text, err := json.Marshal(p)
	return chain.Member{Name: p.Name, Priority: p.Sequence, Object: path, Program: p.Entry,
		Disabled: p.Disabled, Maps: p.Maps, Metrics: p.Metrics, Annotations: map[string]string{annotation: string(text)}}, err
}

// contained makes sure that a file is below a folder, also when a link leads to it.
func contained(folder, file string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("open the folder of packages: %w", err)
	}
	defer root.Close()
	inside, err := filepath.Rel(folder, file)
	if err != nil {
		return err
	}
	_, err = root.Stat(inside)
	return err
}

// program is a member as it came; nil when it did not come from here.
func program(m *chain.Member) *Program {
	text, ok := m.Annotations[annotation]
	if !ok {
		return nil
	}
	var p Program
	if json.Unmarshal([]byte(text), &p) != nil {
		return nil
	}
	return &p
}
