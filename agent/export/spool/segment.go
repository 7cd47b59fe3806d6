package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	segmentMagic  = "weirspl1"
	segmentHeader = 8 + maxFormat + 8 + 4
	segmentSuffix = ".seg"
	maxFormat     = 40
)

// segment is a file of blocks. Of its bytes, those up to size are known to be written.
type segment struct {
	number uint64
	size   int64
}

func (s segment) path(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", s.number, segmentSuffix))
}

func putSegment(to []byte, number uint64, format string) {
	clear(to[:segmentHeader])
	copy(to, segmentMagic)
	copy(to[8:8+maxFormat], format)
	binary.LittleEndian.PutUint64(to[8+maxFormat:], number)
	seal(to[:segmentHeader])
}

// parseSegment reads the header of a segment: how its records are encoded.
func parseSegment(from []byte) (format string, err error) {
	if len(from) < segmentHeader || string(from[:8]) != segmentMagic || !sealed(from[:segmentHeader]) {
		return "", errDamaged
	}
	return string(bytes.TrimRight(from[8:8+maxFormat], "\x00")), nil
}

// listSegments lists the segments of a folder, oldest first. Other files are left alone.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok || len(name) != 16 || !e.Type().IsRegular() {
			continue
		}
		number, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		all = append(all, segment{number, info.Size()})
	}
	slices.SortFunc(all, func(a, b segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return all, nil
}

// scanner finds the blocks of a segment, also behind bytes that are damaged.
type scanner struct {
	from io.ReaderAt
	end  int64 // of the bytes that may be looked at
	buf  []byte
}

// next finds the first sound block at or after an offset, and reads its payload into the buffer. ok is
// false when there is none.
func (s *scanner) next(offset int64) (b block, at int64, payload []byte, ok bool, err error) {
	for at = offset; at+blockHeader <= s.end; {
		b, payload, err = s.block(at)
		if err == nil {
			return b, at, payload, true, nil
		}
		if err != errDamaged {
			return block{}, 0, nil, false, err
		}
		if at, err = s.magic(at + 1); err != nil {
			return block{}, 0, nil, false, err
		}
	}
	return block{}, 0, nil, false, nil
}

// block reads the block at an offset. errDamaged: there is none.
func (s *scanner) block(at int64) (block, []byte, error) {
	s.buf = slices.Grow(s.buf[:0], blockHeader)[:blockHeader]
	if err := s.read(s.buf, at); err != nil {
		return block{}, nil, err
	}
	b, err := parseBlock(s.buf)
	if err != nil {
		return block{}, nil, err
	}
	if at+blockHeader+int64(b.length) > s.end {
		return block{}, nil, errDamaged
	}
	s.buf = slices.Grow(s.buf[:0], int(b.length))[:b.length]
	if err := s.read(s.buf, at+blockHeader); err != nil {
		return block{}, nil, err
	}
	if crc32.Checksum(s.buf, castagnoli) != b.crc {
		return block{}, nil, errDamaged
	}
	return b, s.buf, nil
}

// magic finds where the next block may begin, from an offset on; the end, when nowhere.
func (s *scanner) magic(from int64) (int64, error) {
	const window = 64 << 10
	for from < s.end {
		n := min(window, s.end-from)
		s.buf = slices.Grow(s.buf[:0], int(n))[:n]
		if err := s.read(s.buf, from); err != nil {
			return 0, err
		}
		if i := bytes.Index(s.buf, []byte(blockMagic)); i >= 0 {
			return from + int64(i), nil
		}
		if n < window {
			break
		}
		from += n - int64(len(blockMagic)-1)
	}
	return s.end, nil
}

// read reads exactly; a file that has become shorter is damaged.
func (s *scanner) read(to []byte, at int64) error {
	_, err := s.from.ReadAt(to, at)
	if err == io.EOF {
		return errDamaged
	}
	return err
}
