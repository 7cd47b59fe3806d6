package spec

import (
	"fmt"
	"regexp"
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
	// Ranges are the user's.
	Ranges []agent.OwnRange
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
	fields: []field[Cluster]{
		put("node", "The node on which the agent runs.", match("a node", "n1", `^`+objectName+`$`, same),
			func(c *Cluster, v string) { c.Node = v }),
		put("cloud", "The cloud of nodes that do not tell theirs.", choice("aws", "gcp", "azure"),
			func(c *Cluster, v string) { c.Cloud = v }),
		put("region", "The region of nodes that do not tell theirs.", phrase("a region"),
			func(c *Cluster, v string) { c.Region = v }),
		put("wait", "How long reports of young connections wait for an owner that is told of late.",
			duration(maxAdvance), func(c *Cluster, v time.Duration) { c.Wait = v }),
		put("nodes", "Machines by name.", objects("the nodes", objectName, "its keys are names like n1", clusterNode,
			func(name string, n static.Node) error {
				return plan(&static.File{Nodes: map[string]static.Node{name: n}})
			}), func(c *Cluster, v map[string]static.Node) { c.Objects.Nodes = v }),
		put("pods", "Pods by namespace/name.", objects("the pods", namespacedName, namespaced, clusterPod,
			func(name string, p static.Pod) error {
				return plan(&static.File{Pods: map[string]static.Pod{name: p}})
			}), func(c *Cluster, v map[string]static.Pod) { c.Objects.Pods = v }),
		put("services", "Services by namespace/name.", objects("the services", namespacedName, namespaced,
			clusterService, func(name string, s static.Service) error {
				return plan(&static.File{Services: map[string]static.Service{name: s}})
			}), func(c *Cluster, v map[string]static.Service) { c.Objects.Services = v }),
		put("ranges", "Address ranges of the user's.", listOf("ranges", rangeValue, 0, maxEntries),
			func(c *Cluster, v []agent.OwnRange) { c.Ranges = v }),
	},
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
