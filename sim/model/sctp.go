package model

import "encoding/binary"

// The first two chunk types of SCTP (RFC 9260, section 3.2), which carry an initiate tag.
const (
	chunkInit    = 1
	chunkInitAck = 2
)

const (
	sctpHeader  = 12 // without chunks
	chunkHeader = 4
	initChunk   = 20 // at least
)

// chunkFlags are the TCP flags that a packet's first chunk stands for; none when it is not here.
var chunkFlags = map[uint8]uint8{
	chunkInit:    tcpSYN,
	chunkInitAck: tcpSYN | tcpACK,
	6:            tcpRST,          // ABORT
	7:            tcpFIN,          // SHUTDOWN
	8:            tcpFIN | tcpACK, // SHUTDOWN ACK
	10:           tcpACK,          // COOKIE ECHO
	11:           tcpACK,          // COOKIE ACK
	14:           tcpACK,          // SHUTDOWN COMPLETE
}

// sctp reads the header and the first chunk. GSO copies the header alone into each segment:
// chunks are not repeated.
func (p *packet) sctp(b []byte) Reason {
	if len(b) < sctpHeader+chunkHeader {
		return ReasonSCTPHeader
	}
	chunk := b[sctpHeader:]
	if kind := chunk[0]; kind == chunkInit || kind == chunkInitAck {
		if len(chunk) < initChunk {
			return ReasonSCTPHeader
		}
		p.seq = binary.BigEndian.Uint32(chunk[chunkHeader:])
	}
	p.ports(b)
	p.flags = chunkFlags[chunk[0]]
	p.headers += sctpHeader
	return ""
}
