package spec

import (
	"time"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf/relic"
)

// Bounds on the rest of the file.
const (
	maxSummary = 300 // characters
	maxTags    = 16
	maxTable   = 1 << 22 // entries
	maxPorts   = 256     // interfaces the agent watches
	maxSample  = 1<<32 - 1
)

// rawScenario is the file before its names are looked up.
type rawScenario struct {
	summary  string
	tags     []string
	requires []string
	matrix   []axis
	topology rawTopology
	agent    rawAgent
	cluster  placed[*Cluster]
	oracle   placed[string]
	steps    []*rawStep
	expect   Expect
}

// rawAgent is the agent's part of the file.
type rawAgent struct {
	on      []placed[Port]
	zones   []rawZone
	agent   Agent
	program rawProgram
}

var scenarioObject = object[rawScenario]{
	what: "a scenario",
	doc:  "A weir scenario: a network, an agent that watches it, and the traffic it sees.",
	fields: []field[rawScenario]{
		put("summary", "What the scenario shows, in one sentence.", str("a sentence", maxSummary),
			func(s *rawScenario, v string) { s.summary = v }).must(),
		put("tags", "Words to select scenarios by.", listOf("tags", tagValue, 0, maxTags),
			func(s *rawScenario, v []string) { s.tags = v }),
		put("requires", "What the kernel must have beside what topology and agent need: "+
			"{features: [tcx], modules: [vxlan]}.", requiresObject.value(),
			func(s *rawScenario, v []string) { s.requires = v }),
		put("matrix", "Runs the scenario once for each combination of these values: "+
			"{family: [ipv4, ipv6], hook: [tcx, tc]}.", matrixValue,
			func(s *rawScenario, v []axis) { s.matrix = v }),
		put("topology", "The network: hosts by name, and the links between them.",
			keepPlace(topologyObject.value()),
			func(s *rawScenario, v placed[rawTopology]) {
				s.topology, s.topology.at = v.v, v.at
			}).must(),
		put("agent", "The agent: where it watches, and its settings.", agentValue,
			func(s *rawScenario, v rawAgent) { s.agent = v }).must(),
		put("cluster", "Who owns addresses, and when, as the agent is told.",
			keepPlace(clusterObject.value()),
			func(s *rawScenario, v placed[Cluster]) { s.cluster = placed[*Cluster]{&v.v, v.at} }),
		put("oracle", "What else must agree with the agent at the end: the kernel's own connection tracking, of "+
			"the router that the agent watches.", keepPlace(choice(OracleConntrack)),
			func(s *rawScenario, v placed[string]) { s.oracle = v }),
		put("traffic", "What happens, step by step.", listOf("steps", stepValue, 1, MaxSteps),
			func(s *rawScenario, v []*rawStep) { s.steps = v }).must(),
		put("expect", "Expectations beside the golden file.", expectObject.value(),
			func(s *rawScenario, v Expect) { s.expect = v }),
	},
}

var tagValue = match("a tag", "ipv6", `^[a-z0-9][a-z0-9-]{0,31}$`,
	func(s string) (string, error) { return s, nil })

// lifetimeNames are the states of connections whose lifetime can be set (bpf/README.md,
// section 5).
var lifetimeNames = []string{"syn-sent", "syn-received", "established", "closing", "last-ack",
	"closed", "reset", "unreplied", "replied"}

// tunnelKinds are the tunnels that the agent can open (bpf/README.md, section 3).
var tunnelKinds = []string{"vxlan", "geneve", "gre", "ipip"}

// agentValue is the agent's part with its defaults.
var agentValue = value[rawAgent]{schema: agentObject.schema(),
	read: func(l *list, n *node) (rawAgent, bool) {
		a := rawAgent{agent: Agent{MidStream: true, Sample: 1}}
		before := len(l.errs)
		agentObject.read(l, n, &a)
		return a, len(l.errs) == before
	}}

var agentObject = object[rawAgent]{
	what: "the agent",
	fields: append([]field[rawAgent]{
		put("on", "Interfaces whose two directions are watched.",
			listOf("interfaces", keepPlace(portValue), 1, maxPorts),
			func(a *rawAgent, v []placed[Port]) { a.on = v }).must(),
		put("zones", "Zones of watched interfaces, which keep networks apart whose addresses overlap; 0 by default.",
			zonesObject.value(), func(a *rawAgent, v []rawZone) { a.zones = v }),
		put("table", "Size of each connection table in entries.", number[int](1, maxTable),
			func(a *rawAgent, v int) { a.agent.Table = v }),
		put("table_full", "What happens to packets that find no room; reject by default.",
			choice("reject", "overflow", "evict"),
			func(a *rawAgent, v string) { a.agent.TableFull = v }),
		put("hook", "How to attach; the best the kernel has by default.", choice("tcx", "tc", "netkit"),
			func(a *rawAgent, v string) { a.agent.Hook = v }),
		put("sweep", "How the agent goes through its tables; the best the kernel has by default.",
			choice("iter", "batch"), func(a *rawAgent, v string) { a.agent.Sweep = v }),
		put("mid_stream", "Whether TCP and SCTP connections are picked up after their beginning; "+
			"true by default.", boolean(),
			func(a *rawAgent, v bool) { a.agent.MidStream = v }),
		put("tunnels", "Kinds of tunnels that are opened; none by default.",
			listOf("tunnels", choice(tunnelKinds...), 0, len(tunnelKinds)),
			func(a *rawAgent, v []string) { a.agent.Tunnels = v }),
		put("sample", "Counts 1 in so many connections; 1 by default.", number[uint32](1, maxSample),
			func(a *rawAgent, v uint32) { a.agent.Sample = v }),
		put("filters", "Which packets are counted, as in the agent's own file; all by default.",
			filtersObject.value(), func(a *rawAgent, v agent.Filters) { a.agent.Filters = v }),
		put("features", "Optional features that are on; none by default.",
			listOf("features", choice(agent.Features()...), 0, len(agent.Features())),
			func(a *rawAgent, v []string) { a.agent.Features = v }),
		put("dns", "What the feature dns takes for DNS.", dnsObject.value(),
			func(a *rawAgent, v agent.DNS) { a.agent.DNS = v }),
		put("layout", "Begins with what a killed agent has left whose pinned maps had that layout; no agent "+
			"runs until a step starts one.", number[int](relic.Layout, relic.Layout),
			func(a *rawAgent, v int) { a.agent.Layout = v }),
		put("lifetimes", "How long connections live without a packet, by state.",
			keyed("the lifetimes", lifetimeNames, duration(maxAdvance)),
			func(a *rawAgent, v map[string]time.Duration) { a.agent.Lifetimes = v }),
	}, programFields...),
}

var dnsObject = object[agent.DNS]{
	what: "what DNS is",
	fields: []field[agent.DNS]{
		put("ports", "Ports of DNS servers; 53 by default.",
			listOf("ports", number[uint16](1, 65535), 1, 65535),
			func(d *agent.DNS, v []uint16) { d.Ports = v }),
		put("timeout", "How long a response is waited for; 10s by default.", duration(maxAdvance),
			func(d *agent.DNS, v time.Duration) { d.Timeout = v }),
	},
}

// lossReasons are the reasons for which a packet is lost (bpf/README.md, section 2).
var lossReasons = []string{"ethernet-header", "vlan-depth", "not-ip", "ipv4-header",
	"ipv4-length", "ipv6-header", "ipv6-length", "ipv6-extension", "fragment", "tcp-header",
	"udp-header", "sctp-header", "icmp-header", "icmp-cited", "mid-stream", "table-full",
	"ring-full", "no-hook"}

// leftOutReasons are the reasons for which a packet is left out (bpf/README.md, section 2).
var leftOutReasons = []string{"filter", "sampling"}

// counterNames are the counters that a scenario can expect.
func counterNames() []string {
	names := []string{"seen", "accounted", "observed"}
	for _, r := range leftOutReasons {
		names = append(names, "left_out."+r)
	}
	for _, r := range lossReasons {
		names = append(names, "lost."+r)
	}
	return names
}

// freeFields are the values of flows and connections that a scenario can leave open: the names
// that sim/golden knows.
var freeFields = []string{"packets", "bytes", "flags", "end", "state", "left", "src_port",
	"dst_port", "client_port", "server_port"}

var expectObject = object[Expect]{
	what: "the expectations",
	fields: []field[Expect]{
		put("counters", "Counters that must hold at the end, in packets over all hooks.",
			keyed("the counters", counterNames(), number[uint64](0, 1<<53)),
			func(e *Expect, v map[string]uint64) { e.Counters = v }),
		put("uncounted", "Packets that the oracle leaves uncounted by design; 0 by default.", keepPlace(number[uint64](1, 1<<53)),
			func(e *Expect, v placed[uint64]) { e.Uncounted, e.uncountedAt = v.v, v.at }),
		put("free", "Fields whose values real sockets decide; golden files have * there.",
			listOf("fields", choice(freeFields...), 0, len(freeFields)),
			func(e *Expect, v []string) { e.Free = v }),
		exceptionsField("fails", "Kernel lines on which the scenario is known to fail. One on which it does not is red.",
			func(e *Expect, _ *node) *[]Exception { return &e.Fails }),
		exceptionsField("golden", "Kernel lines that have a golden file of their own. One that the golden file of all fits is red.",
			func(e *Expect, n *node) *[]Exception {
				e.goldenAt = n
				return &e.Golden
			}),
		put("tolerate", "By how much fields may differ from the golden file, and why.",
			listOf("tolerances", toleranceObject.value(), 1, len(tolerable)),
			func(e *Expect, v []placed[Tolerance]) {
				e.tolerancesAt = v
				for _, t := range v {
					e.Tolerate = append(e.Tolerate, t.v)
				}
			}),
		put("known", "What another program is known to get wrong. A scenario in which it does not is red.",
			keepPlace(listOf("differences", knownObject.value(), 0, maxKnown)),
			func(e *Expect, v placed[[]Known]) { e.Known, e.knownAt = v.v, v.at }),
	},
}
