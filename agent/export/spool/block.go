package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Count is a number of records, and of the bytes that they are encoded in.
type Count struct {
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
}

// Add adds another count.
func (c *Count) Add(d Count) { c.Records, c.Bytes = c.Records+d.Records, c.Bytes+d.Bytes }

// Minus is the difference of two counts.
func (c Count) Minus(d Count) Count { return Count{c.Records - d.Records, c.Bytes - d.Bytes} }

// MaxBlock is the largest payload of a block.
const MaxBlock = 16 << 20

const (
	blockMagic  = "wblk"
	blockHeader = 36
)

// errDamaged tells that bytes are not what was written.
var errDamaged = errors.New("damaged")

// block is the header of a block.
type block struct {
	length, records uint32
	crc             uint32
	before          Count // of all blocks before it
}

func (b block) count() Count { return Count{uint64(b.records), uint64(b.length)} }

func (b block) end() Count {
	sum := b.before
	sum.Add(b.count())
	return sum
}

// put writes the header to the first blockHeader bytes.
func (b block) put(to []byte) {
	copy(to, blockMagic)
	binary.LittleEndian.PutUint32(to[4:], b.length)
	binary.LittleEndian.PutUint32(to[8:], b.records)
	binary.LittleEndian.PutUint32(to[12:], b.crc)
	putCount(to[16:], b.before)
	seal(to[:blockHeader])
}

// parseBlock reads a header; what is behind it is not looked at.
func parseBlock(from []byte) (block, error) {
	if len(from) < blockHeader || string(from[:4]) != blockMagic || !sealed(from[:blockHeader]) {
		return block{}, errDamaged
	}
	b := block{
		length:  binary.LittleEndian.Uint32(from[4:]),
		records: binary.LittleEndian.Uint32(from[8:]),
		crc:     binary.LittleEndian.Uint32(from[12:]),
		before:  getCount(from[16:]),
	}
	if b.length > MaxBlock || b.records == 0 {
		return block{}, errDamaged
	}
	return b, nil
}

func putCount(to []byte, c Count) {
	binary.LittleEndian.PutUint64(to, c.Records)
	binary.LittleEndian.PutUint64(to[8:], c.Bytes)
}

func getCount(from []byte) Count {
	return Count{binary.LittleEndian.Uint64(from), binary.LittleEndian.Uint64(from[8:])}
}

// seal writes the CRC of all bytes but the last four into these.
func seal(b []byte) {
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], castagnoli))
}

// sealed tells whether seal has been at it.
func sealed(b []byte) bool {
	n := len(b) - 4
	return binary.LittleEndian.Uint32(b[n:]) == crc32.Checksum(b[:n], castagnoli)
}
