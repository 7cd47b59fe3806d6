package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors of Append. The block is not in the spool, and counted as refused.
var (
	ErrFull     = errors.New("the spool is full")
	ErrDiskFull = errors.New("no room on the disk")
)

// ErrFormat tells that a spool holds records that were encoded in another way.
var ErrFormat = errors.New("the spool holds records in another format")

// ErrEmpty is what Peek returns when there is nothing to read.
var ErrEmpty = errors.New("the spool is empty")

// MinSize is the smallest Options.Size.
const MinSize = 1 << 20

// segments is how many a spool has when it is full: what is read is given back in so many parts.
const segments = 16

// Options of a spool.
type Options struct {
	Dir    string // made when it does not exist; no two spools may share one
	Size   int64  // bytes on the disk, at least MinSize; the state file comes on top
	Format string // how records are encoded, up to 40 bytes
}

// Spool is an open spool. Its methods are safe for concurrent use, but only one goroutine may call
// Peek, Done and Discard.
type Spool struct {
	opts      Options
	mu        sync.Mutex
	lock      *os.File
	stateFile *os.File
	state     state
	written   Count // by all blocks there ever were

	segments []segment // oldest first
	tail     *os.File  // the last segment, open for writing; nil: the next block begins a new one
	head     *os.File  // the first segment, open for reading, or nil
	reader   scanner
	peeked   *block
	buf      []byte
}

// Ledger is what became of the records that were put into a spool since it was made, also before a
// restart: Written = Delivered + Discarded + Damaged + Held.
type Ledger struct {
	Written, Delivered, Discarded, Damaged, Held Count
	// Full, DiskFull and Failed were refused, with ErrFull, ErrDiskFull, and other errors.
	Full, DiskFull, Failed Count
}

// Refused is what was never taken.
func (l Ledger) Refused() Count {
	sum := l.Full
	sum.Add(l.DiskFull)
	sum.Add(l.Failed)
	return sum
}

// Open opens the spool of a folder, or makes one. What a process that was killed has written in
// part is cut off: Append has not returned for it.
func Open(opts Options) (*Spool, error) {
	s := &Spool{opts: opts}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open the spool %s: %w", opts.Dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Spool) open() error {
	if s.opts.Size < MinSize {
		return fmt.Errorf("a size of %d bytes; want at least %d", s.opts.Size, MinSize)
	}
	if len(s.opts.Format) > maxFormat {
		return fmt.Errorf("the format's name is longer than %d bytes", maxFormat)
	}
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return err
	}
	if err := s.claim(); err != nil {
		return err
	}
	f, st, known, err := openState(filepath.Join(s.opts.Dir, "state"))
	if err != nil {
		return err
	}
	s.stateFile, s.state = f, st
	if s.segments, err = listSegments(s.opts.Dir); err != nil {
		return err
	}
	for len(s.segments) > 0 && known && s.segments[0].number < st.at.segment {
		if err := s.dropFirst(); err != nil { // it was read
			return err
		}
	}
	return s.recover(known)
}

// claim makes sure that no other process has the spool.
func (s *Spool) claim() error {
	f, err := os.Open(s.opts.Dir)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("lock it (does another agent use it?): %w", err)
	}
	s.lock = f
	return nil
}

// recover finds out what is in the segments, and where the last one ends.
func (s *Spool) recover(known bool) error {
	format := s.opts.Format
	s.written = s.state.gone()
	for i := range s.segments {
		seg := &s.segments[i]
		first, last, found, err := s.examine(seg, &format)
		if err != nil {
			return err
		}
		if !known && found { // how far it was read is not known: it is read again
			known, s.state.read = true, first.before
			s.state.at = place{seg.number, segmentHeader}
		}
		if found && last.end().Records > s.written.Records {
			s.written = last.end()
		}
	}
	if s.held() == (Count{}) {
		return s.reset()
	}
	if format != s.opts.Format {
		return fmt.Errorf("%w: %q, not %q; choose another folder, or let an agent empty it that "+
			"is configured as it was", ErrFormat, format, s.opts.Format)
	}
	return nil
}

// examine finds the first and the last block of a segment, and its end: what is behind the last
// block was being written when the writer was killed.
func (s *Spool) examine(seg *segment, format *string) (first, last block, found bool, err error) {
	f, err := os.Open(seg.path(s.opts.Dir))
	if err != nil {
		return first, last, false, err
	}
	defer f.Close()
	header := make([]byte, segmentHeader)
	if _, err := f.ReadAt(header, 0); err != nil && err != io.EOF {
		return first, last, false, err
	}
	if other, err := parseSegment(header); err == nil && other != s.opts.Format {
		*format = other
	}
	sc := scanner{from: f, end: seg.size}
	end := int64(segmentHeader)
	for {
		b, at, _, ok, err := sc.next(end)
		if err != nil {
			return first, last, false, err
		}
		if !ok {
			break
		}
		if !found {
			first = b
		}
		last, found, end = b, true, at+blockHeader+int64(b.length)
	}
	seg.size = end
	return first, last, found, nil
}

func (s *Spool) held() Count { return s.written.Minus(s.state.gone()) }

// Ledger tells what became of all records.
func (s *Spool) Ledger() Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.state
	return Ledger{Written: s.written, Delivered: st.read, Discarded: st.discarded, Damaged: st.damaged,
		Held: s.held(), Full: st.full, DiskFull: st.diskFull, Failed: st.failed}
}

// Append puts a block of records at the end. When it returns, the block outlives the process.
// ErrFull, ErrDiskFull and other errors tell that it is refused.
func (s *Spool) Append(payload []byte, records int) error {
	if records <= 0 || len(payload) > MaxBlock {
		return fmt.Errorf("append a block of %d records and %d bytes: want 1 record or more, and "+
			"at most %d bytes", records, len(payload), MaxBlock)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := block{length: uint32(len(payload)), records: uint32(records),
		crc: crc32.Checksum(payload, castagnoli), before: s.written}
	err := s.append(b, payload)
	if err == nil {
		s.written.Add(b.count())
		return nil
	}
	switch {
	case errors.Is(err, ErrFull):
		s.state.full.Add(b.count())
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		s.state.diskFull.Add(b.count())
		err = ErrDiskFull
	default:
		s.state.failed.Add(b.count())
	}
	return errors.Join(err, s.save())
}

func (s *Spool) append(b block, payload []byte) error {
	size := blockHeader + int64(len(payload))
	if err := s.room(size); err != nil {
		return err
	}
	if err := s.openTail(); err != nil {
		return err
	}
	seg := &s.segments[len(s.segments)-1]
	s.buf = slices.Grow(s.buf[:0], int(size))[:blockHeader]
	b.put(s.buf)
	s.buf = append(s.buf, payload...)
	if _, err := s.tail.WriteAt(s.buf, seg.size); err != nil {
		if terr := s.tail.Truncate(seg.size); terr != nil {
			return errors.Join(err, terr, s.closeTail())
		}
		return err
	}
	seg.size += size
	return nil
}

// room makes sure that so many bytes more may be used.
func (s *Spool) room(size int64) error {
	used := s.used()
	if used+segmentHeader+size <= s.opts.Size {
		return nil
	}
	if s.held() != (Count{}) || used == 0 {
		return ErrFull
	}
	if err := s.reset(); err != nil { // all of it was read
		return err
	}
	return s.room(size)
}

// used is how many bytes the segments take.
func (s *Spool) used() (sum int64) {
	for _, seg := range s.segments {
		sum += seg.size
	}
	return sum
}

// openTail makes sure that there is a segment to write to.
func (s *Spool) openTail() error {
	if n := len(s.segments); s.tail != nil && s.segments[n-1].size < s.opts.Size/segments {
		return nil
	}
	if err := s.closeTail(); err != nil {
		return err
	}
	seg := segment{number: s.state.at.segment, size: segmentHeader}
	if n := len(s.segments); n > 0 {
		seg.number = s.segments[n-1].number + 1
	}
	f, err := os.OpenFile(seg.path(s.opts.Dir), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	header := make([]byte, segmentHeader)
	putSegment(header, seg.number, s.opts.Format)
	if _, err := f.WriteAt(header, 0); err != nil {
		return errors.Join(err, f.Close(), os.Remove(seg.path(s.opts.Dir)))
	}
	s.tail, s.segments = f, append(s.segments, seg)
	return nil
}

func (s *Spool) closeTail() error {
	f := s.tail
	if s.tail = nil; f == nil {
		return nil
	}
	return f.Close()
}

// Peek returns the first block, which stays in the spool until Done or Discard. The payload is valid
// until the next Peek. Blocks that are damaged are counted and left out. ErrEmpty: there is none.
func (s *Spool) Peek() (payload []byte, records int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held() != (Count{}) {
		payload, err = s.peek()
		if err != nil {
			return nil, 0, fmt.Errorf("read the spool: %w", err)
		}
		if payload != nil {
			return payload, int(s.peeked.records), nil
		}
	}
	return nil, 0, ErrEmpty
}

// peek looks for the next block in the first segment. No payload: it is not there.
func (s *Spool) peek() ([]byte, error) {
	if len(s.segments) == 0 {
		return nil, s.lost(s.written)
	}
	if err := s.openHead(); err != nil {
		return nil, err
	}
	s.reader.end = s.segments[0].size
	b, at, payload, ok, err := s.reader.next(s.state.at.offset)
	switch {
	case err != nil:
		return nil, err
	case !ok && len(s.segments) == 1:
		return nil, errors.Join(s.lost(s.written), s.reset())
	case !ok:
		return nil, s.nextSegment()
	}
	s.state.at.offset = at
	if b.before != s.state.gone() {
		return nil, s.mend(b)
	}
	s.peeked = &b
	return payload, nil
}

// mend deals with a block that is not the one that is expected: those before it are lost.
func (s *Spool) mend(b block) error {
	if b.before.Records > s.state.gone().Records {
		return s.lost(b.before)
	}
	s.state.at.offset += blockHeader + int64(b.length) // it was counted before
	return s.save()
}

// lost counts everything up to a block as damaged.
func (s *Spool) lost(until Count) error {
	s.state.damaged.Add(until.Minus(s.state.gone()))
	return s.save()
}

func (s *Spool) openHead() error {
	first := s.segments[0]
	if s.state.at.segment != first.number {
		s.state.at = place{first.number, segmentHeader}
		s.closeHead()
	}
	if s.head != nil {
		return nil
	}
	f, err := os.Open(first.path(s.opts.Dir))
	if err != nil {
		return err
	}
	s.head, s.reader.from = f, f
	s.state.at.offset = max(s.state.at.offset, segmentHeader)
	return nil
}

func (s *Spool) closeHead() {
	if s.head != nil {
		_ = s.head.Close() // it was only read
		s.head, s.reader.from = nil, nil
	}
}

// nextSegment leaves the first segment, which was read.
func (s *Spool) nextSegment() error {
	s.state.at = place{s.segments[1].number, segmentHeader}
	if err := s.save(); err != nil {
		return err
	}
	return s.dropFirst()
}

func (s *Spool) dropFirst() error {
	s.closeHead()
	first := s.segments[0]
	if err := os.Remove(first.path(s.opts.Dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.segments = slices.Delete(s.segments, 0, 1)
	return nil
}

// reset removes all segments; nothing in them is still to be read.
func (s *Spool) reset() error {
	if len(s.segments) == 0 {
		return nil
	}
	next := s.segments[len(s.segments)-1].number + 1
	s.state.at = place{next, segmentHeader}
	if err := errors.Join(s.save(), s.closeTail()); err != nil {
		return err
	}
	for len(s.segments) > 0 {
		if err := s.dropFirst(); err != nil {
			return err
		}
	}
	return nil
}

// Done takes the block that Peek has returned out of the spool: it is delivered.
func (s *Spool) Done() error { return s.take(&s.state.read) }

// Discard takes the block that Peek has returned out of the spool: it is given up.
func (s *Spool) Discard() error { return s.take(&s.state.discarded) }

func (s *Spool) take(as *Count) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peeked == nil {
		return errors.New("take a block out of the spool: none was read")
	}
	as.Add(s.peeked.count())
	s.state.at.offset += blockHeader + int64(s.peeked.length)
	s.peeked = nil
	if err := s.save(); err != nil {
		return err
	}
	if len(s.segments) > 1 && s.state.at.offset >= s.segments[0].size {
		return s.nextSegment()
	}
	return nil
}

func (s *Spool) save() error {
	s.buf = slices.Grow(s.buf[:0], stateSlot)
	if err := s.state.save(s.stateFile, s.buf[:stateSlot]); err != nil {
		return fmt.Errorf("save the spool's state: %w", err)
	}
	return nil
}

// Close lets go of the spool; what is in it stays there.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeHead()
	errs := []error{s.closeTail()}
	for _, f := range []*os.File{s.stateFile, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
