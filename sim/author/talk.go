package author

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/gopacket/layers"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
)

// talk is a conversation: a TCP or UDP script.
type talk struct {
	kind     string // "tcp" or "udp"
	from, to *host
	ports    [2]uint16
	vlans    []uint16
	lines    []line
	bases    *[2]uint32 // of TCP: the sequence number that each side counts from
	place    int        // among the steps
	pause    int        // how many pauses were before it
}

// line is a line of a script.
type line struct {
	server   bool
	payload  int
	flags    flow.TCPFlags
	seq, ack uint32  // relative, as captured
	sayS     *uint32 // what has to be written, because the engine would send another
	sayA     *uint32
}

// join finds the conversation of a packet, or begins one. Its server is whom its first packet was
// for, also behind a pause.
func (c *converter) join(p *packet, kind string, src, dst uint16) (t *talk, server bool) {
	var vlans []uint16
	for _, v := range p.vlans {
		vlans = append(vlans, v.VLANIdentifier)
	}
	a, b := netip.AddrPortFrom(p.src, src), netip.AddrPortFrom(p.dst, dst)
	key := flowKey{a, b, p.protocol(), fmt.Sprint(vlans)}
	back := flowKey{b, a, key.protocol, key.vlans}
	if _, ok := c.talks[back]; ok {
		key, server = back, true
	}
	t = c.talks[key]
	if t == nil || t.pause != c.pauses { // it begins, or goes on after a pause, in a step of its own
		next := &talk{kind: kind, from: c.hosts[key.a.Addr()], to: c.hosts[key.b.Addr()],
			ports: [2]uint16{key.a.Port(), key.b.Port()}, vlans: vlans, place: len(c.steps), pause: c.pauses}
		if t != nil {
			next.bases = t.bases
		}
		t = next
		c.talks[key] = t
		c.steps = append(c.steps, t)
	}
	if t.place != len(c.steps)-1 {
		c.mixed++
	}
	return t, server
}

// udp takes a datagram over as a line of a script, if it is one.
func (c *converter) udp(p *packet) bool {
	h, ok := transport(p.payload(), &layers.UDP{})
	if p.protocol() != layers.IPProtocolUDP || !ok || !p.plain() || c.hosts[p.dst] == nil ||
		h.SrcPort == 0 || h.DstPort == 0 || int(h.Length) != len(p.payload()) {
		return false
	}
	t, server := c.join(p, "udp", uint16(h.SrcPort), uint16(h.DstPort))
	t.lines = append(t.lines, line{server: server, payload: len(h.Payload)})
	return true
}

// tcp takes a segment over as a line of a script, if it is one.
func (c *converter) tcp(p *packet) bool {
	h, ok := transport(p.payload(), &layers.TCP{})
	if p.protocol() != layers.IPProtocolTCP || !ok || !p.plain() || c.hosts[p.dst] == nil ||
		h.SrcPort == 0 || h.DstPort == 0 {
		return false
	}
	if len(h.Options) > 0 {
		c.change("TCP options are not sent")
	}
	t, server := c.join(p, "tcp", uint16(h.SrcPort), uint16(h.DstPort))
	me, peer := 0, 1
	if server {
		me, peer = 1, 0
	}
	if t.bases == nil { // numbers count from the first that is seen of each side
		t.bases = &[2]uint32{}
		t.bases[me], t.bases[peer] = h.Seq, h.Ack
		if h.Ack == 0 || h.SYN {
			t.bases[peer] = 0
		}
	}
	if server && h.SYN && h.ACK && !t.said(true) {
		t.bases[me] = h.Seq // the client's SYN could not tell
	}
	l := line{server: server, payload: len(h.Payload), flags: flags(h), seq: h.Seq - t.bases[me]}
	if h.ACK {
		l.ack = h.Ack - t.bases[peer]
	}
	t.lines = append(t.lines, l)
	return true
}

// said tells whether a side has sent something yet.
func (t *talk) said(server bool) bool {
	for _, l := range t.lines {
		if l.server == server {
			return true
		}
	}
	return false
}

func flags(h *layers.TCP) (f flow.TCPFlags) {
	for flag, set := range map[flow.TCPFlags]bool{flow.FIN: h.FIN, flow.SYN: h.SYN, flow.RST: h.RST,
		flow.PSH: h.PSH, flow.ACK: h.ACK, flow.URG: h.URG, flow.ECE: h.ECE, flow.CWR: h.CWR} {
		if set {
			f |= flag
		}
	}
	return f
}

// number finds the lines whose sequence numbers have to be written: the traffic engine itself is
// asked what it would send, line by line.
func (c *converter) number() error {
	sc, err := c.read(c.text())
	if err != nil {
		return err
	}
	b := traffic.NewBuilder(&sc.Topology)
	for i, s := range c.steps {
		if t, ok := s.(*talk); ok && t.kind == "tcp" {
			if err := t.number(b, &sc.Steps[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// number corrects the first line that differs, until none does: a correction changes what the
// engine makes of the lines behind it.
func (t *talk) number(b *traffic.Builder, s *spec.Step) error {
	for i := 0; i < len(t.lines); {
		var err error
		if i, err = t.differs(b, s, i); err != nil {
			return err
		}
	}
	return nil
}

// differs corrects the first line, from one on, that differs, and returns the one behind it.
func (t *talk) differs(b *traffic.Builder, s *spec.Step, from int) (int, error) {
	i := 0
	for f, err := range b.Frames(s) {
		if err != nil {
			return 0, err
		}
		p := dissect(f.Data)
		h, ok := transport(p.payload(), &layers.TCP{})
		if !ok {
			return 0, fmt.Errorf("line %d of a script gives no segment", i+1)
		}
		l, bases := &t.lines[i], [2]uint32{s.TCP.ClientISN, s.TCP.ServerISN}
		me, peer := 0, 1
		if l.server {
			me, peer = 1, 0
		}
		wrong := false
		if i >= from && h.Seq-bases[me] != l.seq {
			l.sayS, wrong = &l.seq, true
		}
		if i >= from && h.ACK && h.Ack-bases[peer] != l.ack {
			l.sayA, wrong = &l.ack, true
		}
		if wrong {
			s.TCP.Script[i].Seq, s.TCP.Script[i].Ack = l.sayS, l.sayA
			return i + 1, nil
		}
		i++
	}
	return len(t.lines), nil
}

// write writes the step.
func (t *talk) write(b *strings.Builder, _ *converter) {
	fmt.Fprintf(b, "  - %s: %s:%d > %s:%d\n", t.kind, t.from.name, t.ports[0], t.to.name, t.ports[1])
	if len(t.vlans) > 0 {
		fmt.Fprintf(b, "    vlans: %s\n", strings.ReplaceAll(fmt.Sprint(t.vlans), " ", ", "))
	}
	b.WriteString("    script: |\n")
	for _, l := range t.lines {
		arrow := ">"
		if l.server {
			arrow = "<"
		}
		fmt.Fprintf(b, "      %s", arrow)
		if t.kind == "tcp" {
			fmt.Fprintf(b, " %s", flagWords(l.flags))
		}
		if t.kind == "udp" || l.payload > 0 {
			fmt.Fprintf(b, " %d", l.payload)
		}
		if l.sayS != nil {
			fmt.Fprintf(b, " seq=%d", *l.sayS)
		}
		if l.sayA != nil {
			fmt.Fprintf(b, " ack=%d", *l.sayA)
		}
		b.WriteByte('\n')
	}
}

// flagWords are flags as scripts write them.
func flagWords(f flow.TCPFlags) string {
	if f == 0 {
		return "none"
	}
	return strings.ReplaceAll(f.String(), "|", ",")
}
