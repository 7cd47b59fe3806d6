package traffic

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Chunk types of SCTP (RFC 9260, section 3.2) that have something behind their header.
const (
	chunkData       = 0
	chunkInit       = 1
	chunkInitAck    = 2
	chunkSack       = 3
	chunkShutdown   = 7
	chunkCookieEcho = 10
)

// sctp is the header alone; its chunks are layers of their own.
type sctp struct {
	opaque
	src, dst uint16
	tag      uint32
	sum      opt[uint32]
}

func (f *filler) sctp(v values) *sctp {
	return &sctp{src: number(v, "src", f.srcPort), dst: number(v, "dst", f.dstPort),
		tag: number(v, "tag", uint32(0)), sum: given[uint32](v, "checksum")}
}

func (h *sctp) protocol() uint8 { return uint8(layers.IPProtocolSCTP) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (h *sctp) prepend(b gopacket.SerializeBuffer, _ place) error {
	head := binary.BigEndian.AppendUint16(nil, h.src)
	head = binary.BigEndian.AppendUint16(head, h.dst)
	head = binary.BigEndian.AppendUint32(head, h.tag)
	if err := prependBytes(b, append(head, 0, 0, 0, 0)); err != nil {
		return err
	}
	p := b.Bytes()
	if h.sum.set {
		binary.BigEndian.PutUint32(p[8:], h.sum.value)
		return nil
	}
	// The one number that goes over the wire from the low byte up (RFC 9260, appendix A).
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, castagnoli))
	return nil
}

// sctpChunk is a chunk of SCTP. A payload behind it belongs to it.
type sctpChunk struct {
	opaque
	kind, flags uint8
	body        []byte // everything behind the first four bytes
	length      opt[uint16]
}

// newChunk's default content is the shortest that the type may have.
func newChunk(v values) (*sctpChunk, error) {
	h := &sctpChunk{kind: number(v, "type", uint8(chunkData)), length: given[uint16](v, "length")}
	switch h.kind {
	case chunkData: // TSN, stream, number in it, protocol; one piece is the whole message
		h.flags, h.body = 3, make([]byte, 12)
	case chunkInit, chunkInitAck: // tag, window, streams out and in, initial TSN
		h.body = binary.BigEndian.AppendUint32(nil, number(v, "tag", uint32(1)))
		h.body = append(h.body, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 0)
	case chunkSack: // TSN, window, no gaps, no duplicates
		h.body = append(make([]byte, 4), 0, 0, 0xff, 0xff, 0, 0, 0, 0)
	case chunkShutdown, chunkCookieEcho: // TSN; a cookie
		h.body = make([]byte, 4)
	}
	if v.has("tag") && h.kind != chunkInit && h.kind != chunkInitAck {
		return nil, errors.New("chunk: only init and init-ack have a tag")
	}
	h.flags, h.body = number(v, "flags", h.flags), get(v, "data", h.body)
	return h, nil
}

func (h *sctpChunk) prepend(b gopacket.SerializeBuffer, at place) error {
	length := 4 + len(h.body)
	if p, ok := at.next.(*payload); ok {
		length += len(p.data)
	}
	head := []byte{h.kind, h.flags, 0, 0}
	binary.BigEndian.PutUint16(head[2:], h.length.or(uint16(length)))
	return prependBytes(b, padded(append(head, h.body...), 4))
}
