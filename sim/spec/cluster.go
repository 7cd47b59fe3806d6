package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/static"
)

// Bounds on the cluster.
const (
	maxObjects = 256 // of each kind
	maxEntries = 64  // of one list
	maxWord    = 253 // characters, as Kubernetes has it
)

// Cluster is what the agent is told of who owns addresses. Times count from the scenario's beginning.
type Cluster struct {
	// Node is the node on which the agent runs; empty: none.
	Node string
	// Cloud and Region are for nodes that do not tell theirs.
	Cloud, Region string
	// Wait is how long reports of young connections wait for owners; 0: the agent's default.
	Wait time.Duration
	// Objects are told by a file of the agent's.
	Objects static.File
	// Others are further clusters, by name.
	Others map[string]static.File
	// Ranges are the user's, Provided those of providers, which are told by files in their formats.
	Ranges   []agent.OwnRange
	Provided []Provided
}

// ClusterName is the name of the scenario's cluster, beside which there may be others.
const ClusterName = "cluster"

// Provided is a range of a provider's. Google's have no service and no region.
type Provided struct {
	Provider              labeler.Provider
	CIDR, Service, Region string
}

// Names in the cluster.
const (
	objectName     = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	namespacedName = objectName + `/` + objectName
	namespaced     = "its keys are namespace/name, like shop/web"
)

var clusterObject = object[Cluster]{
	what: "the cluster",
	doc:  "Who owns addresses, and when, as the agent is told; flows have labels then.",
	fields: slices.Concat([]field[Cluster]{
		put("node", "The node on which the agent runs.", match("a node", "n1", `^`+objectName+`$`, same),
			func(c *Cluster, v string) { c.Node = v }),
		put("cloud", "The cloud of nodes that do not tell theirs.", choice("aws", "gcp", "azure"),
			func(c *Cluster, v string) { c.Cloud = v }),
		put("region", "The region of nodes that do not tell theirs.", phrase("a region"),
			func(c *Cluster, v string) { c.Region = v }),
		put("wait", "How long reports of young connections wait for an owner that is told of late.",
			duration(maxAdvance), func(c *Cluster, v time.Duration) { c.Wait = v }),
	}, objectFields(func(c *Cluster) *static.File { return &c.Objects }), []field[Cluster]{
		put("others", "Further clusters by name, which are asked after this one.", objects("the other clusters", objectName,
			"its keys are names like green", otherCluster, func(name string, f static.File) error {
				if name == ClusterName {
					return fmt.Errorf("%s: this is the first cluster's name; take another one", name)
				}
				return nil
			}), func(c *Cluster, v map[string]static.File) { c.Others = v }),
		put("ranges", "Address ranges of the user's.", listOf("ranges", rangeValue, 0, maxEntries),
			func(c *Cluster, v []agent.OwnRange) { c.Ranges = v }),
		put("provided", "Address ranges of cloud providers.", listOf("ranges", providedValue, 0, maxEntries),
			func(c *Cluster, v []Provided) { c.Provided = v }),
	}),
}

var otherCluster = object[static.File]{
	what: "another cluster", fields: objectFields(func(f *static.File) *static.File { return f }),
}

// objectFields are those of a cluster's objects.
func objectFields[T any](file func(*T) *static.File) []field[T] {
	return []field[T]{
		put("nodes", "Machines by name.", objects("the nodes", objectName, "its keys are names like n1", clusterNode,
			func(name string, n static.Node) error {
				return plan(&static.File{Nodes: map[string]static.Node{name: n}})
			}), func(c *T, v map[string]static.Node) { file(c).Nodes = v }),
		put("pods", "Pods by namespace/name.", objects("the pods", namespacedName, namespaced, clusterPod,
			func(name string, p static.Pod) error {
				return plan(&static.File{Pods: map[string]static.Pod{name: p}})
			}), func(c *T, v map[string]static.Pod) { file(c).Pods = v }),
		put("services", "Services by namespace/name.", objects("the services", namespacedName, namespaced,
			clusterService, func(name string, s static.Service) error {
				return plan(&static.File{Services: map[string]static.Service{name: s}})
			}), func(c *T, v map[string]static.Service) { file(c).Services = v }),
	}
}

func same(s string) (string, error) { return s, nil }

func phrase(what string) value[string] { return str(what, maxWord) }

// plan checks objects as the agent does.
func plan(f *static.File) error {
	_, err := f.Plan(0)
	return err
}

// objects are of one kind, by name.
func objects[V any](what, name, doc string, one object[V],
	check func(string, V) error) value[map[string]V] {
	return object[map[string]V]{what: what, rest: &rest[map[string]V]{
		pattern: regexp.MustCompile(`^` + name + `$`), doc: doc, most: maxObjects, schema: one.schema(),
		read: func(l *list, key, n *node, into *map[string]V) {
			v, ok := one.value().read(l, n)
			if !ok {
				return
			}
			if err := check(key.text, v); err != nil {
				n.refuse(l, key.text, err)
			}
			if *into == nil {
				*into = map[string]V{}
			}
			(*into)[key.text] = v
		},
	}}.value()
}

// refuse notes what the agent says of an object, "pods.shop/web.addresses[0]: ...", at the field.
func (n *node) refuse(l *list, name string, err error) {
	_, said, _ := strings.Cut(err.Error(), name)
	field, msg, ok := strings.Cut(strings.TrimPrefix(said, "."), ": ")
	if !ok {
		msg = strings.TrimPrefix(said, ": ")
	}
	at := n
	for _, p := range n.pairs {
		if key, _, _ := strings.Cut(field, "["); p.key.text == key {
			at = p.value
		}
	}
	msg, hint, _ := strings.Cut(msg, "; ")
	l.add(at, msg, hint)
}

// written is text that the agent judges; the pattern holds for whatever it takes.
func written(what, example, pattern string) value[string] { return match(what, example, pattern, same) }

func many(what string, one value[string]) value[[]string] { return listOf(what, one, 0, maxEntries) }

var (
	clusterAddresses = many("addresses", written("an address", "10.0.0.1", `^`+addressPattern+`$`))
	clusterPorts     = many("ports", written("a port", "80/tcp", `^[0-9]+(:[0-9]+)?/(tcp|udp|sctp)$`))
	clusterBackends  = many("backends", written("a backend", "10.0.0.1:8080/tcp", `^[^ ]+:[0-9]+/(tcp|udp|sctp)$`))
	workload         = written("a workload", "Deployment/web", `^[^/]+/.+$`)
)

var clusterNode = object[static.Node]{
	what: "a node",
	fields: []field[static.Node]{
		put("addresses", "Its addresses in the cluster.", clusterAddresses,
			func(n *static.Node, v []string) { n.Addresses = v }),
		put("external", "Further addresses.", clusterAddresses,
			func(n *static.Node, v []string) { n.External = v }),
		put("zone", "Its zone.", phrase("a zone"), func(n *static.Node, v string) { n.Zone = v }),
		put("region", "Its region.", phrase("a region"), func(n *static.Node, v string) { n.Region = v }),
		put("cloud", "Its cloud.", choice("aws", "gcp", "azure"),
			func(n *static.Node, v string) { n.Cloud = v }),
	},
}

var clusterPod = object[static.Pod]{
	what: "a pod",
	fields: []field[static.Pod]{
		put("node", "The node that it is on.", phrase("a node"), func(p *static.Pod, v string) { p.Node = v }),
		put("addresses", "Its addresses.", clusterAddresses,
			func(p *static.Pod, v []string) { p.Addresses = v }),
		put("host_network", "Whether it has its node's addresses.", boolean(),
			func(p *static.Pod, v bool) { p.HostNetwork = v }),
		put("uid", "What its control groups are called by, which tell it from the node.",
			written("a UID", "0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11", `^[0-9a-f-]{32,36}$`),
			func(p *static.Pod, v string) { p.UID = v }),
		put("workload", "What made it: Deployment/web.", workload,
			func(p *static.Pod, v string) { p.Workload = v }),
		put("app", "Its app label.", phrase("an app"), func(p *static.Pod, v string) { p.App = v }),
		put("instance", "Its instance label.", phrase("an instance"),
			func(p *static.Pod, v string) { p.Instance = v }),
		moment("from", "Since when it has its addresses; always by default.",
			func(p *static.Pod) *static.Time { return &p.From }),
		moment("told", "When that becomes known; at once by default.",
			func(p *static.Pod) *static.Time { return &p.Told }),
		moment("to", "When it is gone.", func(p *static.Pod) *static.Time { return &p.To }),
	},
}

// moment makes a field of a time since the beginning.
func moment(name, doc string, to func(*static.Pod) *static.Time) field[static.Pod] {
	return put(name, doc, duration(maxAdvance), func(p *static.Pod, v time.Duration) {
		*to(p) = static.Time(v.String())
	})
}

var clusterService = object[static.Service]{
	what: "a service",
	fields: []field[static.Service]{
		put("addresses", "Cluster, external and load balancers' addresses.", clusterAddresses,
			func(s *static.Service, v []string) { s.Addresses = v }),
		put("ports", "80/tcp, or 80:30080/tcp with its port on every node.", clusterPorts,
			func(s *static.Service, v []string) { s.Ports = v }),
		put("backends", "Who serves it: 10.0.0.1:8080/tcp.", clusterBackends,
			func(s *static.Service, v []string) { s.Backends = v }),
	},
}

// classNames are those of the agent, as configurations write them.
func classNames() (all []string) {
	for _, c := range labeler.Classes() {
		all = append(all, strings.ToLower(c.String()))
	}
	return all
}

var rangeObject = object[agent.OwnRange]{
	what: "a range",
	fields: []field[agent.OwnRange]{
		put("cidr", "Its prefix.", match("a prefix", "10.0.0.0/8", `^`+addressPattern+`/[0-9]{1,3}$`, same),
			func(r *agent.OwnRange, v string) { r.CIDR = v }).must(),
		put("name", "Its name.", phrase("a name"), func(r *agent.OwnRange, v string) { r.Name = v }).must(),
		put("zone", "Its zone.", phrase("a zone"), func(r *agent.OwnRange, v string) { r.Zone = v }),
		put("region", "Its region.", phrase("a region"), func(r *agent.OwnRange, v string) { r.Region = v }),
		put("cloud", "Its cloud.", choice("aws", "gcp", "azure"),
			func(r *agent.OwnRange, v string) { r.Cloud = v }),
		put("class", "What lies between it and anyone; from where it is by default.",
			choice(classNames()...), func(r *agent.OwnRange, v string) { r.Class = v }),
	},
}

// rangeValue is a range that the agent takes.
var rangeValue = value[agent.OwnRange]{schema: rangeObject.schema(),
	read: func(l *list, n *node) (agent.OwnRange, bool) {
		r, ok := rangeObject.value().read(l, n)
		if !ok {
			return r, false
		}
		if err := r.Check(); err != nil {
			l.add(n, fmt.Sprintf("%q is no prefix", r.CIDR), "write it like 10.0.0.0/8")
			return r, false
		}
		return r, true
	}}

var providedObject = object[Provided]{
	what: "a provider's range",
	fields: []field[Provided]{
		put("provider", "Whose it is: aws, gcp and google, whose own addresses are not its cloud's, and azure.",
			choice("aws", "gcp", "google", "azure"),
			func(p *Provided, v string) { p.Provider = labeler.Provider(v) }).must(),
		put("cidr", "Its prefix.", match("a prefix", "10.0.0.0/8", `^`+addressPattern+`/[0-9]{1,3}$`, same),
			func(p *Provided, v string) { p.CIDR = v }).must(),
		put("service", "Its service, as the provider spells it.", phrase("a service"),
			func(p *Provided, v string) { p.Service = v }),
		put("region", "Its region.", phrase("a region"), func(p *Provided, v string) { p.Region = v }),
	},
}

// providedValue is a range that can stand in a provider's file.
var providedValue = value[Provided]{schema: providedObject.schema(),
	read: func(l *list, n *node) (Provided, bool) {
		p, ok := providedObject.value().read(l, n)
		if !ok {
			return p, false
		}
		if _, err := netip.ParsePrefix(p.CIDR); err != nil {
			l.add(n, fmt.Sprintf("%q is no prefix", p.CIDR), "write it like 10.0.0.0/8")
			return p, false
		}
		if p.Provider == labeler.ProviderGoogle && p.Service+p.Region != "" {
			l.add(n, "ranges of google have no service and no region", "those of its cloud are gcp's")
			return p, false
		}
		return p, true
	}}
