// Package static reads a cluster from a YAML file: labels without Kubernetes.
package static

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/podgroup"
	"github.com/weirnet/weir/agent/yamlfile"
)

// File is a cluster as a file describes it.
type File struct {
	Nodes map[string]Node `yaml:"nodes,omitempty"`
	// Pods and Services are by "namespace/name".
	Pods     map[string]Pod     `yaml:"pods,omitempty"`
	Services map[string]Service `yaml:"services,omitempty"`
}

// Node is a machine.
type Node struct {
	Addresses []string `yaml:"addresses,omitempty"`
	External  []string `yaml:"external,omitempty"` // further addresses
	Zone      string   `yaml:"zone,omitempty"`
	Region    string   `yaml:"region,omitempty"`
	Cloud     string   `yaml:"cloud,omitempty"` // aws, gcp or azure
}

// Pod is what has addresses of its own. A Time is RFC 3339, or a duration since the source began.
type Pod struct {
	Node        string   `yaml:"node,omitempty"`
	Addresses   []string `yaml:"addresses,omitempty"`
	HostNetwork bool     `yaml:"host_network,omitempty"` // it has its node's addresses
	// UID is what its control groups are called by, which tell a pod with HostNetwork from the node.
	UID      string `yaml:"uid,omitempty"`
	Workload string `yaml:"workload,omitempty"` // kind/name, e.g. Deployment/web
	App      string `yaml:"app,omitempty"`
	Instance string `yaml:"instance,omitempty"`
	From     Time   `yaml:"from,omitempty"` // since when it has its addresses; always, if not given
	// Told is when that becomes known; From, if not given.
	Told Time `yaml:"told,omitempty"`
	// To is when it is gone, and that becomes known.
	To Time `yaml:"to,omitempty"`
}

// Service is what is reached at addresses that are no machine's.
type Service struct {
	Addresses []string `yaml:"addresses,omitempty"`
	Ports     []string `yaml:"ports,omitempty"`    // 80/tcp, or 80:30080/tcp with its port on all nodes
	Backends  []string `yaml:"backends,omitempty"` // 10.0.0.1:8080/tcp
}

// Time is a time as a file has it; "" is none.
type Time string

// at is a time in ns since the Unix epoch.
func (t Time) at(start int64) (int64, error) {
	if d, err := time.ParseDuration(string(t)); err == nil && d >= 0 {
		return start + int64(d), nil
	}
	at, err := time.Parse(time.RFC3339, string(t))
	if err != nil {
		return 0, fmt.Errorf("%q; want a duration since the beginning like 10s, or a time like "+
			"2026-01-31T12:00:00Z", t)
	}
	return at.UnixNano(), nil
}

// Parse reads a file; name is for error messages. start is where durations count from.
func Parse(name string, data []byte, start int64) (*Plan, error) {
	var f File
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil, fmt.Errorf("%s: the file is empty; want nodes, pods or services", name)
	}
	if err := yamlfile.Decode(name, data, &f); err != nil {
		return nil, err
	}
	p, err := f.Plan(start)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// Plan is a file's objects, checked.
type Plan struct {
	nodes     []labeler.Node
	pods      []plannedPod
	services  []labeler.Service
	endpoints []labeler.Endpoints
}

type plannedPod struct {
	labeler.Pod
	told, to int64 // to is 0 when it stays
}

// Plan checks the objects. Errors name the field.
func (f *File) Plan(start int64) (*Plan, error) {
	p := &Plan{}
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		n, err := f.Nodes[name].plan(name)
		if err != nil {
			return nil, fmt.Errorf("nodes.%s.%w", name, err)
		}
		p.nodes = append(p.nodes, n)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Pods)) {
		pod, err := f.Pods[name].plan(name, start)
		if err != nil {
			return nil, fmt.Errorf("pods.%s%w", name, err)
		}
		p.pods = append(p.pods, pod)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Services)) {
		if err := p.addService(name, f.Services[name]); err != nil {
			return nil, fmt.Errorf("services.%s%w", name, err)
		}
	}
	return p, nil
}

func (n Node) plan(name string) (labeler.Node, error) {
	out := labeler.Node{UID: name, Name: name, Zone: n.Zone, Region: n.Region}
	var err error
	if n.Cloud != "" {
		if out.Cloud, err = labeler.NewCloud(n.Cloud); err != nil {
			return out, err
		}
	}
	if out.Internal, err = addresses(n.Addresses); err != nil {
		return out, fmt.Errorf("addresses%w", err)
	}
	if out.Others, err = addresses(n.External); err != nil {
		return out, fmt.Errorf("external%w", err)
	}
	return out, nil
}

func (p Pod) plan(full string, start int64) (plannedPod, error) {
	out := plannedPod{Pod: labeler.Pod{UID: full, GroupUID: p.UID, Node: p.Node, HostNetwork: p.HostNetwork, App: p.App,
		Instance: p.Instance}}
	var err error
	if out.Namespace, out.Name, err = namespaced(full); err != nil {
		return out, err
	}
	if out.Addrs, err = addresses(p.Addresses); err != nil {
		return out, fmt.Errorf(".addresses%w", err)
	}
	if p.UID != "" && !podgroup.IsUID(p.UID) {
		return out, fmt.Errorf(".uid: %q; want a pod's, like 0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11, or 32 hexadecimal digits", p.UID)
	}
	if p.Workload != "" {
		kind, name, ok := strings.Cut(p.Workload, "/")
		if !ok || kind == "" || name == "" {
			return out, fmt.Errorf(".workload: %q; want kind/name, e.g. Deployment/web", p.Workload)
		}
		out.Controller = labeler.Ref{Kind: kind, Name: name}
	}
	return out, p.times(&out, start)
}

// times fills in when the pod is there. A pod without a beginning has been there always.
func (p Pod) times(out *plannedPod, start int64) error {
	out.From, out.told = 1, 0
	for _, t := range []struct {
		name string
		text Time
		to   []*int64
	}{{"from", p.From, []*int64{&out.From, &out.told}}, {"told", p.Told, []*int64{&out.told}},
		{"to", p.To, []*int64{&out.to}}} {
		if t.text == "" {
			continue
		}
		at, err := t.text.at(start)
		if err != nil {
			return fmt.Errorf(".%s: %w", t.name, err)
		}
		for _, to := range t.to {
			*to = at
		}
	}
	if out.to != 0 && (out.to <= out.From || out.to < out.told) {
		return fmt.Errorf(".to: %s; want a time after from, and not before told", p.To)
	}
	return nil
}

func (p *Plan) addService(full string, s Service) error {
	namespace, name, err := namespaced(full)
	if err != nil {
		return err
	}
	out := labeler.Service{Namespace: namespace, Name: name}
	if out.Addrs, err = addresses(s.Addresses); err != nil {
		return fmt.Errorf(".addresses%w", err)
	}
	for i, text := range s.Ports {
		port, err := servicePort(text)
		if err != nil {
			return fmt.Errorf(".ports[%d]: %w", i, err)
		}
		out.Ports = append(out.Ports, port)
	}
	p.services = append(p.services, out)
	for i, text := range s.Backends {
		at, protocol, err := backend(text)
		if err != nil {
			return fmt.Errorf(".backends[%d]: %w", i, err)
		}
		p.endpoints = append(p.endpoints, labeler.Endpoints{Namespace: namespace,
			Name: name + "-" + strconv.Itoa(i), Service: name, Addrs: []netip.Addr{at.Addr()},
			Ports: []labeler.EndpointPort{{Protocol: protocol, Port: at.Port()}}})
	}
	return nil
}

func namespaced(full string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(full, "/")
	if !ok || namespace == "" || name == "" {
		return "", "", fmt.Errorf(": want namespace/name")
	}
	return namespace, name, nil
}

func addresses(texts []string) (all []netip.Addr, err error) {
	for i, t := range texts {
		a, err := netip.ParseAddr(t)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("[%d]: %q; want an address like 10.0.0.1 or fd00::1", i, t)
		}
		all = append(all, a)
	}
	return all, nil
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP,
	"sctp": unix.IPPROTO_SCTP}

// servicePort reads 80/tcp or 80:30080/tcp.
func servicePort(text string) (p labeler.ServicePort, err error) {
	wrong := fmt.Errorf("%q; want 80/tcp, or 80:30080/tcp with a port on all nodes", text)
	ports, protocol, _ := strings.Cut(text, "/")
	first, second, both := strings.Cut(ports, ":")
	var ok bool
	if p.Protocol, ok = protocols[protocol]; !ok {
		return p, wrong
	}
	if p.Port, ok = port(first); !ok {
		return p, wrong
	}
	if both {
		if p.NodePort, ok = port(second); !ok {
			return p, wrong
		}
	}
	return p, nil
}

func port(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n > 0
}

// backend reads 10.0.0.1:8080/tcp.
func backend(text string) (netip.AddrPort, uint8, error) {
	at, protocol, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddrPort(at)
	number, ok := protocols[protocol]
	if err != nil || !ok || a.Port() == 0 {
		return a, 0, fmt.Errorf("%q; want an address, port and protocol like 10.0.0.1:8080/tcp", text)
	}
	return a, number, nil
}
