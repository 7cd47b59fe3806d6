package ipfix

import (
	"encoding/binary"
	"time"
)

const (
	version       = 10
	messageHeader = 16
	// maxMessage is what a message's length can tell (RFC 7011, section 3.1).
	maxMessage = 65535
)

// message is one in the making.
type message struct {
	buf     []byte
	limit   int // bytes
	set     int // where its last set is; 0: there is none
	records uint32
}

func (m *message) reset() {
	m.buf = append(m.buf[:0], make([]byte, messageHeader)...)
	m.set, m.records = 0, 0
}

func (m *message) empty() bool { return m.set == 0 }

// add adds a set, or, to a set of the same kind, what is in it. Where there is no room it adds nothing,
// and says so.
func (m *message) add(set []byte) bool {
	id := binary.BigEndian.Uint16(set)
	joins := m.set != 0 && binary.BigEndian.Uint16(m.buf[m.set:]) == id
	if joins {
		set = set[setHeader:]
	}
	if len(m.buf)+len(set) > m.limit {
		return false
	}
	if !joins {
		m.set = len(m.buf)
	}
	m.buf = append(m.buf, set...)
	endSet(m.buf, m.set)
	if id >= firstTemplate {
		m.records++
	}
	return true
}

// finish writes the header: sequence is how many data records were sent before.
func (m *message) finish(now time.Time, sequence, domain uint32) []byte {
	binary.BigEndian.PutUint16(m.buf, version)
	binary.BigEndian.PutUint16(m.buf[2:], uint16(len(m.buf)))
	binary.BigEndian.PutUint32(m.buf[4:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(m.buf[8:], sequence)
	binary.BigEndian.PutUint32(m.buf[12:], domain)
	return m.buf
}
