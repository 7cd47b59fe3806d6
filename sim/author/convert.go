package author

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/sim/spec"
)

// Bounds of what a capture becomes.
const (
	maxHosts = spec.MaxHosts - 1 // a switch takes one, and all ports of it
	// pause is how long nothing must have passed for time to be let pass in the scenario, too.
	pause = time.Second
	// longest is the longest time that passes at once.
	longest = 365 * 24 * time.Hour
	// plainMTU is the links' unless a packet is larger.
	plainMTU = 1500
)

// Converted is a scenario made from a capture.
type Converted struct {
	Text []byte
	// Frames is how many the capture has, Taken how many the scenario sends.
	Frames, Taken int
	// Notes say what was not taken over, in order of weight.
	Notes []string
}

// FromCapture makes a scenario of a pcap or pcapng file: its addresses become hosts of one network,
// clean TCP and UDP becomes scripts, the rest packets layer by layer. What cannot be told in a
// scenario is in the notes.
func FromCapture(name string, r io.Reader) (*Converted, error) {
	packets, unread, err := readCapture(r)
	if err != nil {
		return nil, err
	}
	c := &converter{name: name, hosts: map[netip.Addr]*host{}, left: map[string]int{},
		talks: map[flowKey]*talk{}}
	for _, p := range packets {
		c.packet(p)
	}
	if unread > 0 {
		c.left[fmt.Sprintf("frames behind the first %d, or longer than any link's", maxFrames)] = unread
	}
	if len(c.steps) == 0 {
		return nil, errors.Join(errors.New("the capture has nothing that a scenario can send"),
			errors.New(strings.Join(c.notes(), "\n")))
	}
	return c.finish(len(packets) + unread)
}

// host is an address of the capture and what it becomes.
type host struct {
	name    string
	was, is netip.Addr
	frames  int
}

// flowKey is a conversation: addresses and ports of the side that began, protocol, VLAN ids.
type flowKey struct {
	a, b     netip.AddrPort
	protocol layers.IPProtocol
	vlans    string
}

// converter makes one scenario.
type converter struct {
	name    string
	hosts   map[netip.Addr]*host
	order   []*host
	steps   []step
	talks   map[flowKey]*talk // the latest of each conversation
	pauses  int
	last    time.Time
	left    map[string]int // what was left out, and how often
	changed map[string]int // what was taken over with a change
	mixed   int            // packets that had others of later steps before them
	taken   int
	mtu     int
}

// step is a step of the scenario.
type step interface {
	write(b *strings.Builder, c *converter)
}

// wait lets time pass.
type wait time.Duration

func (w wait) write(b *strings.Builder, _ *converter) {
	fmt.Fprintf(b, "  - advance: %s\n", time.Duration(w))
}

// change notes that something is not as it was.
func (c *converter) change(what string) {
	if c.changed == nil {
		c.changed = map[string]int{}
	}
	c.changed[what]++
}

// packet takes a packet over, or notes why not.
func (c *converter) packet(p *packet) {
	if why := c.unfit(p); why != "" {
		c.left[why]++
		return
	}
	if !c.last.IsZero() {
		if gap := p.at.Sub(c.last).Truncate(time.Millisecond); gap >= pause {
			c.steps = append(c.steps, wait(min(gap, longest)))
			c.pauses++
		}
	}
	c.last = p.at
	c.taken++
	c.mtu = max(c.mtu, p.size())
	c.hosts[p.src].frames++
	if to := c.hosts[p.dst]; to != nil {
		to.frames++
	}
	if p.missing > 0 {
		c.change("bytes that the capture had cut off are made up")
	}
	switch {
	case c.tcp(p), c.udp(p):
	default:
		c.steps = append(c.steps, c.layers(p))
	}
}

// size is the packet's, from the IP header on, in bytes.
func (p *packet) size() int {
	switch ip := p.ip.(type) {
	case *layers.IPv4:
		return int(ip.Length)
	case *layers.IPv6:
		return 40 + int(ip.Length)
	}
	return 0
}

// unfit is why a packet cannot be taken over; it makes hosts of addresses where it can.
func (c *converter) unfit(p *packet) string {
	switch {
	case p.ip == nil:
		return fmt.Sprintf("frames that are not IP (%s): hosts of a scenario need none", p.kind)
	case p.protocol() == layers.IPProtocolIGMP || neighbourDiscovery(p):
		return "neighbour discovery and group membership: hosts of a scenario are silent"
	case p.size() > 65535 || p.size() < 20:
		return "packets whose IP header gives no length"
	case !isHost(p.src):
		return "packets whose source is no host's address"
	case !c.known(p.src):
		return fmt.Sprintf("packets of hosts behind the first %d", maxHosts)
	case isHost(p.dst) && !p.toAll && !c.known(p.dst):
		return fmt.Sprintf("packets to hosts behind the first %d", maxHosts)
	case p.src == p.dst:
		return "packets from a host to itself"
	}
	return ""
}

func neighbourDiscovery(p *packet) bool {
	data := p.payload()
	if _, ok := p.ip.(*layers.IPv6); !ok || len(data) == 0 {
		return false
	}
	if p.protocol() == layers.IPProtocolIPv6HopByHop {
		return p.toAll // multicast listener reports
	}
	return p.protocol() == layers.IPProtocolICMPv6 && (data[0] >= 130 && data[0] <= 137 || data[0] == 143)
}

func isHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// known makes an address a host, while there is room.
func (c *converter) known(a netip.Addr) bool {
	if c.hosts[a] != nil {
		return true
	}
	if len(c.order) == maxHosts {
		return false
	}
	n := len(c.order) + 1
	h := &host{name: fmt.Sprintf("host%d", n), was: a,
		is: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}
	if a.Is6() {
		h.is = netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(n >> 8), 15: byte(n)})
	}
	c.hosts[a] = h
	c.order = append(c.order, h)
	return true
}

// finish names the hosts, writes the scenario and reads it back, as whoever runs it will.
func (c *converter) finish(frames int) (*Converted, error) {
	if len(c.order) == 2 {
		c.order[0].name, c.order[1].name = "client", "server"
	}
	if err := c.number(); err != nil {
		return nil, err
	}
	text := c.text()
	if _, err := c.read(text); err != nil {
		return nil, err
	}
	return &Converted{Text: []byte(text), Frames: frames, Taken: c.taken, Notes: c.notes()}, nil
}

// read parses the scenario and makes its frames.
func (c *converter) read(text string) (*spec.Scenario, error) {
	sc, err := spec.Parse(c.name+".yaml", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("the scenario made from the capture does not read: %w", err)
	}
	return sc, nil
}

// notes tell what was not taken over.
func (c *converter) notes() []string {
	var notes []string
	for _, why := range slices.Sorted(maps.Keys(c.left)) {
		notes = append(notes, fmt.Sprintf("left out: %d %s", c.left[why], why))
	}
	for _, what := range slices.Sorted(maps.Keys(c.changed)) {
		notes = append(notes, fmt.Sprintf("changed: %s (%d packets)", what, c.changed[what]))
	}
	if c.mixed > 0 {
		notes = append(notes, fmt.Sprintf("changed: conversations come one after the other; "+
			"%d packets had others between them", c.mixed))
	}
	return notes
}

// text is the whole scenario.
func (c *converter) text() string {
	var b strings.Builder
	b.WriteString(Modeline)
	fmt.Fprintf(&b, "# Made from a capture; what was not taken over:\n")
	for _, n := range append(c.notes(), "link addresses, TTLs, windows and the bytes that scripts carry") {
		fmt.Fprintf(&b, "#   %s\n", n)
	}
	fmt.Fprintf(&b, "summary: traffic of a capture, say here what it shows\n\ntopology:\n")
	c.topology(&b)
	busiest := slices.MaxFunc(c.order, func(a, b *host) int { return a.frames - b.frames })
	if len(c.order) == 2 {
		busiest = c.order[1]
	}
	fmt.Fprintf(&b, "\nagent: {on: [%s/eth0]}\n\ntraffic:\n", busiest.name)
	for _, s := range c.steps {
		s.write(&b, c)
	}
	return b.String()
}

// topology joins two hosts by a link, more by a switch, and says whose addresses they had.
func (c *converter) topology(b *strings.Builder) {
	size := ""
	if c.mtu > plainMTU {
		size = fmt.Sprint(c.mtu)
	}
	for _, h := range c.order {
		bits := 16
		if h.is.Is6() {
			bits = 64
		}
		addresses := fmt.Sprintf("[%s/%d]", h.is, bits)
		if size != "" {
			addresses = fmt.Sprintf("{addresses: %s, mtu: %s}", addresses, size)
		}
		fmt.Fprintf(b, "  %s: {eth0: %s}  # %s\n", h.name, addresses, h.was)
	}
	switch len(c.order) {
	case 1: // all it sends is to groups
		fmt.Fprintf(b, "  listener: {eth0: []}\n  links: [%s/eth0 - listener/eth0]\n", c.order[0].name)
	case 2:
		fmt.Fprintf(b, "  links: [%s/eth0 - %s/eth0]\n", c.order[0].name, c.order[1].name)
	default:
		var ports, links []string
		for i, h := range c.order {
			ports = append(ports, fmt.Sprintf("eth%d", i))
			links = append(links, fmt.Sprintf("    - %s/eth0 - switch/eth%d\n", h.name, i))
		}
		fmt.Fprintf(b, "  switch:\n    br0: {bridge: [%s]}\n  links:\n%s", strings.Join(ports, ", "),
			strings.Join(links, ""))
	}
}
