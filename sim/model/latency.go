package model

import (
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// Latency says which of the features of bpf/latency/README.md are on.
type Latency struct {
	DNS        bool
	Ports      []uint16      // of DNS servers
	Timeout    time.Duration // of DNS queries
	Handshakes bool
}

// segment is a packet as the features see it: its addresses and ports, and what follows its IP
// headers.
type segment struct {
	at               int64
	hook             flow.Hook
	zone             uint16
	src, dst         endpoint
	protocol         uint8
	transport        []byte
	standsForSeveral bool
}

// watch lets the features see a packet.
func (m *Model) watch(a Arrival) {
	var p packet
	etherType, body, reason := p.link(a.Frame, a.Tag)
	if reason == "" {
		body, reason = p.network(etherType, body, a.Segments > 0)
	}
	if reason != "" || p.frag.later || len(body) < 4 {
		return
	}
	p.ports(body)
	s := segment{at: a.Now, hook: a.Hook, zone: m.cfg.Zones[a.Hook], src: p.src, dst: p.dst,
		protocol: p.protocol, transport: body, standsForSeveral: a.Segments > 0}
	if m.dns != nil {
		m.dns.see(&s)
	}
	if m.handshakes != nil && p.protocol == protoTCP {
		m.handshakes.see(&s)
	}
}

// tcpPayload is what follows the TCP header; ok is false when that cannot be read.
func tcpPayload(b []byte) (payload []byte, ok bool) {
	if len(b) < 20 {
		return nil, false
	}
	size := int(b[12]>>4) * 4
	if size < 20 || size > len(b) {
		return nil, false
	}
	return b[size:], true
}
