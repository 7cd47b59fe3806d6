package model

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// handshakes is the feature handshake: bpf/latency/README.md section 3.
type handshakes struct {
	table int
	open  map[ends]*openHandshake
	told  []toldHandshake
}

// ends are a connection from its client to its server.
type ends struct {
	zone           uint16
	client, server endpoint
}

type openHandshake struct {
	syn, synAck       sighting
	early, syns, acks uint32 // repeats: of the SYN before the SYN and ACK; of the SYN; of the latter
}

// sighting is a packet that was seen.
type sighting struct {
	set   bool
	at    int64
	owner flow.Hook
	seq   uint32
}

type toldHandshake struct {
	ends
	start int64
	flow.Handshake
}

// handshakeFor is how long an ACK is waited for.
const handshakeFor = int64(63 * time.Second)

func newHandshakes(table int) *handshakes {
	return &handshakes{table: table, open: map[ends]*openHandshake{}}
}

func (h *handshakes) see(s *segment) {
	payload, ok := tcpPayload(s.transport)
	if !ok {
		return
	}
	seq, ack := binary.BigEndian.Uint32(s.transport[4:]), binary.BigEndian.Uint32(s.transport[8:])
	now := sighting{set: true, at: s.at, owner: s.hook, seq: seq}
	there, back := ends{s.zone, s.src, s.dst}, ends{s.zone, s.dst, s.src}
	switch flags := s.transport[13] & (tcpSYN | tcpACK | tcpFIN | tcpRST); flags {
	case tcpSYN:
		h.seeSYN(there, now)
	case tcpSYN | tcpACK:
		h.seeSYNACK(back, now, ack)
	case tcpACK, tcpACK | tcpFIN:
		h.seeACK(there, now, ack, len(payload) > 0)
	}
}

func (h *handshakes) seeSYN(e ends, now sighting) {
	old := h.open[e]
	switch {
	case old == nil && len(h.open) == h.table:
	case old == nil || old.syn.seq != now.seq:
		h.open[e] = &openHandshake{syn: now}
	case old.syn.owner == now.owner:
		old.syns++
		if !old.synAck.set {
			old.early++
		}
	}
}

func (h *handshakes) seeSYNACK(e ends, now sighting, ack uint32) {
	s := h.open[e]
	switch {
	case s == nil || ack != s.syn.seq+1:
	case !s.synAck.set:
		s.synAck = now
	case s.synAck.seq == now.seq && s.synAck.owner == now.owner:
		s.acks++
	}
}

func (h *handshakes) seeACK(e ends, now sighting, ack uint32, data bool) {
	s := h.open[e]
	if s == nil || !s.synAck.set || ack != s.synAck.seq+1 || now.seq != s.syn.seq+1 {
		return
	}
	var client *int64
	if !data && s.acks == 0 {
		ns := now.at - s.synAck.at
		client = &ns
	}
	h.tell(e, s, client)
	delete(h.open, e)
}

func (h *handshakes) tell(e ends, s *openHandshake, client *int64) {
	t := toldHandshake{ends: e, start: s.syn.at}
	t.Client, t.SYNRepeats, t.SYNACKRepeats = client, s.syns, s.acks
	if s.early == 0 {
		ns := s.synAck.at - s.syn.at
		t.Server = &ns
	}
	h.told = append(h.told, t)
}

// sweep gives up what is open for too long, or all.
func (h *handshakes) sweep(now int64, all bool) {
	for e, s := range h.open {
		if !all && now-s.syn.at <= handshakeFor {
			continue
		}
		delete(h.open, e)
		if s.synAck.set {
			h.tell(e, s, nil)
		}
	}
}

// addLatency gives flows of clients what the features tell of them. A handshake belongs to the flow that
// began with its SYN, a transaction to the one that has its query.
func (m *Model) addLatency(flows []Flow) {
	var told []toldHandshake
	if m.handshakes != nil {
		told = slices.Clone(m.handshakes.told)
	}
	for i := range flows {
		f := &flows[i]
		if f.Cites != 0 {
			continue
		}
		e := ends{f.Zone, endpoint{f.Src, f.SrcPort}, endpoint{f.Dst, f.DstPort}}
		at := slices.IndexFunc(told, func(t toldHandshake) bool {
			return t.ends == e && t.start == f.Start && f.Protocol == protoTCP
		})
		if at >= 0 {
			handshake := told[at].Handshake
			f.Handshake = &handshake
			told = slices.Delete(told, at, at+1)
		}
		if m.dns != nil {
			f.Lookups = m.dns.sums(e, f)
		}
	}
}

// sums adds up the transactions of a flow; nil if there are none.
func (d *dns) sums(e ends, f *Flow) *flow.Lookups {
	var l flow.Lookups
	var sum int64
	for _, r := range d.told {
		of := ends{r.Zone, endpoint{r.Client, r.ClientPort}, endpoint{r.Server, r.ServerPort}}
		if of != e || r.Protocol != f.Protocol || r.Start < f.Start || r.Start > f.End {
			continue
		}
		switch r.Outcome {
		case flow.DNSUnanswered:
			l.Unanswered++
		case flow.DNSAnswered:
			l.Answered++
			sum += *r.Latency
			l.Max, l.Mean = max(l.Max, *r.Latency), sum/int64(l.Answered)
			l.Rcode = r.Rcode
			if r.Rcode != flow.Rcode(0) {
				l.Failed++
			}
		}
	}
	if l == (flow.Lookups{}) {
		return nil
	}
	return &l
}
