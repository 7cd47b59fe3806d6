package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/monitor"
	"github.com/weirnet/weir/agent/settings"
	"github.com/weirnet/weir/agent/yamlfile"
	"github.com/weirnet/weir/bpf"
)

// Config is the agent's configuration file. Durations are written like "90s" or "2h4m".
type Config struct {
	// Interfaces are those that are watched, in both directions, and must be there when the agent starts. At
	// least one, unless Discover is there.
	Interfaces []Interface `yaml:"interfaces"`
	// Discover watches interfaces as they come and go.
	Discover *Discover `yaml:"discover,omitempty"`
	// Pin is a folder on a bpffs (mounted when it is not): tables and attachments live on there
	// when the agent is killed, and the next one adopts them. Empty: they end with the agent.
	Pin string `yaml:"pin"`
	// Table is the connection table.
	Table Table `yaml:"table"`
	// Lifetimes are how long a connection may stay idle, by the name of its state.
	Lifetimes map[string]time.Duration `yaml:"lifetimes"`
	// Takeover is how long the hook that counts a direction may be silent before another one
	// that sees it takes over.
	Takeover time.Duration `yaml:"takeover"`
	// MidStream says whether a TCP or SCTP connection may be picked up after its beginning.
	MidStream bool `yaml:"mid_stream"`
	// Tunnels are opened, so that what they carry is counted in its own connections: vxlan,
	// geneve, gre, ipip.
	Tunnels []string `yaml:"tunnels"`
	// Filters say which packets are counted; all, when there are none.
	Filters Filters `yaml:"filters,omitempty"`
	// Sample counts 1 in so many connections, the same ones in both directions and on every
	// node; 1 counts all. Records tell it as "sampling".
	Sample uint32 `yaml:"sample"`
	// Interval is the time between two sweeps of the tables, or the shortest such time: see pace.
	Interval time.Duration `yaml:"interval"`
	// Pace is how the time between two sweeps follows what they find.
	Pace Pace `yaml:"pace"`
	// FastPath is where each CPU counts the packets of flows that go on, without the table.
	FastPath FastPath `yaml:"fast_path"`
	// Sweep is how the tables are gone through: iter, batch, or empty for the best.
	Sweep string `yaml:"sweep"`
	// Active is how often a connection that goes on is reported.
	Active time.Duration `yaml:"active"`
	// Features are optional, beside the datapath: drops, rtt, dns, handshake, nat, sockets. Each holds up to
	// table.size entries; what finds no room is counted as lost.
	Features []string `yaml:"features"`
	// DNS is of the feature dns.
	DNS DNS `yaml:"dns"`
	// Identity is how records name this agent.
	Identity Identity `yaml:"identity,omitempty"`
	// Labels say who owns addresses.
	Labels Labels `yaml:"labels,omitempty"`
	// Output is a file that flow records are appended to as JSON lines; "-" is standard output, which
	// is also where they go when there are neither Output nor Sinks.
	Output string `yaml:"output"`
	// Sinks are where records go, all of them to each.
	Sinks []SinkConfig `yaml:"sinks,omitempty"`
	// StopTimeout is how long sinks may go on sending what they hold when the agent ends.
	StopTimeout time.Duration `yaml:"stop_timeout"`
	// Chains of programs, when the agent is to own them.
	Chains *Chains `yaml:"chains,omitempty"`
	// Control is the path of the unix socket for `weir ct` and others. Empty: none.
	Control string `yaml:"control"`
	// Monitor is where Prometheus and probes of health ask.
	Monitor monitor.Options `yaml:"monitor,omitempty"`
	// Log is how the agent's log is written, to standard error.
	Log Log `yaml:"log,omitempty"`
	// Clock is where the agent's time comes from.
	Clock Clock `yaml:"clock"`
}

// Interface is an interface to watch, in both directions.
type Interface struct {
	// Name is the interface's.
	Name string `yaml:"name"`
	// Namespace is a network namespace by name (below /run/netns) or path; empty: the agent's.
	Namespace string `yaml:"namespace"`
	// As is the namespace's name in records; empty: Namespace.
	As string `yaml:"as"`
	// Zone keeps overlapping networks apart.
	Zone uint16 `yaml:"zone"`
	// Hook is tcx, tc, netkit (for the primary end of a netkit pair), or empty for the best of tcx
	// and tc that the kernel has.
	Hook string `yaml:"hook"`
	// Anchor is where a link (tcx, netkit) stands among those that others have made before: head sees packets
	// before they change them, tail after that. Empty: head. One that is adopted stays where it is.
	Anchor string `yaml:"anchor"`
}

// shown is the namespace's name in records.
func (n *Interface) shown() string {
	if n.As != "" {
		return n.As
	}
	return n.Namespace
}

// Table is the connection table.
type Table struct {
	// Size is the number of connections of each address family. Tables that are adopted with
	// another size are changed, and their connections go on; where they have too little room,
	// those that were used last.
	Size int `yaml:"size"`
	// Full says what happens to a packet that would open a connection when the table is full:
	// "overflow" (it is reported on its own), "reject" (it is counted as lost), or "evict" (it is
	// reported on its own, and those unanswered connections that are idle for the longest end, until
	// the table is at 90 %).
	Full string `yaml:"full"`
}

// FastPath is where each CPU counts the packets of flows that go on, without the table.
type FastPath struct {
	// Slots is how many flows' directions of each address family a CPU can hold, a power of two; 0:
	// what fits the table and the number of CPUs; -1: none.
	Slots int `yaml:"slots"`
	// After is how many packets of a direction the table counts before the direction gets a slot.
	After uint32 `yaml:"after"`
}

// DNS says what the feature dns takes for DNS.
type DNS struct {
	// Ports are those of servers, of UDP and TCP.
	Ports []uint16 `yaml:"ports"`
	// Timeout is how long a response is waited for.
	Timeout time.Duration `yaml:"timeout"`
}

// Clock is where the agent's time comes from.
type Clock struct {
	// Virtual stops the clock at Start; only the control socket moves it, and only it makes the
	// agent sweep. For tests.
	Virtual bool `yaml:"virtual"`
	// Start is in ns, above 0.
	Start int64 `yaml:"start"`
}

// Bounds of the configuration.
const (
	maxTable = 16 << 20
	minEvery = 100 * time.Millisecond
)

// DefaultConfig is what a file changes. The lifetimes' sources are in bpf/README.md section 5.
func DefaultConfig() Config {
	return Config{
		Table:     Table{Size: 65536, Full: fullOverflow},
		Takeover:  time.Second,
		MidStream: true,
		Sample:    1,
		FastPath:  FastPath{After: 16},
		Interval:  5 * time.Second,
		Active:    time.Minute,
		Pace:      Pace{Policy: paceYield},
		// resolv.conf(5): a resolver waits 5 s before it asks again, twice by default.
		DNS:    DNS{Ports: []uint16{53}, Timeout: 10 * time.Second},
		Labels: Labels{Wait: defaultWait},
		Clock:  Clock{Start: 1},
		// Less than the 90 s of systemd, 30 s of Kubernetes and 10 s of Docker.
		StopTimeout: 5 * time.Second,
		Log:         Log{Format: logText},
	}
}

func defaultLifetimes() [bpf.States]time.Duration {
	l := [bpf.States]time.Duration{
		conntrack.StateSynSent:     120 * time.Second,
		conntrack.StateSynReceived: 60 * time.Second,
		conntrack.StateEstablished: 7440 * time.Second,
		conntrack.StateClosing:     120 * time.Second,
		conntrack.StateLastAck:     30 * time.Second,
		conntrack.StateClosed:      10 * time.Second,
		conntrack.StateReset:       10 * time.Second,
		conntrack.StateUnreplied:   30 * time.Second,
		conntrack.StateReplied:     120 * time.Second,
	}
	return l
}

// ReadConfig reads a configuration file. Errors name the file, the place and the key.
func ReadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return ParseConfig(path, data)
}

// ParseConfig reads a configuration; file is for error messages.
func ParseConfig(file string, data []byte) (Config, error) {
	return parseConfig(file, data, nil, nil)
}

// parseConfig reads a file, nil for one that does not exist, environment variables over it (see
// settings.FromEnv), and what override, if any, changes.
func parseConfig(file string, data []byte, environ []string, override func(*Config)) (Config, error) {
	c := DefaultConfig()
	if len(strings.TrimSpace(string(data))) > 0 {
		if err := yamlfile.Decode(file, data, &c); err != nil {
			return Config{}, err
		}
	}
	set, err := settings.FromEnv(&c, environ)
	if err != nil {
		return Config{}, err
	}
	if override != nil {
		override(&c)
	}
	if len(c.Interfaces) == 0 && len(strings.TrimSpace(string(data))) == 0 && len(set) == 0 {
		if data == nil {
			return Config{}, fmt.Errorf("%s: there is no such file; name it with --config, "+
				"or name an interface: \"weir agent eth0\"", file)
		}
		return Config{}, fmt.Errorf("%s: the file is empty; at least `interfaces` or `discover` is needed", file)
	}
	if err := c.Check(); err != nil {
		return Config{}, located(file, data, set, err)
	}
	return c, nil
}

// located says where the value is that an error begins with the path of.
func located(file string, data []byte, set map[string]string, err error) error {
	path, _, _ := strings.Cut(err.Error(), ": ")
	for p := path; p != ""; p = p[:max(0, strings.LastIndexAny(p, ".["))] {
		if name, ok := set[p]; ok {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return fmt.Errorf("%s: %w", yamlfile.Place(file, data, path), err)
}

// Check tells what is wrong with the configuration.
func (c *Config) Check() error {
	if err := c.checkInterfaces(); err != nil {
		return err
	}
	if err := c.processes().Check(); err != nil {
		return fmt.Errorf("chains.processes.%w", err)
	}
	if err := checkTableSize(c.Table.Size); err != nil {
		return err
	}
	if !slices.Contains([]string{fullOverflow, fullReject, fullEvict}, c.Table.Full) {
		return fmt.Errorf("table.full: %q; want overflow, reject or evict", c.Table.Full)
	}
	if c.Interval < minEvery || c.Active < c.Interval || c.Takeover <= 0 {
		return fmt.Errorf("interval: %v, active: %v, takeover: %v; want interval >= %v, "+
			"active >= interval, takeover > 0", c.Interval, c.Active, c.Takeover, minEvery)
	}
	if err := c.checkPace(); err != nil {
		return err
	}
	if c.Sample == 0 {
		return fmt.Errorf("sample: 0 would count nothing; want 1 for all connections, N for 1 in N")
	}
	if n := c.FastPath.Slots; n < -1 || n > 0 && (n < 2 || n&(n-1) != 0 || n > bpf.MaxSlots) {
		return fmt.Errorf("fast_path.slots: %d; want a power of two from 2 to %d, 0 for what fits, "+
			"-1 for none", n, bpf.MaxSlots)
	}
	if c.FastPath.After == 0 {
		return fmt.Errorf("fast_path.after: 0; want at least 1")
	}
	if c.Sweep != "" && c.Sweep != bpf.SweepIter && c.Sweep != bpf.SweepBatch {
		return fmt.Errorf("sweep: %q; want iter or batch, or leave it out", c.Sweep)
	}
	if c.Clock.Start < 1 {
		return fmt.Errorf("clock.start: %d; want at least 1", c.Clock.Start)
	}
	if err := checkFeatures(c.Features); err != nil {
		return err
	}
	if len(c.DNS.Ports) == 0 || slices.Contains(c.DNS.Ports, 0) || c.DNS.Timeout <= 0 {
		return fmt.Errorf("dns: ports %v, timeout %v; want ports from 1 to 65535, timeout > 0",
			c.DNS.Ports, c.DNS.Timeout)
	}
	if err := c.Identity.check(); err != nil {
		return fmt.Errorf("identity.%w", err)
	}
	if err := c.Labels.check(); err != nil {
		return fmt.Errorf("labels.%w", err)
	}
	if err := c.checkSinks(); err != nil {
		return err
	}
	if err := c.Monitor.Check(); err != nil {
		return fmt.Errorf("monitor.%w", err)
	}
	if err := c.Log.check(); err != nil {
		return fmt.Errorf("log.%w", err)
	}
	_, err := c.settings()
	return err
}

func (c *Config) checkInterfaces() error {
	if len(c.Interfaces) == 0 && c.Discover == nil {
		return fmt.Errorf("interfaces: at least one is needed, e.g. [{name: eth0}], or discover: {} for all")
	}
	for i, n := range c.Interfaces {
		if n.Name == "" {
			return fmt.Errorf("interfaces[%d].name: is missing", i)
		}
		if !knownHook(n.Hook) {
			return fmt.Errorf("interfaces[%d].hook: %q; want tcx, tc or netkit, or leave it out", i, n.Hook)
		}
		if err := checkAnchor(n.Anchor, n.Hook); err != nil {
			return fmt.Errorf("interfaces[%d].%w", i, err)
		}
	}
	if c.Discover == nil {
		return nil
	}
	if _, err := c.Discover.options(); err != nil {
		return fmt.Errorf("discover.%w", err)
	}
	return nil
}

// Places among links.
const (
	anchorHead = "head"
	anchorTail = "tail"
)

func checkAnchor(anchor, hook string) error {
	switch {
	case !slices.Contains([]string{"", anchorHead, anchorTail}, anchor):
		return fmt.Errorf("anchor: %q; want head or tail", anchor)
	case anchor != "" && hook == bpf.TC:
		return fmt.Errorf("anchor: %s: a tc filter has none, but a priority of its own", anchor)
	}
	return nil
}

func knownHook(mode string) bool {
	return slices.Contains([]string{"", bpf.TCX, bpf.TC, bpf.Netkit}, mode)
}

func checkTableSize(entries int) error {
	if entries < 1 || entries > maxTable {
		return fmt.Errorf("table.size: %d; want 1 to %d", entries, maxTable)
	}
	return nil
}

func (c *Config) lifetimes() ([bpf.States]time.Duration, error) {
	all := defaultLifetimes()
next:
	for name, d := range c.Lifetimes {
		if d <= 0 {
			return all, fmt.Errorf("lifetimes.%s: %v; want more than 0", name, d)
		}
		for _, s := range conntrack.States() {
			if s != conntrack.StateNone && s.String() == name {
				all[s] = d
				continue next
			}
		}
		return all, fmt.Errorf("lifetimes.%s: no such state; there are %s", name, stateNames())
	}
	return all, nil
}

func stateNames() string {
	var names []string
	for _, s := range conntrack.States()[1:] {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

func (c *Config) settings() (bpf.Settings, error) {
	l, err := c.lifetimes()
	if err != nil {
		return bpf.Settings{}, err
	}
	tunnels, err := bpf.ParseTunnels(c.Tunnels)
	if err != nil {
		return bpf.Settings{}, fmt.Errorf("tunnels: %w", err)
	}
	filter, err := c.Filters.Compile()
	if err != nil {
		return bpf.Settings{}, fmt.Errorf("filters.%w", err)
	}
	return bpf.Settings{Lifetimes: l, Takeover: c.Takeover, Overflow: c.Table.Full != fullReject,
		MidStream: c.MidStream, Tunnels: tunnels, Sample: c.Sample, Filter: filter}, nil
}

// namespaces tells whether interfaces in network namespaces other than the agent's are watched.
func (c *Config) namespaces() bool {
	return c.Discover.foreign() || slices.ContainsFunc(c.Interfaces, func(n Interface) bool { return n.Namespace != "" })
}

// DatapathOptions is what a datapath for this configuration is loaded with.
func (c *Config) DatapathOptions() (bpf.Options, error) {
	s, err := c.settings()
	return bpf.Options{
		Pin: c.Pin, Table: c.Table.Size, Virtual: c.Clock.Virtual, Sweep: c.Sweep,
		Slots: c.FastPath.Slots, SlotAfter: c.FastPath.After, Settings: s,
	}, err
}
