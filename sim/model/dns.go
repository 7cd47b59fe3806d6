package model

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// dns is the feature dns: bpf/latency/README.md section 2.
type dns struct {
	ports   []uint16
	timeout int64
	table   int
	open    map[transaction]*query
	told    []flow.DNS
	unread  map[string]uint64 // messages by reason
	full    uint64
}

const answeredFor = int64(time.Second)

type transaction struct {
	zone           uint16
	protocol       uint8
	client, server endpoint
	id             uint16
}

type query struct {
	at       int64
	owner    flow.Hook
	repeats  uint32
	answered int64
	name     string
	kind     uint16
}

func newDNS(l Latency, table int) *dns {
	return &dns{ports: l.Ports, timeout: int64(l.Timeout), table: table,
		open: map[transaction]*query{}, unread: map[string]uint64{}}
}

// see takes a packet whose message, if it is one, is the datagram's or begins the segment.
func (d *dns) see(s *segment) {
	if !slices.Contains(d.ports, s.src.port) && !slices.Contains(d.ports, s.dst.port) {
		return
	}
	message, whole, ok := s.message()
	if !ok {
		return
	}
	udp := s.protocol == protoUDP
	if len(message) < 12 {
		if udp {
			d.unread["short"]++
		}
		return
	}
	flags, questions := binary.BigEndian.Uint16(message[2:]), binary.BigEndian.Uint16(message[4:])
	response := flags&0x8000 != 0
	client, server := s.src, s.dst
	if response {
		client, server = server, client
	}
	switch {
	case !slices.Contains(d.ports, server.port):
		if udp {
			d.unread["wrong-way"]++
		}
		return
	case !udp && !response && (!whole || questions != 1):
		return
	}
	t := transaction{s.zone, s.protocol, client, server, binary.BigEndian.Uint16(message)}
	if response {
		d.response(s, t, message)
	} else {
		d.query(s, t, message)
	}
}

// message finds the DNS message; whole tells that it ends within the packet.
func (s *segment) message() (message []byte, whole, ok bool) {
	b := s.transport
	switch s.protocol {
	case protoUDP:
		if len(b) < 8 {
			return nil, false, false
		}
		length := int(binary.BigEndian.Uint16(b[4:]))
		if s.standsForSeveral || length > len(b) {
			length = len(b)
		}
		if length < 8 {
			return nil, false, false
		}
		return b[8:length], true, true
	case protoTCP:
		b, ok = tcpPayload(b)
		if !ok || len(b) < 2 {
			return nil, false, false
		}
		length := int(binary.BigEndian.Uint16(b))
		if length < 12 {
			return nil, false, false
		}
		b = b[2:]
		return b[:min(length, len(b))], length <= len(b), true
	}
	return nil, false, false
}

// question reads the first question. The reason is "" if there is none, or it is good.
func question(message []byte) (name string, kind uint16, reason string) {
	if binary.BigEndian.Uint16(message[4:]) == 0 {
		return "", 0, ""
	}
	b := message[12:]
	for at := 0; ; {
		if at >= len(b) {
			return "", 0, "cut-question"
		}
		label := int(b[at])
		switch {
		case label == 0:
			if len(b) < at+5 {
				return "", 0, "cut-question"
			}
			if name == "" {
				name = "."
			}
			return name, binary.BigEndian.Uint16(b[at+1:]), ""
		case label > 63:
			return "", 0, "compressed-name"
		}
		if at += 1 + label; at+1 > 255 {
			return "", 0, "long-name"
		}
		if at <= len(b) {
			name += zoneForm(b[at-label:at]) + "."
		}
	}
}

// zoneForm writes a label as zone files do.
func zoneForm(label []byte) string {
	var s strings.Builder
	for _, c := range label {
		switch {
		case c <= 0x20 || c >= 0x7f:
			fmt.Fprintf(&s, `\%03d`, c)
		case strings.ContainsRune(`."\;()@$`, rune(c)):
			s.WriteString(`\` + string(rune(c)))
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}

func (d *dns) query(s *segment, t transaction, message []byte) {
	name, kind, reason := question(message)
	if reason != "" {
		d.unread[reason]++
		return
	}
	if q := d.open[t]; q != nil && q.answered == 0 {
		if q.owner == s.hook {
			q.repeats++
		}
		return
	} else if q == nil && len(d.open) == d.table {
		d.full++
		return
	}
	d.open[t] = &query{at: s.at, owner: s.hook, name: name, kind: kind}
}

func (d *dns) response(s *segment, t transaction, message []byte) {
	q := d.open[t]
	r := t.record(flow.DNSAnswered)
	switch {
	case q != nil && q.answered != 0, q == nil && t.protocol != protoUDP:
		return
	case q == nil:
		name, kind, reason := question(message)
		if reason != "" {
			d.unread[reason]++
			return
		}
		if len(d.open) == d.table {
			d.full++
			return
		}
		q = &query{name: name, kind: kind}
		d.open[t] = q
		r.Outcome = flow.DNSUnasked
	default:
		latency := s.at - q.at
		r.Latency = &latency
	}
	q.answered = s.at
	q.fill(&r)
	r.Rcode, r.Truncated = flow.Rcode(message[3]&0xf), message[2]&2 != 0
	r.End = s.at
	d.told = append(d.told, r)
}

func (t transaction) record(outcome string) flow.DNS {
	return flow.DNS{Outcome: outcome, Zone: t.zone, Protocol: t.protocol, ID: t.id,
		Client: t.client.addr, ClientPort: t.client.port,
		Server: t.server.addr, ServerPort: t.server.port}
}

func (q *query) fill(r *flow.DNS) {
	if q.name != "" {
		r.Name, r.Type = q.name, flow.DNSType(q.kind)
	}
	r.Repeats, r.Start = q.repeats, q.at
}

// sweep gives up what is open for too long, and forgets what is answered. At the stop all is given up.
func (d *dns) sweep(now int64, stop bool) {
	for t, q := range d.open {
		switch {
		case q.answered != 0 && now-q.answered > answeredFor:
			delete(d.open, t)
		case q.answered == 0 && now-q.at > d.timeout:
			d.giveUp(t, q, flow.DNSUnanswered)
		case q.answered == 0 && stop:
			d.giveUp(t, q, flow.DNSOpen)
		}
	}
}

func (d *dns) giveUp(t transaction, q *query, outcome string) {
	delete(d.open, t)
	r := t.record(outcome)
	q.fill(&r)
	d.told = append(d.told, r)
}

// DNS returns what is told of DNS, in no order: transactions, and for each reason how many messages are
// not told.
func (m *Model) DNS() []flow.DNS {
	if m.dns == nil {
		return nil
	}
	all := slices.Clone(m.dns.told)
	for reason, n := range m.dns.unread {
		all = append(all, flow.DNS{Outcome: flow.DNSUnreadable, Reason: reason, Messages: n})
	}
	if m.dns.full > 0 {
		all = append(all, flow.DNS{Outcome: flow.DNSLost, Reason: "table-full", Messages: m.dns.full})
	}
	return all
}
