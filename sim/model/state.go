package model

import "github.com/weirnet/weir/agent/conntrack"

// hasStates tells whether the protocol's connections go through the states of TCP.
func (p *packet) hasStates() bool { return p.protocol == protoTCP || p.protocol == protoSCTP }

// midStream tells whether a packet would pick a connection up after its beginning.
func (p *packet) midStream() bool { return p.hasStates() && !p.has(tcpSYN) }

// first sets the state of a connection by its first packet, which travels leg d.
func (c *connection) first(d int, p *packet) {
	c.initiator = d
	if !p.hasStates() {
		c.state = conntrack.StateUnreplied
		if p.reply {
			c.initiator = 1 - d // it answers a request that was not seen
		}
		return
	}
	if p.has(tcpRST) {
		c.state, c.initiator = conntrack.StateReset, unknown
		return
	}
	l := &c.legs[d]
	l.rememberSYN(p)
	l.number(p)
	l.fin = p.has(tcpFIN)
	switch {
	case p.has(tcpSYN) && !p.has(tcpACK):
		c.state = conntrack.StateSynSent
		return
	case p.has(tcpSYN):
		c.state = conntrack.StateSynReceived
		c.initiator = 1 - d // it answers a SYN that was not seen
		c.beganSynAck = true
		return
	}
	c.initiator = unknown
	c.state = conntrack.StateEstablished
	if p.has(tcpFIN) {
		c.state = conntrack.StateClosing
	}
}

// restarts tells whether a packet on leg d of a live connection opens a new one on its tuple
// (rule 2 of bpf/README.md section 5).
func (c *connection) restarts(d int, p *packet) bool {
	if p.has(tcpRST) || !p.has(tcpSYN) || p.has(tcpACK) {
		return false
	}
	l := &c.legs[d]
	if l.syn {
		return l.isn != p.seq
	}
	return c.state != conntrack.StateSynSent
}

// advance moves the state by a later packet on leg d, which does not open a new connection.
func (c *connection) advance(d int, p *packet) {
	if !p.hasStates() {
		if c.legs[1-d].total.Packets > 0 && !p.isError {
			c.state = conntrack.StateReplied
		}
		return
	}
	inWindow := c.inWindow(d, p)
	c.legs[d].number(p)
	switch {
	case p.has(tcpRST):
		if c.state != conntrack.StateClosed && inWindow {
			c.state = conntrack.StateReset
		}
	case p.has(tcpSYN) && !p.has(tcpACK):
		if l := &c.legs[d]; !l.syn { // else a retransmission
			l.rememberSYN(p)
			c.state = conntrack.StateSynReceived
		}
	default:
		c.handshake(d, p)
		c.closing(d, p)
	}
}

// handshake is the first half of rule 3: SYN with ACK, and both sides' ACK.
func (c *connection) handshake(d int, p *packet) {
	l, o := &c.legs[d], &c.legs[1-d]
	if p.has(tcpSYN) && !l.syn { // else it is sent again, or by the side that sent the SYN
		l.rememberSYN(p)
		if c.state == conntrack.StateSynSent {
			c.state = conntrack.StateSynReceived
		}
	}
	if c.state == conntrack.StateSynReceived && l.acks && o.acks &&
		(l.syn && o.syn || c.beganSynAck) {
		c.state = conntrack.StateEstablished
	}
}

// closing is the second half of rule 3: FINs and their acknowledgements.
func (c *connection) closing(d int, p *packet) {
	l, o := &c.legs[d], &c.legs[1-d]
	if p.has(tcpFIN) {
		l.fin = true
	}
	if p.has(tcpACK) && o.fin && (p.protocol != protoTCP || o.next.atOrBefore(p.ack)) {
		o.finAcked = true
	}
	if c.state == conntrack.StateReset || c.state == conntrack.StateClosed {
		return
	}
	switch {
	case l.fin && o.fin && l.finAcked && o.finAcked:
		c.state = conntrack.StateClosed
	case l.fin && o.fin:
		c.state = conntrack.StateLastAck
	case l.fin || o.fin:
		c.state = conntrack.StateClosing
	}
}

func (l *leg) rememberSYN(p *packet) {
	if p.has(tcpSYN) {
		l.syn, l.isn = true, p.seq
	}
}

// number remembers a TCP packet's numbers and, for SCTP as well, that it has an ACK. After the
// leg's FIN next stays as it is.
func (l *leg) number(p *packet) {
	if p.has(tcpRST) || p.frag.later {
		return
	}
	l.acks = l.acks || p.has(tcpACK)
	if p.protocol != protoTCP {
		return
	}
	if p.has(tcpACK) {
		l.ack.raise(p.ack)
	}
	if l.fin {
		return
	}
	next := p.seq + p.payload
	for _, flag := range []uint8{tcpSYN, tcpFIN} {
		if p.has(flag) {
			next++
		}
	}
	l.next.raise(next)
}

// inWindow tells whether the number of a RST on leg d is one that its sender could mean. Those of
// SCTP have no number.
func (c *connection) inWindow(d int, p *packet) bool {
	l, o := &c.legs[d], &c.legs[1-d]
	return p.protocol != protoTCP || o.ack.atOrBefore(p.seq) && l.next.atOrAfter(p.seq)
}

// serial is the highest of some numbers, which are compared modulo 2^32: the higher of two is the
// one less than 2^31 ahead.
type serial struct {
	number uint32
	set    bool
}

func (s *serial) raise(n uint32) {
	if !s.set || int32(n-s.number) > 0 {
		*s = serial{n, true}
	}
}

// atOrBefore tells whether s is not beyond n; true if there is no number.
func (s serial) atOrBefore(n uint32) bool { return !s.set || int32(n-s.number) >= 0 }

// atOrAfter tells whether s is not below n; true if there is no number.
func (s serial) atOrAfter(n uint32) bool { return !s.set || int32(s.number-n) >= 0 }

// has tells whether a TCP flag is set.
func (p *packet) has(flag uint8) bool { return p.flags&flag != 0 }
