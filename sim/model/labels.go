package model

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler/static"
)

// ClusterConfig is what is to be known of who owns addresses. Times count from the clock's zero.
type ClusterConfig struct {
	Node, Cluster string           // where the agent is
	Cloud, Region string           // where the nodes are that do not tell
	Clusters      []ClusterObjects // in the order in which they are asked
	Ranges        []agent.OwnRange
	Provided      []ProvidedRange
}

// ClusterObjects are what is told of a cluster.
type ClusterObjects struct {
	Name string
	static.File
}

// ProvidedRange is a cloud provider's: aws, gcp, google or azure.
type ProvidedRange struct{ Provider, CIDR, Service, Region string }

// Cluster is what is known of one or several clusters. It labels flows by the rules of docs/labels.md: it
// goes through all there is, for each flow.
type Cluster struct {
	cfg      ClusterConfig
	holders  []holder
	hosted   []hosted
	sockets  []Socket
	services []fronted
	backends []backend
	ranges   []ownRange
}

// holder has addresses for a time.
type holder struct {
	name           string // of equal beginnings the last one by name is the later one
	labels         flow.Labels
	addrs          []netip.Addr
	from, told, to int64 // to is 0 when it stays
}

// hosted is a pod in its node's network namespace: it shares the node's addresses.
type hosted struct {
	holder
	uid string
}

// Socket is one that sends from a port of addresses, since a time, and the control group that it is of.
type Socket struct {
	Protocol uint8
	Addrs    []netip.Addr
	Port     uint16
	Group    string
	From     int64
}

// fronted is a port of a service at an address, or on every node.
type fronted struct {
	cluster  string
	service  string
	addr     netip.Addr // not valid: on every node
	protocol uint8
	port     uint16
}

type backend struct {
	cluster  string
	service  string
	headless bool // the service has no address
	at       netip.AddrPort
	protocol uint8
}

type ownRange struct {
	prefix netip.Prefix
	agent.OwnRange
	provided     bool
	cloudService string
}

// NewCluster reads what is to be known.
func NewCluster(cfg ClusterConfig) (*Cluster, error) {
	c := &Cluster{cfg: cfg}
	for _, objects := range cfg.Clusters {
		for _, step := range []func(ClusterObjects) error{c.readNodes, c.readPods, c.readServices} {
			if err := step(objects); err != nil {
				return nil, err
			}
		}
	}
	return c, c.readRanges()
}

func (c *Cluster) readNodes(of ClusterObjects) error {
	for name, n := range of.Nodes {
		addrs, err := parseAll(slices.Concat(n.Addresses, n.External))
		if err != nil {
			return err
		}
		c.holders = append(c.holders, holder{name: name, addrs: addrs, labels: flow.Labels{Kind: flow.KindNode,
			Cluster: of.Name, Node: name, Zone: n.Zone, Region: n.Region, Cloud: n.Cloud}})
	}
	return nil
}

func (c *Cluster) readPods(of ClusterObjects) error {
	for full, p := range of.Pods {
		h := holder{name: full, from: 1}
		namespace, name, _ := strings.Cut(full, "/")
		kind, workload, _ := strings.Cut(p.Workload, "/")
		node := of.Nodes[p.Node]
		h.labels = flow.Labels{Kind: flow.KindPod, Cluster: of.Name, Namespace: namespace, Pod: name,
			WorkloadKind: kind, Workload: workload, App: p.App, Instance: p.Instance, Node: p.Node,
			Zone: node.Zone, Region: node.Region, Cloud: node.Cloud}
		var err error
		if h.addrs, err = parseAll(p.Addresses); err != nil {
			return err
		}
		if p.From != "" {
			if h.from, err = moment(p.From); err != nil {
				return err
			}
			h.told = h.from
		}
		for _, t := range []struct {
			text static.Time
			to   *int64
		}{{p.Told, &h.told}, {p.To, &h.to}} {
			if t.text == "" {
				continue
			}
			if *t.to, err = moment(t.text); err != nil {
				return err
			}
		}
		if p.HostNetwork {
			c.hosted = append(c.hosted, hosted{h, p.UID})
			continue
		}
		c.holders = append(c.holders, h)
	}
	return nil
}

func moment(t static.Time) (int64, error) {
	d, err := time.ParseDuration(string(t))
	return int64(d), err
}

func parseAll(texts []string) (all []netip.Addr, err error) {
	for _, t := range texts {
		a, err := netip.ParseAddr(t)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

var transports = map[string]uint8{"tcp": protoTCP, "udp": protoUDP, "sctp": protoSCTP}

func (c *Cluster) readServices(of ClusterObjects) error {
	for _, full := range slices.Sorted(maps.Keys(of.Services)) {
		s := of.Services[full]
		addrs, err := parseAll(s.Addresses)
		if err != nil {
			return err
		}
		for _, text := range s.Ports {
			ports, transport, _ := strings.Cut(text, "/")
			var port, nodePort uint16
			if n, _ := fmt.Sscanf(ports, "%d:%d", &port, &nodePort); n == 0 {
				return fmt.Errorf("port %q of %s", text, full)
			}
			for _, a := range addrs {
				c.services = append(c.services, fronted{of.Name, full, a, transports[transport], port})
			}
			if nodePort != 0 {
				c.services = append(c.services, fronted{of.Name, full, netip.Addr{}, transports[transport], nodePort})
			}
		}
		for _, text := range s.Backends {
			at, transport, _ := strings.Cut(text, "/")
			socket, err := netip.ParseAddrPort(at)
			if err != nil {
				return err
			}
			c.backends = append(c.backends, backend{of.Name, full, len(addrs) == 0, socket, transports[transport]})
		}
	}
	return nil
}

func (c *Cluster) readRanges() error {
	for _, r := range c.cfg.Ranges {
		p, err := netip.ParsePrefix(r.CIDR)
		if err != nil {
			return err
		}
		c.ranges = append(c.ranges, ownRange{prefix: p.Masked(), OwnRange: r})
	}
	for _, r := range c.cfg.Provided {
		p, err := netip.ParsePrefix(r.CIDR)
		if err != nil {
			return err
		}
		switch r.Provider {
		case "google":
			r.Provider, r.Service, r.Region = "gcp", "googleservice", "global"
		case "azure":
			r.Service, r.Region = cmp.Or(r.Service, "azureservice"), cmp.Or(r.Region, "global")
		}
		c.ranges = append(c.ranges, ownRange{prefix: p.Masked(), provided: true, cloudService: normal(r.Service),
			OwnRange: agent.OwnRange{Cloud: r.Provider, Region: normal(r.Region)}})
	}
	slices.SortStableFunc(c.ranges, func(a, b ownRange) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return nil
}

// normal is a name as it is compared: in lower case, without spaces.
func normal(s string) string { return strings.ReplaceAll(strings.ToLower(s), " ", "") }

// Label fills in a flow's labels, as they are known when its last record is written. Its address
// translations must be filled in before. A nil Cluster labels nothing.
func (c *Cluster) Label(f *Flow) {
	if c == nil {
		return
	}
	// On the initiator's side of a translation the initiator has its own name, on the other side the
	// responder has.
	near := flow.NAT{Src: f.Src, Dst: f.Dst, SrcPort: f.SrcPort, DstPort: f.DstPort}
	far := near
	if f.NATBefore.Src.IsValid() {
		near = f.NATBefore
	}
	if f.NATAfter.Src.IsValid() {
		far = f.NATAfter
	}
	backwards := f.Role == flow.RoleResponder
	from, to, service, flags := c.ends(f, near, far, backwards)
	if f.Role == flow.RoleUnknown {
		if a, b, s, more := c.ends(f, near, far, true); s != "" {
			from, to, service, flags = a, b, s, more
		}
	}
	f.Service, f.LabelFlags = service, flags
	if from.contested || to.contested {
		f.LabelFlags |= flow.FlagAmbiguous
	}
	if from.labels.Node != "" && !c.here(&from) && c.here(&to) {
		f.LabelFlags |= flow.FlagMirror
	}
	f.SrcLabels, f.DstLabels = &from.labels, &to.labels
	f.Class, f.Unlabelled = c.class(&from, &to)
}

// here tells whether an end is on the agent's node.
func (c *Cluster) here(p *party) bool {
	return c.cfg.Node != "" && p.labels.Node == c.cfg.Node && p.labels.Cluster == c.cfg.Cluster
}

// ends are the sender and the receiver, and the service by which the responder is reached: the sender,
// when the flow goes backwards.
func (c *Cluster) ends(f *Flow, near, far flow.NAT, backwards bool) (from, to party, service string,
	flags flow.LabelFlags) {
	if backwards {
		from, to = c.end(f, far.Src, far.SrcPort), c.end(f, near.Dst, near.DstPort)
		service, flags = c.serviceOf(f, netip.AddrPortFrom(far.Src, far.SrcPort),
			netip.AddrPortFrom(near.Src, near.SrcPort), &from)
		return from, to, service, flags
	}
	from, to = c.end(f, near.Src, near.SrcPort), c.end(f, far.Dst, far.DstPort)
	service, flags = c.serviceOf(f, netip.AddrPortFrom(far.Dst, far.DstPort),
		netip.AddrPortFrom(near.Dst, near.DstPort), &to)
	return from, to, service, flags
}

// party is who is at an end.
type party struct {
	labels    flow.Labels
	rng       *ownRange
	known     bool // the cluster knows it
	contested bool // several claim the address
}

func (c *Cluster) end(f *Flow, a netip.Addr, port uint16) party {
	var p party
	ever := false
	for _, one := range c.cfg.Clusters {
		who, past := c.owner(f, a, one.Name)
		if who.known {
			return c.apart(f, who, a, port)
		}
		ever = ever || past
	}
	if ever {
		p.labels.Kind = flow.KindUnknown
		return p
	}
	for i := range c.ranges {
		r := &c.ranges[i]
		if !r.prefix.Contains(a) {
			continue
		}
		p.rng = r
		p.labels = flow.Labels{Kind: flow.KindRange, Cloud: r.Cloud, Region: r.Region, Zone: r.Zone, Name: r.Name}
		if r.provided {
			p.labels.Kind, p.labels.CloudService = flow.KindCloud, r.cloudService
		}
		return p
	}
	p.labels.Kind = flow.KindInternet
	if unrouted(a) {
		p.labels.Kind = flow.KindPrivate
	}
	return p
}

// Hold tells of sockets, as the agent's feature learns them.
func (c *Cluster) Hold(s Socket) { c.sockets = append(c.sockets, s) }

// apart is the pod that has its node's address and holds the socket there, if there is one on the agent's node;
// else who was found by the address.
func (c *Cluster) apart(f *Flow, who party, a netip.Addr, port uint16) party {
	if !c.here(&who) {
		return who
	}
	var last *Socket
	for i := range c.sockets {
		s := &c.sockets[i]
		if s.Protocol == cmp.Or(f.Cites, f.Protocol) && s.Port == port && slices.Contains(s.Addrs, a) && s.From <= f.End {
			last = s
		}
	}
	for i := range c.hosted {
		h := &c.hosted[i]
		if last != nil && h.uid != "" && h.told <= f.Written &&
			strings.Contains(strings.ReplaceAll(last.Group, "_", "-"), "pod"+h.uid) {
			who.labels = h.labels
		}
	}
	return who
}

// owner is who has an address in a cluster at the time of a flow; or it tells that somebody has it at
// another time.
func (c *Cluster) owner(f *Flow, a netip.Addr, cluster string) (who party, ever bool) {
	var best, last *holder
	open := 0
	for i := range c.holders {
		h := &c.holders[i]
		if h.labels.Cluster != cluster || h.told > f.Written || !slices.Contains(h.addrs, a) {
			continue
		}
		ever = true
		over := h.to != 0 && h.to <= f.Written // it is known to be gone
		switch {
		case h.from > f.End:
		case over && h.to <= f.End:
			if h.to > f.Start && (last == nil || h.to > last.to) {
				last = h
			}
		default:
			if !over {
				open++
			}
			if best == nil || cmp.Or(cmp.Compare(h.from, best.from), cmp.Compare(h.name, best.name)) > 0 {
				best = h
			}
		}
	}
	if best = cmp.Or(best, last); best == nil {
		return party{}, ever
	}
	return party{labels: best.labels, known: true, contested: open > 1}, true
}

// serviceOf finds the service of a responder: that of the address by which it is addressed, or the one
// that it serves.
func (c *Cluster) serviceOf(f *Flow, at, addressed netip.AddrPort, who *party) (string, flow.LabelFlags) {
	protocol := cmp.Or(f.Cites, f.Protocol)
	for _, one := range c.cfg.Clusters {
		if s := c.fronting(f, protocol, addressed, one.Name); s != "" {
			standIn(one.Name, s, who)
			return s, 0
		}
		if s, flags := c.served(protocol, at, one.Name); s != "" {
			return s, flags
		}
	}
	return "", 0
}

// served is the service of a cluster that a responder serves.
func (c *Cluster) served(protocol uint8, at netip.AddrPort, cluster string) (string, flow.LabelFlags) {
	var balanced, headless []string
	for _, b := range c.backends {
		if b.cluster != cluster || b.at != at || b.protocol != protocol {
			continue
		}
		to := &balanced
		if b.headless {
			to = &headless
		}
		if !slices.Contains(*to, b.service) {
			*to = append(*to, b.service)
		}
	}
	if len(balanced) == 0 {
		balanced = headless
	}
	switch len(balanced) {
	case 0:
		return "", 0
	case 1:
		return balanced[0], flow.FlagServiceInferred
	}
	return slices.Min(balanced), flow.FlagServiceInferred | flow.FlagServiceAmbiguous
}

// fronting is the service at an address: by its port; at an address of services only, the first one.
func (c *Cluster) fronting(f *Flow, protocol uint8, at netip.AddrPort, cluster string) string {
	who, _ := c.owner(f, at.Addr(), cluster)
	first, ofNode := "", who.labels.Kind == flow.KindNode
	for _, s := range c.services {
		if s.cluster != cluster {
			continue
		}
		exact := s.protocol == protocol && s.port == at.Port()
		switch {
		case s.addr == at.Addr() && exact:
			return s.service
		case s.addr == at.Addr():
			first = cmp.Or(first, s.service)
		}
	}
	if first != "" || !ofNode {
		return first
	}
	for _, s := range c.services {
		if s.cluster == cluster && !s.addr.IsValid() && s.protocol == protocol && s.port == at.Port() {
			return s.service
		}
	}
	return ""
}

// standIn lets a service stand for the backend that was not seen.
func standIn(cluster, service string, who *party) {
	if who.known {
		return
	}
	namespace, name, _ := strings.Cut(service, "/")
	*who = party{known: true, labels: flow.Labels{Kind: flow.KindService, Cluster: cluster,
		Namespace: namespace, Service: name}}
}
