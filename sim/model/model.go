// Package model is the reference datapath: bpf/README.md in plain Go.
//
// It turns packets into connections, flows and counters by the same written rules as the BPF
// programs, and shares no logic with them or with the agent, so that a mistake in one shows as a
// difference from the other. It has no clock, no goroutine and makes no system call: time is an
// argument. What it leaves out is what only a running kernel has: several CPUs at once, and a
// ring buffer that fills up by chance (Config.RingFull fills it by decree).
//
// A Model is not safe for concurrent use.
package model

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// The policies for a full connection table.
const (
	Reject   = "reject"   // the packet is lost as table-full
	Overflow = "overflow" // the packet is reported by itself, as part of a flow without state
	Evict    = "evict"    // likewise, and sweeps make room
)

const (
	defaultTable    = 65536
	defaultTakeover = time.Second
	maxListed       = 3 // hooks listed beside the owner
)

// Config is what the agent's configuration gives the datapath. The zero value is the default but
// for MidStream, which the agent switches on.
type Config struct {
	// Lifetimes replaces the default lifetime of the states it names.
	Lifetimes map[conntrack.State]time.Duration
	// Takeover is how long a leg's owner must have been silent before another hook takes the
	// leg over; 0 means one second.
	Takeover time.Duration
	// Table is the number of entries for each family; 0 means 65536.
	Table int
	// TableFull is Reject, Overflow or Evict; "" means Reject.
	TableFull string
	// MidStream says whether TCP and SCTP connections may be picked up after their beginning.
	MidStream bool
	// Tunnels are the kinds that are opened: VXLAN, Geneve, GRE, IPIP.
	Tunnels []string
	// Filter says which packets are counted.
	Filter bpf.Filter
	// Sample counts 1 in so many connections; 0 and 1 mean all.
	Sample uint32
	// Zones gives hooks a zone other than 0.
	Zones map[flow.Hook]uint16
	// Hooks are the configured hooks; a packet at another one is lost as no-hook. Nil means
	// that every hook is configured.
	Hooks []flow.Hook
	// RingFull models a ring buffer that has no room for anything.
	RingFull bool
	// Latency says which features watch the packets.
	Latency Latency
}

// Lifetimes returns the default lifetimes of all states: the table in bpf/README.md section 5.
func Lifetimes() map[conntrack.State]time.Duration {
	return map[conntrack.State]time.Duration{
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
}

// Model is the state of the datapath.
type Model struct {
	cfg       Config
	lifetimes map[conntrack.State]time.Duration
	hooks     map[flow.Hook]bool // nil: all are configured
	tunnels   kinds
	fragments fragments
	table     map[key]*connection
	used      [2]int // entries in the table, IPv4 and IPv6
	lastID    uint64
	ended     []Flow // flows whose last record was written, in the order of their ends
	now       int64  // of the latest packet or sweep
	overflow  overflow
	counters  map[flow.Hook]*Counters

	dns        *dns        // nil: off
	handshakes *handshakes // nil: off
}

// New returns a datapath that has seen nothing yet.
func New(cfg Config) *Model {
	if cfg.Takeover == 0 {
		cfg.Takeover = defaultTakeover
	}
	if cfg.Table == 0 {
		cfg.Table = defaultTable
	}
	m := &Model{
		cfg:       cfg,
		lifetimes: Lifetimes(),
		tunnels:   kindsOf(cfg.Tunnels),
		fragments: newFragments(),
		table:     map[key]*connection{},
		overflow:  overflow{at: map[overflowKey]int{}},
		counters:  map[flow.Hook]*Counters{},
	}
	if cfg.Latency.DNS {
		m.dns = newDNS(cfg.Latency, cfg.Table)
	}
	if cfg.Latency.Handshakes {
		m.handshakes = newHandshakes(cfg.Table)
	}
	maps.Copy(m.lifetimes, cfg.Lifetimes)
	if cfg.Hooks != nil {
		m.hooks = map[flow.Hook]bool{}
		for _, h := range cfg.Hooks {
			m.hooks[h] = true
		}
	}
	return m
}

// Arrival is one packet at one hook.
type Arrival struct {
	Hook flow.Hook
	Now  int64 // nanoseconds of the datapath's clock
	// Frame begins with the Ethernet header and has no frame check sequence.
	Frame []byte
	// L3 tells that the frame begins with the IP header instead.
	L3 bool
	// Network is where in the frame the kernel's network header is, in bytes; of L3 frames alone. If
	// an IP packet begins there that ends with the frame, what stands before is no part of it.
	Network int
	// Tag tells that a VLAN tag is carried beside the frame, as offloading devices do.
	Tag bool
	// Segments is 0 for an ordinary packet. For one that the kernel carries as GSO it is the
	// number of packets that it stands for.
	Segments int
}

// Fate is what became of a packet.
type Fate string

// The four fates.
const (
	Accounted Fate = "accounted"
	Observed  Fate = "observed"
	LeftOut   Fate = "left out"
	Lost      Fate = "lost"
)

// Outcome is the one outcome that every packet has; Reason is set if it was left out or lost.
type Outcome struct {
	Fate   Fate
	Reason Reason
}

// Packet takes an ordinary Ethernet frame that is seen at hook at time now.
func (m *Model) Packet(hook flow.Hook, now int64, frame []byte) Outcome {
	return m.Receive(Arrival{Hook: hook, Now: now, Frame: frame})
}

// Receive takes one packet, counts it and returns its outcome.
func (m *Model) Receive(a Arrival) Outcome {
	m.now = a.Now
	known := m.hooks == nil || m.hooks[a.Hook]
	if known {
		a.passOuter()
	}
	p, reason := parse(a, m.tunnels)
	if !known {
		reason = ReasonNoHook
	} else {
		m.watch(a)
	}
	size := a.size(p.headers)
	c := m.at(a.Hook)
	c.Seen.add(size)
	at := arrived{a.Hook, m.cfg.Zones[a.Hook], a.Now, size}
	if reason == "" {
		reason = m.fragments.see(at, &p)
	}
	out := Outcome{Lost, reason}
	if reason == "" {
		out = m.admit(at, &p)
	}
	switch out.Fate {
	case Accounted:
		c.Accounted.add(size)
	case Observed:
		c.Observed.add(size)
	case LeftOut:
		book(c.LeftOut, out.Reason, size)
	default:
		book(c.Lost, out.Reason, size)
	}
	return out
}

// admit leaves out what is not to be counted, and brings the rest to its connection. What is left
// out changes nothing.
func (m *Model) admit(a arrived, p *packet) Outcome {
	switch {
	case !accepts(&m.cfg.Filter, p):
		return Outcome{LeftOut, ReasonFilter}
	case !p.sampled(m.cfg.Sample):
		return Outcome{LeftOut, ReasonSampling}
	}
	return m.deliver(a, p)
}

// size is what the packet counts: every segment with its own copy of the headers.
func (a Arrival) size(headers int) Count {
	n, tag := max(1, a.Segments), 0
	if a.Tag {
		tag = 4
	}
	bytes := len(a.Frame) + tag + (n-1)*(headers+tag)
	return Count{Packets: uint64(n), Bytes: uint64(bytes)}
}

// arrived is where, when and how much: what the tables need to know of an Arrival.
type arrived struct {
	hook flow.Hook
	zone uint16
	now  int64
	size Count
}

// deliver brings a packet that was understood to its connection.
func (m *Model) deliver(a arrived, p *packet) Outcome {
	if p.isError {
		// Whatever becomes of the error itself, the cited connection remembers it.
		m.remember(a.zone, p, a.now)
	}
	k, leg := canonical(a.zone, p)
	c := m.table[k]
	expired := c != nil && c.expired(m.lifetimes, a.now)
	switch {
	case (c == nil || expired) && !m.cfg.MidStream && p.midStream():
		return Outcome{Lost, ReasonMidStream}
	case c == nil:
		return m.open(a, p, k, leg)
	case expired:
		return m.replace(a, p, c, leg, c.expiry())
	}
	l := &c.legs[leg]
	switch {
	case l.elsewhere(a, m.cfg.Takeover):
		l.list(a.hook)
		return Outcome{Fate: Observed}
	case p.hasStates() && c.restarts(leg, p):
		return m.replace(a, p, c, leg, flow.EndDetected)
	}
	l.claim(a.hook)
	l.count(a, p)
	c.advance(leg, p)
	return Outcome{Fate: Accounted}
}

// remember notes an ICMP error at the connection that it cites, if that one is alive.
func (m *Model) remember(zone uint16, p *packet, now int64) {
	k, _ := canonical(zone, p.cited)
	if c := m.table[k]; c != nil && !c.expired(m.lifetimes, now) {
		c.icmpError = p.message
	}
}

// open makes a new entry for the packet, if there is room for one.
func (m *Model) open(a arrived, p *packet, k key, leg int) Outcome {
	if m.used[k.family()] < m.cfg.Table {
		m.used[k.family()]++
		m.begin(a, p, k, leg)
		return Outcome{Fate: Accounted}
	}
	full := m.cfg.TableFull
	if full != Overflow && full != Evict || m.cfg.RingFull {
		return Outcome{Lost, ReasonTableFull}
	}
	m.overflow.add(a, p, k, leg)
	return Outcome{Fate: Accounted}
}

// begin puts a new connection into the place that k has in the table. The place is counted by
// the caller: a replaced connection's place is used again.
func (m *Model) begin(a arrived, p *packet, k key, leg int) {
	m.lastID++
	c := &connection{id: m.lastID, key: k}
	c.legs[leg].claim(a.hook)
	c.legs[leg].count(a, p)
	c.first(leg, p)
	m.table[k] = c
}

// replace ends a connection whose place a packet takes. Its last record goes through the ring
// buffer; if that is full, the packet is lost and the connection stays.
func (m *Model) replace(a arrived, p *packet, c *connection, leg int, reason flow.EndReason) Outcome {
	if m.cfg.RingFull {
		return Outcome{Lost, ReasonRingFull}
	}
	m.end(c, reason)
	m.begin(a, p, c.key, leg)
	return Outcome{Fate: Accounted}
}

// end adds the connection's flows to those that are over.
func (m *Model) end(c *connection, reason flow.EndReason) {
	for _, f := range c.flows(reason) {
		f.Written = m.now
		m.ended = append(m.ended, f)
	}
}

// Sweep is one pass of garbage collection: every expired connection ends and leaves the table, and
// with Evict others make room.
func (m *Model) Sweep(now int64) {
	m.now = now
	m.collect(now)
	if m.cfg.TableFull == Evict {
		m.evict()
	}
}

// collect ends what has expired.
func (m *Model) collect(now int64) {
	if m.dns != nil {
		m.dns.sweep(now, false)
	}
	if m.handshakes != nil {
		m.handshakes.sweep(now, false)
	}
	for _, c := range m.sorted() {
		if c.expired(m.lifetimes, now) {
			m.retire(c, c.expiry())
		}
	}
}

// evict ends unanswered connections, those first whose last packet is the oldest, until a tenth of
// each table is free. The datapath takes any of those that are about as old as each other.
func (m *Model) evict() {
	all := m.sorted()
	slices.SortStableFunc(all, func(a, b *connection) int { return cmp.Compare(a.last(), b.last()) })
	for _, c := range all {
		if c.unanswered() && 10*m.used[c.key.family()] > 9*m.cfg.Table {
			m.retire(c, flow.EndResource)
		}
	}
}

// Stop stops the agent: a last sweep, after which all that is left ends by force, and fragments
// and handshakes are forgotten.
func (m *Model) Stop(now int64) {
	m.now = now
	m.fragments = newFragments()
	if m.handshakes != nil {
		m.handshakes.sweep(now, true)
	}
	if m.dns != nil {
		m.dns.sweep(now, true)
	}
	m.collect(now)
	for _, c := range m.sorted() {
		m.retire(c, flow.EndForced)
	}
}

// Fits tells whether tables of another size have room for all connections.
func (m *Model) Fits(entries int) bool {
	var held [2]int
	for _, c := range m.sorted() {
		held[c.key.family()]++
	}
	return max(held[0], held[1]) <= entries
}

// Resize gives each table another size. When there are more connections than room, those whose last
// packet was longest ago end.
func (m *Model) Resize(entries int) {
	m.cfg.Table = entries
	var families [2][]*connection
	for _, c := range m.sorted() {
		f := c.key.family()
		families[f] = append(families[f], c)
	}
	for _, all := range families {
		slices.SortStableFunc(all, func(a, b *connection) int { return cmp.Compare(b.last(), a.last()) })
		for _, c := range all[min(entries, len(all)):] {
			m.retire(c, flow.EndResource)
		}
	}
}

// retire ends a connection and frees its place.
func (m *Model) retire(c *connection, reason flow.EndReason) {
	m.end(c, reason)
	delete(m.table, c.key)
	m.used[c.key.family()]--
}
