package model

import "github.com/weirnet/weir/agent/conntrack"

// first sets the state of a connection by its first packet, which travels leg d.
func (c *connection) first(d int, p *packet) {
	c.initiator = d
	if p.protocol != protoTCP {
		c.state = conntrack.StateUnreplied
		if p.reply {
			c.initiator = 1 - d // it answers a request that was not seen
		}
		return
	}
	l := &c.legs[d]
	l.rememberSYN(p)
	l.rememberFIN(p)
	l.acks = p.has(tcpACK)
	switch {
	case p.has(tcpRST):
		c.state, c.initiator = conntrack.StateReset, unknown
		return
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
	if p.protocol != protoTCP {
		if c.legs[1-d].total.Packets > 0 && !p.isError {
			c.state = conntrack.StateReplied
		}
		return
	}
	switch {
	case p.has(tcpRST):
		if c.state != conntrack.StateClosed {
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
	if p.has(tcpACK) {
		l.acks = true
	}
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
	l.rememberFIN(p)
	if p.has(tcpACK) && o.fin && int32(p.ack-o.finEnd) >= 0 {
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

func (l *leg) rememberFIN(p *packet) {
	if !p.has(tcpFIN) {
		return
	}
	l.fin, l.finEnd = true, p.seq+p.payload+1
	if p.has(tcpSYN) {
		l.finEnd++
	}
}

// has tells whether a TCP flag is set.
func (p *packet) has(flag uint8) bool { return p.flags&flag != 0 }
