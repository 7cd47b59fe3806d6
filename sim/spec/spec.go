// Package spec reads scenario files: YAML in, a checked Scenario out, errors with their place.
package spec

import (
	"net/netip"
	"time"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/flow"
)

// Scenario is one scenario file, checked and with everything derivable filled in.
type Scenario struct {
	Name    string // path below scenarios/, without .yaml
	Summary string
	Tags    []string
	// Requires is what the kernel must have, by the names of sim/require, sorted: what the file
	// says and what follows from topology and agent.
	Requires []string
	Topology Topology
	Agent    Agent
	Cluster  *Cluster // nil: the agent knows nothing of addresses
	Oracle   string   // OracleConntrack: what else must agree with the agent; "": nothing
	Steps    []Step   // "traffic" in the file
	Expect   Expect
}

// Topology is the network: hosts (each its own network namespace) and what joins them.
type Topology struct {
	Hosts   []Host // in file order; their order fixes MACs and ifindexes
	Bridges []Bridge
	Links   []Link // in file order
}

// Host is a host, or a router when Forward is set.
type Host struct {
	Name string
	// Forward makes the kernel forward packets of both families (a router).
	Forward bool
	// Stack tells whether the kernel's IP stack answers on this host. It is derived: on for
	// routers, for hosts in steps with real sockets and where the file says `stack: kernel`;
	// off elsewhere, so that the kernel sends nothing (no RST to scripted packets) of its own.
	Stack      bool
	Interfaces []Interface
	// Island numbers what links join the host with; derived. Hosts of different islands can have the same
	// addresses.
	Island int `json:",omitempty"`
	// Tracked makes the kernel track connections, for the scenario's oracle; derived.
	Tracked bool
	// NAT are the address translations of a router, by the kernel's connection tracking.
	NAT []NAT
	// Routes are those of the file; where it has none, derived: to everything through the only
	// router on a host's links, and between routers on the shortest way.
	Routes []Route
	// Sysctls are set in file order once the interfaces are there.
	Sysctls []Sysctl
	// Neighbours are derived: every address that the host reaches without a router. Nobody
	// has to ask for a link address on the wire.
	Neighbours []Neighbour
}

// Sysctl is a kernel setting of a namespace: net.ipv4.conf.eth0.rp_filter.
type Sysctl struct{ Name, Value string }

// Neighbour is the link address of an address that an interface reaches directly.
type Neighbour struct {
	Interface string
	Addr      netip.Addr
	MAC       [6]byte
}

// Interface is one end of a link, or what Kind says.
type Interface struct {
	Name      string
	Kind      Kind
	Index     int     // ifindex; unique over the whole scenario unless the file fixes others
	MAC       [6]byte // derived from host and interface number when the file has none
	MTU       int     // bytes; 1500 when the file has none
	Addresses []netip.Prefix
	// Parent and VLAN are set for a VLAN interface ("eth0.7"): 802.1Q, ids 1 to 4094.
	Parent string
	VLAN   uint16
	// Service makes it 802.1ad: another VLAN interface stands on it ("eth0.7.9").
	Service bool
	On      Port     // what a macvlan or ipvlan stands on
	Tunnel  *Tunnel  // of tunnels alone
	Bond    *Bonding // of bonds alone
	Master  string   // the bond that it is a member of
}

// Bridge is a Linux bridge inside a host; its ports are interfaces of that host.
type Bridge struct {
	Host  string
	Name  string // an interface of that name exists in the host as well
	Index int
	MAC   [6]byte
	Ports []string
}

// Route is a static route.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Link is a veth pair, or two tuns that hand their packets to each other.
type Link struct {
	A, B Port
	// Wire makes the packets go through the runner, which can lose them and the like; derived.
	Wire bool
}

// Port names an interface of a host: "server/eth0".
type Port struct{ Host, Interface string }

// String is the form in files: host/interface.
func (p Port) String() string { return p.Host + "/" + p.Interface }

// Agent is the agent's part of the scenario.
type Agent struct {
	On []Port // both directions of each are watched
	// Zones are the zones of watched interfaces, where not 0.
	Zones []Zone
	// Table is the connection table's size in entries (each family); 0 means the default.
	Table int
	// TableFull is the policy: "reject", "overflow" or "evict".
	TableFull string
	// Hook forces how to attach: "" (best), "tcx", "tc" or "netkit".
	Hook string
	// Sweep forces how the agent goes through its tables: "" (best), "iter" or "batch".
	Sweep string
	// MidStream says whether TCP and SCTP connections are picked up after their beginning; true
	// when the file does not say.
	MidStream bool
	// Tunnels are the kinds that are opened: vxlan, geneve, gre, ipip.
	Tunnels []string
	// Sample counts 1 in so many connections; 1, and so all, when the file does not say.
	Sample uint32
	// Filters say which packets are counted. The agent takes them: they compile.
	Filters agent.Filters
	// Layout is that of the maps that a killed agent has left, with which the scenario begins; 0:
	// it begins with an agent that runs.
	Layout int
	// Lifetimes overrides the defaults, by state name.
	Lifetimes map[string]time.Duration
	// Features are the agent's optional features that are on; none when the file does not say.
	Features []string
	// DNS is of the feature dns; the zero value stands for the agent's defaults.
	DNS agent.DNS
	// Process runs the agent as a process of its own instead of inside the runner; derived,
	// on when a step kills, pauses or resizes it, or Layout is set.
	Process bool
	// Limited puts that process into a control group, so that its memory can be bounded; derived.
	Limited bool
	// Program takes the agent's place; nil: weir's own agent watches.
	Program *Program
}

// Zone puts the connections of an interface apart from those of others.
type Zone struct {
	On     Port
	Number uint16 // 1 and more
}

// Zone is the zone of a watched interface.
func (a *Agent) Zone(p Port) uint16 {
	for _, z := range a.Zones {
		if z.On == p {
			return z.Number
		}
	}
	return 0
}

// Step is one step of the traffic. Exactly one field is set, and what belongs to it;
// Line is its place in the file.
type Step struct {
	Line    int
	Text    string `json:",omitempty"` // of a step that a mix has drawn: as a file would have it
	Packet  *Packet
	TCP     *TCP
	UDP     *UDP
	Ping    *Ping
	Burst   *Burst
	Socket  *Socket
	Replay  *Replay
	Advance time.Duration
	Agent   string // stop, kill, start, pause, continue, resize, limit: what happens to the agent
	Refused bool   // with Agent "resize": it is too small for what the agent holds
	Table   int    // with Agent "start" or "resize": the tables' size from then on; 0: as it was
	Memory  uint64 // with Agent "limit": what the agent may have, in bytes
	Killed  bool   // with Agent "limit": it has more, and the kernel kills it
	Link    *LinkChange
	Host    *HostChange
	Impair  *Impair
}

// Endpoint is an address and port, by the host that has it. Addr may also be an address no
// host has (Host is "" then).
type Endpoint struct {
	Host string
	Addr netip.Addr
	Port uint16
}

// Packet is one frame, built layer by layer; what is not given is derived from From and To:
// MACs (also those of the first router on the way), lengths, checksums.
type Packet struct {
	From, To Endpoint
	// Layers are in order from the outside, each with its fields as given in the file, e.g.
	// {vlan: {id: 7}}, {ipv4: {ttl: 1, options: "..."}}, {udp: {...}}, {payload: 100}.
	Layers []Layer
	Count  int // how often it is sent; at least 1
	// Fragments sends it in pieces; nil: whole.
	Fragments *Fragments
}

// Fragments are the pieces of a packet, cut behind its first IP header.
type Fragments struct {
	Size  int   // bytes of each piece but the last behind the IP headers; a multiple of 8
	Order []int // which are sent and when, by number from 1; nil: all, in order
}

// Layer is one layer of a packet.
type Layer struct {
	Kind   string // ethernet, vlan, ipv4, udp, payload and so on: those of the reference
	Fields map[string]any
	Line   int
}

// TCP is a scripted TCP conversation. Sequence and acknowledgement numbers are kept by the
// script's engine; each line may override them relative to the ISN.
type TCP struct {
	Client, Server       Endpoint
	ClientISN, ServerISN uint32 // derived from the endpoints when the file has none
	VLANs                []uint16
	Script               []Segment
	// Translated is what the server sees when addresses are translated on the way; else nil.
	Translated *Pair
}

// Segment is one line of a TCP script: `> PSH,ACK 120 seq=1 ack=1`.
type Segment struct {
	Line       int
	FromServer bool // "<"
	Flags      flow.TCPFlags
	Payload    int     // bytes
	Seq, Ack   *uint32 // relative to the sender's / the receiver's ISN; nil: what the engine keeps
	Repeat     int     // "x3": how often it is sent; at least 1
}

// UDP is a scripted UDP exchange.
type UDP struct {
	Client, Server Endpoint
	VLANs          []uint16
	Script         []Datagram
	Translated     *Pair // as for TCP
}

// Datagram is one line of a UDP script: `> 100`, `< 0`, `< unreachable port`.
type Datagram struct {
	Line       int
	FromServer bool
	Payload    int
	// Unreachable, when set, makes this line an ICMP error about the last datagram of the other
	// side: "port", "host", "network", "admin", "ttl", "too-big".
	Unreachable string
	Repeat      int
}

// Ping is scripted ICMP echo: Count requests and as many replies (when Reply).
type Ping struct {
	From, To Endpoint
	ID       uint16
	Count    int
	Payload  int
	Reply    bool
	// Translated is what To sees when addresses are translated on the way; else nil.
	Translated *Pair
}

// Burst is Flows random flows drawn from Seed: protocols, ports, sizes and directions vary.
type Burst struct {
	From, To Endpoint // ports are drawn
	Flows    int
	Packets  int // per flow, at most; at least 1
	Seed     uint64
	Protocol string // "tcp", "udp" or "" for both
}

// Socket is traffic of real sockets: To listens, From connects and sends Bytes; the listener
// answers with Reply bytes; both close in order, unless End says otherwise.
type Socket struct {
	Network  string // tcp or udp
	From, To Endpoint
	Bytes    int
	Reply    int
	// End is how a TCP connection ends: "": both close; "half-close": the client closes its side before the
	// listener replies; "reset": the client resets it; "refused": nobody listens, and nothing is sent.
	End string
	// ClientGroup and ServerGroup are the control groups in which the sockets are made, as paths below a folder of
	// the run's own; empty: in the run's.
	ClientGroup, ServerGroup string
}

// LinkChange takes a link down or up, deletes it, or adds it again.
type LinkChange struct {
	Port   Port
	Action string // down, up, delete, add
}

// HostChange deletes a host, with its namespace and its links, or adds it again as it was.
type HostChange struct {
	Host   string
	Action string // delete, add
}

// Expect holds expectations beside the golden file.
type Expect struct {
	// Counters that must hold at the end, by name: "lost.table-full",
	// "left_out.filter", "seen" (packets).
	Counters map[string]uint64
	// Uncounted is how many packets the oracle has left uncounted, by design.
	Uncounted   uint64
	uncountedAt *node
	// Free names fields of flows and connections whose values real sockets decide; they
	// are written "*" in the golden file ("packets", "bytes", "src_port", ...).
	Free []string
	// Fails are the kernel lines on which the scenario is known to fail.
	Fails []Exception
	// Golden are the kernel lines that have a golden file of their own.
	Golden   []Exception
	goldenAt *node
	// Tolerate is by how much fields may differ from the golden file.
	Tolerate     []Tolerance
	tolerancesAt []placed[Tolerance]
	// Known is what a Program is known to get wrong.
	Known   []Known
	knownAt *node
}
