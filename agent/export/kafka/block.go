package kafka

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
)

// A block holds messages one behind the other: a byte that says how long the key is, the key, the
// length of the value in four bytes, the value.

// keySize is the length of a key.
const keySize = 32

// appendKey appends a key for what is about two addresses: both, the lower one first, so that either
// direction of a connection has the same. It is the key that the NetObserv agent gives. There is none
// for a report without addresses.
func appendKey(b []byte, r flow.Report) []byte {
	var one, other netip.Addr
	switch {
	case r.Record != nil:
		one, other = r.Record.Src, r.Record.Dst
	case r.Drop != nil:
		one, other = r.Drop.Src, r.Drop.Dst
	case r.DNS != nil:
		one, other = r.DNS.Client, r.DNS.Server
	}
	if !one.IsValid() {
		return append(b, 0)
	}
	low, high := one.As16(), other.As16()
	if string(low[:]) > string(high[:]) {
		low, high = high, low
	}
	b = append(b, keySize)
	return append(append(b, low[:]...), high[:]...)
}

// beginValue leaves room for the value's length; endValue is given where.
func beginValue(b []byte) (_ []byte, at int) {
	return append(b, 0, 0, 0, 0), len(b)
}

func endValue(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

var errDamaged = errors.New("a block of messages is damaged")

// cut takes the first message off a block.
func cut(b []byte) (key, value, rest []byte, err error) {
	n := 1 + int(b[0])
	if len(b) < n+4 {
		return nil, nil, nil, errDamaged
	}
	if n > 1 {
		key = b[1:n]
	}
	size := uint64(binary.BigEndian.Uint32(b[n:]))
	b = b[n+4:]
	if uint64(len(b)) < size {
		return nil, nil, nil, errDamaged
	}
	return key, b[:size], b[size:], nil
}
